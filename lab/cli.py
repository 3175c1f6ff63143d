"""`telemed-lab`: the simulated network on a laptop.

Exit codes: 0 everything held · 1 something did not · 2 usage.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from lab.bench.command import bench
from lab.demo import DemoPlan, run_demo
from lab.faults.command import faults
from lab.faults.weather import WEATHERS, weather_named
from lab.picture import Recorder
from lab.processes import ScenarioFailed
from lab.story import Story
from shared.crypto.suites import DEFAULT_SUITE, SUITES, suite_by_name
from shared.errors import UserError

app = typer.Typer(no_args_is_help=True, help=__doc__, rich_markup_mode=None)


def _suites(incomplete: str) -> list[str]:
    return [suite.name for suite in SUITES.values() if suite.name.startswith(incomplete)]


def _weathers(incomplete: str) -> list[str]:
    return [name for name in WEATHERS if name.startswith(incomplete)]


@app.command()
def demo(
    patients: Annotated[int, typer.Option(min=2, max=200, help="How many patient processes.")] = 5,
    suite: Annotated[
        str, typer.Option(help="The cryptographic suite that all use.", autocompletion=_suites)
    ] = DEFAULT_SUITE.name,
    message: Annotated[
        str, typer.Option(help="The text to broadcast.")
    ] = "Please take your medication at noon.",
    weather: Annotated[
        str,
        typer.Option(help=f"The network between them: {', '.join(WEATHERS)}.", autocompletion=_weathers),
    ] = "fair",
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave doctor, console and patients running until Ctrl-C.")
    ] = False,
    picture: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Draw what it shows into SVG files there, instead of showing it."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on the last line.")] = False,
) -> None:
    """A doctor and N patients as local processes: every step of the protocol, shown and verified."""
    suite_by_name(suite)
    network = weather_named(weather)
    with tempfile.TemporaryDirectory(prefix="telemed-demo-") as directory:
        plan = DemoPlan(patients, suite, message, Path(directory), network, keep)
        recorder = None if picture is None else Recorder(f"make demo PATIENTS={patients}")
        story = Story(Console(stderr=as_json)) if recorder is None else recorder.story
        result = asyncio.run(run_demo(plan, story))
        story.verified(result.seconds)
    if recorder is not None and picture is not None:
        written = " and ".join(map(str, recorder.write(picture)))
        Console(stderr=as_json).print(f"{written}: what this run has shown.", highlight=False)
    if as_json:
        sys.stdout.write(msgspec.json.encode(result).decode() + "\n")


app.command()(faults)
app.command()(bench)


def main() -> int:
    """The program; returns its exit code."""
    try:
        app()
    except ScenarioFailed as error:
        sys.stderr.write(f"telemed-lab: {error}\n")
        return 1
    except UserError as error:
        sys.stderr.write(f"telemed-lab: {error}\n")
        return 2
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    return 0

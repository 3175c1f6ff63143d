"""`telemed-lab faults`: list the campaign's rows, run some or all of them, keep what came of a release run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from lab.faults import record
from lab.faults.campaign import ROWS, Overrides, describe, run_rows, select
from lab.faults.row import Size
from lab.processes import ScenarioFailed
from shared import logs


def _row_names(incomplete: str) -> list[str]:
    return [name for name in ("all", *(row.name for row in ROWS)) if name.startswith(incomplete)]


def faults(
    list_rows: Annotated[bool, typer.Option("--list", help="Show the rows and their sizes.")] = False,
    run: Annotated[
        list[str] | None,
        typer.Option(
            "--run", metavar="ROW", help="A row's name, or all; may be repeated.", autocompletion=_row_names
        ),
    ] = None,
    size: Annotated[Size, typer.Option(help="How much is tried.")] = Size.CI,
    count: Annotated[
        int | None, typer.Option("--count", "--kills", min=1, help="How often the fault is tried.")
    ] = None,
    patients: Annotated[int | None, typer.Option(min=1, help="How many patients take part.")] = None,
    messages: Annotated[int | None, typer.Option(min=1, help="How many messages are sent meanwhile.")] = None,
    seconds: Annotated[float | None, typer.Option(min=1, help="How long, for rows that run by time.")] = None,
    seed: Annotated[int, typer.Option(help="Makes what is drawn repeatable.")] = 1,
    keep: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write each result there, and the table of all.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a row, each on a line.")] = False,
) -> None:
    """The fault campaign: what the running system must survive, row by row.

    Exit code 1 if a row did not pass.
    """
    console = Console(stderr=as_json)
    if list_rows or not run:
        _list(console, as_json)
        return
    logs.configure("error", "console")  # devices inside this process would tell every cut
    overrides, failed = Overrides(count, patients, messages, seconds), []
    for result in run_rows(select(run), size, overrides, seed, console):
        if keep is not None:
            record.keep(keep, ROWS, record.Kept.now(result, size, overrides.options(size)))
        if as_json:
            sys.stdout.write(msgspec.json.encode(result).decode() + "\n")
            sys.stdout.flush()
        if not result.passed:
            failed.append(result.row)
    if failed:
        raise ScenarioFailed(f"These rows did not pass: {', '.join(failed)}.")


def _list(console: Console, as_json: bool) -> None:
    if not as_json:
        describe(ROWS, console)
        return
    for row in ROWS:
        line = {
            "row": row.name,
            "threat": row.threat,
            "title": row.title,
            "ci": row.ci,
            "release": row.release,
        }
        sys.stdout.write(msgspec.json.encode(line).decode() + "\n")

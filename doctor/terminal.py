"""What every command of `telemed-doctor` does alike: read the settings, call the doctor, print the answer.

Law: no command lives here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
import typer
from rich.console import Console
from rich.console import Group as Together
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from doctor.answers import GroupAnswer, PatientAnswer
from doctor.client import Client
from doctor.settings import DoctorSettings
from shared import config
from shared.errors import TelemedError
from shared.text import readable

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

STATE_COLOURS = {
    "established": "green",
    "delivered": "green",
    "connecting": "yellow",
    "sent": "yellow",
    "queued": "yellow",
    "revoked": "red",
    "expired": "red",
}

UNLIMITED = 10_000  # columns; wider than any row

CONSOLE = Console()
ERRORS = Console(stderr=True)


def busy(text: str) -> AbstractContextManager[object]:
    """Show, on a terminal, that something is under way whose end nobody can tell; it is gone when it is done."""
    return ERRORS.status(text) if ERRORS.is_terminal else nullcontext()


class Configured:
    """The settings that the options before the command have chosen."""

    path: Path | None = None

    @classmethod
    def settings(cls) -> DoctorSettings:
        """Raises ConfigError where a setting is wrong."""
        path = cls.path
        if path is None and (named := os.environ.get("TELEMED_DOCTOR_CONFIG")):
            path = Path(named)
        if path is None and Path("/etc/telemed/doctor.yaml").exists():
            path = Path("/etc/telemed/doctor.yaml")
        return config.load(DoctorSettings, path, os.environ, "TELEMED_DOCTOR")


@contextmanager
def calling() -> Iterator[Client]:
    """A client of the configured doctor."""
    with Client(Configured.settings().state_dir) as client:
        yield client


def _known(names: Callable[[Client], list[str]]) -> Callable[[str], list[str]]:
    def complete(incomplete: str) -> list[str]:
        """For the shell: what the running doctor knows. Where none answers nothing is offered; the command will say why."""
        try:
            with calling() as client:
                return [name for name in names(client) if name.startswith(incomplete)]
        except TelemedError:
            return []

    return complete


def _patients(client: Client) -> list[str]:
    return [each.patient for each in client.get("/v1/patients", list[PatientAnswer])]


def _groups(client: Client) -> list[str]:
    return [each.name for each in client.get("/v1/groups", list[GroupAnswer])]


Patient = Annotated[str, typer.Argument(autocompletion=_known(_patients))]
Group = Annotated[str, typer.Argument(autocompletion=_known(_groups))]


def part(name: str) -> str:
    """A name as one part of a path, whatever was typed."""
    return quote(name, safe="", errors="surrogateescape")


def show_answer(answer: Any, as_json: bool, show: Callable[[], None]) -> None:
    """Print JSON where it is wanted, else call `show`."""
    if as_json:
        sys.stdout.write(msgspec.json.encode(answer).decode() + "\n")
    else:
        show()


def show_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    """Print a table; a cell that is a state has its colour. A cell may be a patient's own words.

    Nothing is cut off: half a fingerprint is none. On a terminal long words are folded; in a file, or for another program, each
    row is as wide as it has to be.
    """
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(readable(cell), style=STATE_COLOURS.get(cell, "")) for cell in row))
    titled = Together(
        Text(title, style="italic"), table
    )  # a title of the table's own would be folded to the table's width
    if CONSOLE.is_terminal:
        CONSOLE.print(titled)
        return
    page = Console(width=UNLIMITED)
    page = Console(width=Measurement.get(page, page.options, titled).maximum)
    with page.capture() as captured:
        page.print(titled)
    CONSOLE.file.write("".join(line.rstrip() + "\n" for line in captured.get().splitlines()))


def counted(number: int, one: str, many: str = "") -> str:
    """So many of something, in words that agree."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def time_text(milliseconds: int) -> str:
    """A time since the Unix epoch, for people."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")

"""What every command of `telemed-doctor` does alike: read the settings, call the doctor, print the answer.

Law: no command lives here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from doctor.client import Client
from doctor.settings import DoctorSettings
from shared import config
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

CONSOLE = Console()


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
    """Print a table; a cell that is a state has its colour. A cell may be a patient's own words."""
    table = Table(title=Text(title), title_justify="left")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(Text(readable(cell), style=STATE_COLOURS.get(cell, "")) for cell in row))
    CONSOLE.print(table)


def time_text(milliseconds: int) -> str:
    """A time since the Unix epoch, for people."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")

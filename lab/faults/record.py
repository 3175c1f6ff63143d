"""What a release run of the campaign leaves behind: one file a row, and the table of all of them.

Law: the table is made from the files alone, so whoever runs a row again replaces its line and nothing else.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from lab.faults.row import Result, Row, Size
from shared.errors import StorageError

TABLE_FILE = "README.md"

_HEAD = """# What the system has survived

Written by `telemed-lab faults --keep`; each line is the last kept run of its row, and its file beside this one has all the
figures. What each row does and what must hold: `telemed-lab faults --list`.

| | Row | Tried | Survived | Lost | Duplicated | Leaked | Serving again, median / max | Took | When, on what | Reproduce with |
|---|---|---|---|---|---|---|---|---|---|---|
"""


class Kept(msgspec.Struct, frozen=True):
    """A result with how it came about."""

    result: Result
    size: Size
    command: str
    date: str
    machine: str

    @classmethod
    def now(cls, result: Result, size: Size, extent: str) -> Kept:
        """A result of this moment on this machine."""
        processors = len(os.sched_getaffinity(0))
        machine = f"{processors} cores, Python {platform.python_version()}"
        command = f"telemed-lab faults --run {result.row}{extent} --seed {result.seed}"
        return cls(result, size, command, datetime.now(UTC).date().isoformat(), machine)


def keep(directory: Path, rows: Sequence[Row], kept: Kept) -> None:
    """Write one result, and the table of all that are kept.

    Raises:
        StorageError: the directory cannot be written, or a file in it is no result.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{kept.result.row}.json"
        path.write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=2) + b"\n")
        (directory / TABLE_FILE).write_text(_HEAD + "".join(_lines(directory, rows)))
    except (OSError, msgspec.DecodeError) as error:
        raise StorageError(f"{directory}: the results cannot be kept: {error}") from error


def _lines(directory: Path, rows: Sequence[Row]) -> list[str]:
    lines = []
    for row in rows:
        path = directory / f"{row.name}.json"
        if path.exists():
            lines.append(_line(row, msgspec.json.decode(path.read_bytes(), type=Kept)))
    return lines


def _line(row: Row, kept: Kept) -> str:
    found = kept.result
    recovery = found.recovery_seconds
    again = f"{recovery.median:.2f} s / {recovery.max:.2f} s" if recovery else ""
    mark = "✓" if found.passed else "✗"
    cells = (
        f"{mark} {row.threat}",
        f"{row.name}: {row.title}",
        f"{found.tried:,}",
        f"{found.survived:,}",
        str(found.lost),
        str(found.duplicated),
        str(found.leaked),
        again,
        f"{found.seconds:,.0f} s",
        f"{kept.date}, {kept.machine}",
        f"`{kept.command}`",
    )
    return "| " + " | ".join(cells) + " |\n"

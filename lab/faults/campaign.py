"""The campaign: every row by its name, run one after the other, shown to a person and given to a program.

Law: the only list of rows. A row that fails does not stop the ones behind it; one that raises is a defect of the row.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import uvloop
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from lab.faults.row import OnProgress, Result, Row, Scale, Size, Tally, Trial, result
from lab.faults.rows import (
    audit_edits,
    churn,
    clocks,
    damage,
    disk,
    evil_peer,
    floods,
    fuzz,
    idle,
    kill_doctor,
    kill_patient,
    lengths,
    partitions,
    secrets,
    slow_readers,
    slowloris,
    soak,
    weather,
)
from shared.errors import UserError

ROWS: tuple[Row, ...] = (
    kill_doctor.ROW,
    kill_patient.ROW,
    *evil_peer.ROWS,
    partitions.ROW,
    weather.ROW,
    clocks.ROW,
    churn.ROW,
    soak.ROW,
    slow_readers.ROW,
    idle.ROW,
    floods.CONNECTIONS,
    floods.HANDSHAKES,
    slowloris.ROW,
    fuzz.ROW,
    lengths.ROW,
    disk.ROW,
    damage.ROW,
    audit_edits.ROW,
    secrets.ROW,
)


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the caller wants otherwise than a row's size has it; None: as it is there."""

    count: int | None = None
    patients: int | None = None
    messages: int | None = None
    seconds: float | None = None

    def applied(self, scale: Scale) -> Scale:
        """The scale with these changes."""
        names = ("count", "patients", "messages", "seconds")
        wanted = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return msgspec.structs.replace(scale, **wanted)

    def options(self, size: Size) -> str:
        """The options of the command that bring about the same."""
        wanted = {
            "size": size.value,
            "count": self.count,
            "patients": self.patients,
            "messages": self.messages,
            "seconds": self.seconds,
        }
        return "".join(f" --{name} {value}" for name, value in wanted.items() if value is not None)


def select(names: Sequence[str], rows: Sequence[Row] = ROWS) -> list[Row]:
    """The rows of these names, in the campaign's order; `all` is every row.

    Raises:
        UserError: there is no such row; says which there are.
    """
    known = {row.name for row in rows}
    for name in names:
        if name != "all" and name not in known:
            raise UserError(
                f"There is no row {name!r}. There are: all, {', '.join(row.name for row in rows)}."
            )
    return [row for row in rows if row.name in names or "all" in names]


def run_rows(
    rows: Sequence[Row], size: Size, overrides: Overrides, seed: int, console: Console
) -> Iterator[Result]:
    """Run rows, each in an empty directory of its own, and yield each one's result as it comes."""
    for row in rows:
        with (
            tempfile.TemporaryDirectory(prefix="telemed-faults-") as directory,
            _progress(row, console) as on_progress,
        ):
            trial = Trial(overrides.applied(row.scale(size)), seed, Path(directory), on_progress)
            began = time.monotonic()
            tally = uvloop.run(_run(row, trial))
            found = result(row, trial, tally, time.monotonic() - began)
        show(row, found, console)
        yield found


async def _run(row: Row, trial: Trial) -> Tally:
    return await row.run(trial)


@contextmanager
def _progress(row: Row, console: Console) -> Iterator[OnProgress]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(f"{row.threat} {row.name}", total=None)

        def on_progress(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total)

        yield on_progress


def show(row: Row, found: Result, console: Console) -> None:
    """One line for a row, and a line for each finding."""
    mark = "[green]✓[/]" if found.passed else "[red]✗[/]"
    parts = [f"{found.survived} of {found.tried} survived"]
    parts += [f"{found.lost} lost, {found.duplicated} duplicated, {found.leaked} leaked"]
    if found.recovery_seconds is not None:
        recovery = found.recovery_seconds
        parts.append(f"serving again after {recovery.median:.1f} s, at most {recovery.max:.1f} s")
    parts += [f"{name} {_rounded(value)}" for name, value in found.figures.items()]
    text = f"{mark} {row.threat:<4}{row.name:<16} {' · '.join(parts)} [dim]({found.seconds:.0f} s)[/]"
    console.print(text, highlight=False, soft_wrap=True)
    for finding in found.findings:
        console.print(f"      [red]{escape(finding)}[/]", highlight=False, soft_wrap=True)


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.3g}"


def describe(rows: Sequence[Row], console: Console) -> None:
    """What there is to run, for people: a few lines a row, which fit any terminal."""
    for row in rows:
        console.print(f"[bold]{row.name}[/] [dim]{row.threat}[/]", highlight=False)
        lines = Table.grid("", "", padding=(0, 1))
        lines.add_row("[dim]  is done[/]", escape(row.title))
        lines.add_row("[dim]  must hold[/]", escape(row.passes))
        lines.add_row("[dim]  sizes[/]", f"CI {extent(row.ci)}; release {extent(row.release)}")
        console.print(lines, highlight=False)


def extent(scale: Scale) -> str:
    """A scale in words."""
    parts = [f"{scale.count:,} ×"] if scale.count else []
    parts += [f"{scale.patients:,} patients"] if scale.patients else []
    parts += [f"{scale.messages:,} messages"] if scale.messages else []
    parts += [f"{scale.seconds:g} s"] if scale.seconds else []
    return ", ".join(parts)

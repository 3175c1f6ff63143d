"""`telemed-lab bench`: this system beside what a user would pick instead, as a table for people or a line for programs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, unique
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from lab.bench import crypto, fanout, handshake
from lab.bench.comparison import Comparison, Line, Report, line
from lab.bench.timing import machine


@unique
class Part(Enum):
    """What can be measured."""

    CRYPTO = "crypto"
    HANDSHAKE = "handshake"
    FANOUT = "fanout"


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured."""

    runs: int
    iterations: int
    handshakes: int
    subscribers: int


QUICK = Extent(runs=3, iterations=100, handshakes=100, subscribers=100)
FULL = Extent(runs=9, iterations=1000, handshakes=500, subscribers=1000)


def bench(
    parts: Annotated[
        list[Part] | None, typer.Argument(help="What to measure; everything if none is named.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Less of everything: under a minute.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on the last line.")] = False,
) -> None:
    """Measure this system beside its peers, in the same call on the same machine. Ratios are what carries over."""
    console = Console(stderr=as_json)
    extent = QUICK if quick else FULL
    rows: list[Line] = []
    missing: list[str] = []
    for part in parts or list(Part):
        with console.status(f"{part.value} …"):
            found, absent = _MEASURES[part](extent)
        rows += [line(each) for each in found]
        missing += absent
        console.print(table(part.value, [line(each) for each in found]))
    for each in sorted(set(missing)):
        console.print(f"[yellow]Not measured: {each} is not installed.[/]", highlight=False)
    if as_json:
        report = Report(rows, sorted(set(missing)), machine(), quick)
        sys.stdout.write(msgspec.json.encode(report).decode() + "\n")


def _crypto(extent: Extent) -> tuple[list[Comparison], list[str]]:
    return crypto.compare(extent.runs, extent.iterations), []


def _handshake(extent: Extent) -> tuple[list[Comparison], list[str]]:
    return handshake.compare(extent.runs, extent.handshakes)


def _fanout(extent: Extent) -> tuple[list[Comparison], list[str]]:
    return fanout.compare(extent.subscribers, extent.runs)


_MEASURES: dict[Part, Callable[[Extent], tuple[list[Comparison], list[str]]]] = {
    Part.CRYPTO: _crypto,
    Part.HANDSHAKE: _handshake,
    Part.FANOUT: _fanout,
}


def table(title: str, rows: Sequence[Line]) -> Table:
    """Comparisons for people; a measure stands once, above its peers, so that 80 columns are enough."""
    shown = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    for name in ("", "Measure, peer", "Ours", "Theirs", "Ratio", "Promised"):
        shown.add_column(name, justify="left" if name in ("", "Measure, peer") else "right")
    measure = ""
    for row in rows:
        if row.measure != measure:
            measure = row.measure
            shown.add_row(f"[bold]{row.id}[/]", f"[bold]{measure}[/], {row.unit}")
        mark = {True: "[green]✓[/]", False: "[red]✗[/]", None: " "}[row.met]
        theirs = "not installed" if row.theirs is None else f"{row.theirs:,g}"
        ratio = "" if row.ratio is None else f"{row.ratio:.3g} ×"
        target = "" if row.target is None else f"≥ {row.target:g} ×"
        shown.add_row(f" {mark}", f"  {row.peer}", f"{row.ours:,g}", theirs, ratio, target)
    return shown

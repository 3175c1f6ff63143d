"""Comparisons as tables: for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from lab.bench.comparison import Line

MARKS = {True: "[green]✓[/]", False: "[red]✗[/]", None: " "}


def show(title: str, rows: Sequence[Line], console: Console) -> None:
    """Print the table of one part."""
    console.print(table(title, rows))


def table(title: str, rows: Sequence[Line]) -> Table:
    """A measure stands once, above its peers."""
    shown = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    for name in ("", "Measure, peer", "Ours", "Theirs", "Ratio", "Promised"):
        shown.add_column(name, justify="left" if name in ("", "Measure, peer") else "right")
    measure = ""
    for row in rows:
        if row.measure != measure:
            measure = row.measure
            shown.add_row(f"[bold]{row.id}[/]", f"[bold]{measure}[/], {row.unit}")
        theirs = "not installed" if row.theirs is None else f"{row.theirs:,g}"
        ratio = "" if row.ratio is None else f"{row.ratio:.3g} ×"
        target = "" if row.target is None else f"≥ {row.target:g} ×"
        shown.add_row(f" {MARKS[row.met]}", f"  {row.peer}", f"{row.ours:,g}", theirs, ratio, target)
    return shown

"""One line of the benchmark: our figure beside a peer's, from the same run, and the ratio that was promised.

Law: a ratio is always "how many times better we are", whichever way the figure counts. Nothing here is compared with a stored
figure: a peer that is missing leaves a line without a ratio, which met nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum, unique
from statistics import median
from typing import Annotated

import msgspec
from msgspec import Meta


@unique
class Better(Enum):
    """Which figures are the good ones."""

    HIGHER = "higher"
    LOWER = "lower"


class Figure(msgspec.Struct, frozen=True):
    """The median of several runs, and their spread: (largest − smallest) / median."""

    value: float
    spread: float
    runs: Annotated[int, Meta(ge=1)]

    @classmethod
    def of(cls, values: Sequence[float]) -> Figure:
        """The figure of some runs."""
        middle = median(values)
        spread = (max(values) - min(values)) / middle if middle else 0.0
        return cls(middle, round(spread, 3), len(values))

    def scaled(self, factor: float) -> Figure:
        """The same figure in another unit."""
        return Figure(self.value * factor, self.spread, self.runs)


class Comparison(msgspec.Struct, frozen=True):
    """Our figure beside a peer's.

    Args:
        id: the promise it belongs to, `P3`.
        measure, unit: what was measured.
        peer: what it is compared with; `theirs` is None where that is not installed.
        target: the ratio that was promised; None: shown for information.
        note: what a reader has to know to judge it.
    """

    id: str
    measure: str
    unit: str
    better: Better
    ours: Figure
    peer: str
    theirs: Figure | None
    target: float | None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times better ours is; None without the peer."""
        if self.theirs is None or not self.ours.value or not self.theirs.value:
            return None
        if self.better is Better.HIGHER:
            return self.ours.value / self.theirs.value
        return self.theirs.value / self.ours.value

    @property
    def met(self) -> bool | None:
        """Whether the promise is kept; None where there is none, or no peer to keep it against."""
        return None if self.target is None or self.ratio is None else self.ratio >= self.target


def within(id: str, measure: str, unit: str, ours: Figure, limit: float, note: str = "") -> Comparison:
    """A figure that was promised to stay within a limit, and not beside a peer; the ratio says how far it does."""
    peer = f"the limit that was promised, {limit:g} {unit}"
    return Comparison(id, measure, unit, Better.LOWER, ours, peer, Figure(limit, 0.0, 1), 1.0, note)


class Line(msgspec.Struct, frozen=True):
    """A comparison as programs read it."""

    id: str
    measure: str
    unit: str
    ours: float
    ours_spread: float
    peer: str
    theirs: float | None
    theirs_spread: float | None
    ratio: float | None
    target: float | None
    met: bool | None
    note: str


class Point(msgspec.Struct, frozen=True):
    """A figure at one number of patients."""

    patients: int
    value: float


class Series(msgspec.Struct, frozen=True):
    """How a cost goes with the number of patients: a curve. Series with the same `measure` belong into one plot.

    Args:
        id: the promise it belongs to, `P8`.
        measure, unit: what was measured.
        name: whose curve it is, `ours` or a peer.
        points: in the order of the number of patients.
    """

    id: str
    measure: str
    unit: str
    name: str
    points: list[Point]


class Measured(msgspec.Struct, frozen=True):
    """What one part of the benchmark has found. `missing`: the peers that are not installed."""

    comparisons: list[Comparison]
    missing: list[str] = []
    series: list[Series] = []


def line(comparison: Comparison) -> Line:
    """A comparison, rounded to what the figures carry."""
    theirs, ratio = comparison.theirs, comparison.ratio
    return Line(
        id=comparison.id,
        measure=comparison.measure,
        unit=comparison.unit,
        ours=significant(comparison.ours.value),
        ours_spread=comparison.ours.spread,
        peer=comparison.peer,
        theirs=significant(theirs.value) if theirs else None,
        theirs_spread=theirs.spread if theirs else None,
        ratio=round(ratio, 3) if ratio is not None else None,
        target=comparison.target,
        met=comparison.met,
        note=comparison.note,
    )


def series(id: str, measure: str, unit: str, name: str, points: Mapping[int, float]) -> Series:
    """A curve from the figure at each number of patients, rounded as lines are."""
    found = [Point(patients, significant(points[patients])) for patients in sorted(points)]
    return Series(id, measure, unit, name, found)


def significant(value: float) -> float:
    """Four significant digits: no benchmark on a shared machine has more."""
    return float(f"{value:.4g}")

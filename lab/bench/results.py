"""What one call of the benchmark has found, as programs read it: the last line of `telemed-lab bench --json`, and what is kept."""

from __future__ import annotations

import msgspec

from lab.bench.comparison import Line, Series
from lab.bench.surroundings import Surroundings


class Failure(msgspec.Struct, frozen=True):
    """A part that came to no result: why, in a line."""

    part: str
    reason: str


class Results(msgspec.Struct, frozen=True):
    """Everything that one call has measured.

    Args:
        rows: one for each measure and peer.
        series: the curves.
        missing: packages of peers that are not installed.
        failed: the parts without a result.
        quick: whether it was the small size.
        surroundings: what it ran on, and beside which versions.
    """

    rows: list[Line]
    series: list[Series]
    missing: list[str]
    failed: list[Failure]
    quick: bool
    surroundings: Surroundings

    @property
    def promised(self) -> list[Line]:
        """The rows that a promise was made for, in the order of the promises."""
        return sorted((row for row in self.rows if row.target is not None), key=lambda row: row.id)

    @property
    def nearest(self) -> list[Line]:
        """Of peers with one promise for one measure only the one that comes nearest to us, or that is missing."""
        found: dict[tuple[str, str, float | None], Line] = {}
        for row in self.promised:
            other = found.setdefault((row.id, row.measure, row.target), row)
            if row.ratio is not None and (other.ratio is None or row.ratio < other.ratio):
                found[row.id, row.measure, row.target] = row
        return list(found.values())

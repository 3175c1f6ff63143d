"""How long something took, again and again: counts by size, for whoever draws a histogram of it.

Law: plain numbers, so that noting one costs a fraction of a microsecond. One thread notes; any may read.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence


class Durations:
    """A histogram of durations in seconds.

    Args:
        bounds: the upper ends of its buckets, ascending; what is longer than the last one is counted by itself.

    Attributes:
        total: of all durations.
    """

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self.total = 0.0

    def note(self, seconds: float, times: int = 1) -> None:
        """Something took so long, for so many at once."""
        self._counts[bisect_left(self._bounds, seconds)] += times
        self.total += seconds * times

    @property
    def count(self) -> int:
        """How many were noted."""
        return sum(self._counts)

    def cumulative(self) -> list[tuple[str, float]]:
        """For each bound, and for `+Inf`, how many took at most so long: as Prometheus has it."""
        found, below = [], 0
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            below += count
            found.append((bound, float(below)))
        return found

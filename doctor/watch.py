"""How long the doctor has been there to see anybody: a device counts as unseen for as long as that, and no longer.

Law: only time that passes while the doctor runs counts, by the clock that does not jump. A doctor that was off for a month has missed its
devices and not they it, and a clock that is set makes nobody older.
"""

from __future__ import annotations

from doctor.facts import Fact
from shared.protocol.clock import SECOND, Instant

STEP = 3600 * SECOND


class Watched(Fact, frozen=True):
    """For how long the doctor has run in all, and what its wall clock showed meanwhile. In milliseconds.

    `marks`: (wall clock, time run until then), one an hour, oldest first.
    """

    total: int
    marks: tuple[tuple[int, int], ...]


class Watch:
    """Counts the time of one run on from the runs before.

    Args:
        before: what was noted last; None: nothing yet.
        span: after how many milliseconds of running somebody counts as unseen.
        now: the start of this run.
    """

    def __init__(self, before: Watched | None, span: int, now: Instant) -> None:
        self._span = span
        self._began = now.elapsed
        self._noted = before or Watched(0, ())
        self._before = self._noted.total
        self._due = 0  # a run begins with a mark

    def note(self, now: Instant) -> Watched | None:
        """Count on; what has to be kept for the next run, once an hour, and otherwise None."""
        total = self._before + now.elapsed - self._began
        if total < self._due:
            return None
        marks = (*self._noted.marks, (now.wall, total))
        self._noted = Watched(total, tuple(mark for mark in marks if mark[1] > self._first(total)))
        self._due = total + STEP
        return self._noted

    def unseen_before(self, now: Instant) -> int:
        """The wall clock's time such that whoever was last seen before it has been unseen for the span; 0: nobody has."""
        total = self._before + now.elapsed - self._began
        if total < self._span:
            return 0
        # The lowest that the clock has shown in the span: so one that was ahead makes nobody older, neither then nor when it is right.
        shown = [wall for wall, until in self._noted.marks if until > self._first(total)]
        return min([now.wall - self._span, *shown])

    def _first(self, total: int) -> int:
        """Above it are the marks that count: those of the span, and the one with which it begins."""
        return total - self._span - STEP

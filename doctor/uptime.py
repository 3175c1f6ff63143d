"""How long the doctor has been there to see anybody: a device counts as unseen for as long as that, and no longer.

Law: only time that passes while the doctor runs counts, by the clock that does not jump. A doctor that was off for a month has missed its
devices and not they it, and a clock that is set makes nobody older.
"""

from __future__ import annotations

from doctor.facts import Fact
from shared.protocol.clock import SECOND, Instant

STEP = 3600 * SECOND


class Ran(Fact, frozen=True):
    """For how long the doctor has run in all, and what its wall clock showed meanwhile. In milliseconds.

    `marks`: (wall clock, time run until then), one an hour, oldest first.
    """

    total: int
    marks: tuple[tuple[int, int], ...]


class Uptime:
    """Counts the time of one run on from the runs before.

    Args:
        before: what was noted last; None: nothing yet.
        span: after how many milliseconds of running somebody counts as unseen.
        now: the start of this run.
    """

    def __init__(self, before: Ran | None, span: int, now: Instant) -> None:
        self._span = span
        self._start = now
        self._noted = before or Ran(0, ())
        self._before = self._noted.total
        self._due = 0

    def note(self, now: Instant) -> Ran | None:
        """Count on; what has to be kept for the next run, once an hour, and otherwise None."""
        total = self._before + now.elapsed - self._start.elapsed
        if total < self._due:
            return None
        # A run begins with a mark of its start, however late the first call comes.
        mark = (now.wall, total) if self._due else (self._start.wall, self._before)
        self._noted = Ran(total, (*self._counting(total), mark))
        self._due = total + STEP
        return self._noted

    def unseen_before(self, now: Instant) -> int:
        """The wall clock's time such that whoever was last seen before it has been unseen for the span; 0: nobody has."""
        total = self._before + now.elapsed - self._start.elapsed
        marks = self._counting(total)
        if not marks or marks[0][1] > total - self._span:
            return 0
        # The lowest that the clock has shown in the span: so one that was ahead makes nobody older, neither then nor when it is right.
        return min(now.wall - self._span, *(wall for wall, _ in marks))

    def _counting(self, total: int) -> tuple[tuple[int, int], ...]:
        """The marks within the span, and the last one before it."""
        marks, begins = self._noted.marks, total - self._span
        before = sum(1 for _, until in marks if until <= begins)
        return marks[max(0, before - 1) :]

"""How long somebody was unseen: as long as the doctor was there to see, whatever its clock has shown."""

from __future__ import annotations

from doctor.uptime import STEP, Ran, Uptime
from shared.protocol.clock import Instant

DAY = 24 * STEP
SPAN = 3 * DAY
WALL = 1_700_000_000_000


def run(before: Ran | None, hours: int, wall: int = WALL) -> tuple[Uptime, Ran, Instant]:
    """A doctor that starts at this time and runs for so long; what it has noted, and its end."""
    uptime, noted = Uptime(before, SPAN, Instant(wall, 0)), before or Ran(0, ())
    now = Instant(wall, 0)
    for hour in range(hours + 1):
        now = Instant(wall + hour * STEP, hour * STEP)
        noted = uptime.note(now) or noted
    return uptime, noted, now


def test_nobody_is_unseen_before_the_doctor_has_run_for_so_long() -> None:
    """However old the roster is."""
    uptime, _, now = run(None, 71)

    assert uptime.unseen_before(now) == 0


def test_a_run_counts_from_its_start_however_late_it_is_first_looked_at() -> None:
    """The timer was held up, or a test's clock has moved meanwhile."""
    uptime, now = Uptime(None, SPAN, Instant(WALL, 0)), Instant(WALL, 4 * DAY)
    uptime.note(now)

    assert uptime.unseen_before(now) == WALL - SPAN


def test_a_doctor_that_ran_all_the_time_goes_by_its_clock() -> None:
    """As many days as are set."""
    uptime, _, now = run(None, 24 * 10)

    assert uptime.unseen_before(now) == now.wall - SPAN


def test_a_restart_begins_nothing_anew() -> None:
    """What one run has noted, the next one counts on from; up to an hour of it is lost, in the devices' favour."""
    _, noted, end = run(None, 24 * 10)
    uptime, _, now = run(noted, 1, end.wall + 60_000)

    assert now.wall - SPAN - STEP <= uptime.unseen_before(now) <= now.wall - SPAN


def test_the_time_in_which_the_doctor_was_off_does_not_count() -> None:
    """A device that was there when it stopped has its three days from when it runs again."""
    _, noted, end = run(None, 24 * 10)
    began = end.wall + 31 * DAY
    soon, _, now = run(noted, 24, began)
    assert soon.unseen_before(now) <= end.wall - 2 * DAY

    later, _, now = run(noted, 24 * 3 + 1, began)
    assert end.wall < later.unseen_before(now) <= began + STEP


def test_a_clock_that_was_ahead_or_behind_for_a_while_makes_nobody_older() -> None:
    """What it showed then is remembered for the span, and counts where it is lower."""
    uptime, _, end = run(None, 24 * 10)
    for shown in (end.wall + 365 * DAY, WALL - 365 * DAY):
        uptime.note(Instant(shown, end.elapsed + STEP))
        assert uptime.unseen_before(Instant(shown, end.elapsed + STEP)) <= end.wall - SPAN + STEP


def test_what_is_noted_stays_small() -> None:
    """One mark an hour, and none that is older than the span."""
    uptime, noted, now = run(None, 24 * 10)

    assert len(noted.marks) == 73
    assert uptime.note(Instant(now.wall + STEP - 1, now.elapsed + STEP - 1)) is None


def test_a_longer_span_begins_with_what_is_known() -> None:
    """Of the time before, only the sum was kept: an outage in it would not be seen."""
    _, noted, end = run(None, 24 * 10)
    uptime = Uptime(noted, 5 * DAY, Instant(end.wall, 0))

    assert uptime.unseen_before(Instant(end.wall + DAY, DAY)) == 0
    assert uptime.unseen_before(Instant(end.wall + 2 * DAY, 2 * DAY)) == end.wall - SPAN

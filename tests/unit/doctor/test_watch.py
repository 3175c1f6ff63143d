"""How long somebody was unseen: as long as the doctor was there to see, whatever its clock has shown."""

from __future__ import annotations

from doctor.watch import STEP, Watch, Watched
from shared.protocol.clock import Instant

DAY = 24 * STEP
SPAN = 3 * DAY
WALL = 1_700_000_000_000


def run(before: Watched | None, hours: int, wall: int = WALL) -> tuple[Watch, Watched, Instant]:
    """A doctor that starts at this time and runs for so long; what it has noted, and its end."""
    watch, noted = Watch(before, SPAN, Instant(wall, 0)), before or Watched(0, ())
    now = Instant(wall, 0)
    for hour in range(hours + 1):
        now = Instant(wall + hour * STEP, hour * STEP)
        noted = watch.note(now) or noted
    return watch, noted, now


def test_nobody_is_unseen_before_the_doctor_has_run_for_so_long() -> None:
    """However old the roster is."""
    watch, _, now = run(None, 71)

    assert watch.unseen_before(now) == 0


def test_a_doctor_that_ran_all_the_time_goes_by_its_clock() -> None:
    """As many days as are set."""
    watch, _, now = run(None, 24 * 10)

    assert watch.unseen_before(now) == now.wall - SPAN


def test_a_restart_begins_nothing_anew() -> None:
    """What one run has noted, the next one counts on from; up to an hour of it is lost, in the devices' favour."""
    _, noted, end = run(None, 24 * 10)
    watch, _, now = run(noted, 1, end.wall + 60_000)

    assert now.wall - SPAN - STEP <= watch.unseen_before(now) <= now.wall - SPAN


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
    watch, _, end = run(None, 24 * 10)
    for shown in (end.wall + 365 * DAY, WALL - 365 * DAY):
        watch.note(Instant(shown, end.elapsed + STEP))
        assert watch.unseen_before(Instant(shown, end.elapsed + STEP)) <= end.wall - SPAN + STEP


def test_what_is_noted_stays_small() -> None:
    """One mark an hour, and none that is older than the span."""
    watch, noted, now = run(None, 24 * 10)

    assert len(noted.marks) == 73
    assert watch.note(Instant(now.wall + STEP - 1, now.elapsed + STEP - 1)) is None

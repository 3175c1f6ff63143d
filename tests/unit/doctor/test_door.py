"""Limits on unfinished handshakes, and the pause after too many replacements."""

from __future__ import annotations

from doctor.door import Allowance, Budget, DoorKeeper, Replacements


def test_unfinished_handshakes_are_limited_in_all_and_by_address() -> None:
    """Wherever they come from; who leaves makes room."""
    door = DoorKeeper(3, 2)

    assert [door.enter("a"), door.enter("a"), door.enter("a")] == [True, True, False]
    assert [door.enter("b"), door.enter("c")] == [True, False]
    door.leave("a")
    assert [door.enter("c"), door.enter("a")] == [True, False]
    for host in ("a", "b", "c"):
        door.leave(host)
    assert [door.enter("d"), door.enter("d"), door.enter("d")] == [True, True, False]


def test_the_third_replacement_within_a_minute_is_an_alarm() -> None:
    """And newcomers pause for a minute, then all is as before."""
    watch = Replacements()

    assert [watch.note("anna", at) for at in (0, 1000)] == [False, False]
    assert not watch.paused("anna", 1000)
    assert watch.note("anna", 60_000)
    assert watch.paused("anna", 60_000)
    assert watch.paused("anna", 119_999)
    assert not watch.paused("bert", 60_000)
    assert not watch.paused("anna", 120_000)
    assert not watch.note("anna", 120_001)


def test_replacements_that_are_further_apart_are_none() -> None:
    """A session is renewed every hour, and a link may break now and then."""
    watch = Replacements()

    assert [watch.note("anna", at) for at in range(0, 600_000, 30_001)] == [False] * 20


def test_each_patient_is_counted_for_itself() -> None:
    """Many that come back at once after a power cut are no alarm."""
    watch = Replacements()

    assert not any(watch.note(f"p{number % 10}", 0) for number in range(20))


def test_a_budget_is_so_many_a_minute() -> None:
    """However many are asked for; the next minute begins anew."""
    budget = Budget()

    assert sum(budget.spend("p1", 100_000 + number) for number in range(1000)) == Budget.LIMIT
    assert sum(budget.spend("p1", 160_000 + number) for number in range(1000)) == Budget.LIMIT


def test_nobody_uses_up_what_others_may_spend() -> None:
    """One revoked device that knocks without end must not keep another's entry out of the audit log."""
    budget = Budget()
    while budget.spend("loud", 100_000):
        pass

    assert budget.spend("quiet", 100_000)


def test_a_quarter_of_the_limit_is_a_crowd_but_never_a_few() -> None:
    """From then on newcomers show a cookie first."""
    door, small = DoorKeeper(400, 400), DoorKeeper(8, 8)
    for _ in range(100):
        door.enter("a")
    for _ in range(8):
        small.enter("a")

    seen = [door.crowded, small.crowded]
    door.enter("a")
    seen.append(door.crowded)
    door.leave("a")
    seen.append(door.crowded)

    assert seen == [False, False, True, False]


def test_an_allowance_is_used_up_and_filled_evenly() -> None:
    """All at once, then as many as the time that has passed gives back; each name has its own."""
    allowance = Allowance(6)

    assert [allowance.take("anna", 0) for _ in range(7)] == [True] * 6 + [False]
    assert allowance.take("bert", 0)
    assert [allowance.take("anna", 20_000) for _ in range(3)] == [True, True, False]
    assert [allowance.take("anna", 90_000) for _ in range(7)] == [True] * 6 + [False]


def test_an_allowance_forgets_who_has_all_of_it_again() -> None:
    """Names that nobody uses any more take no room."""
    allowance = Allowance(6)
    for number in range(10):
        allowance.take(f"patient-{number}", 0)

    for second in range(60, 80):
        allowance.take("anna", second * 1000)

    assert len(allowance._used) == 1

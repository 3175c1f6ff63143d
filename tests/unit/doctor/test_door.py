"""Limits on unfinished and failed handshakes, who makes room for whom, and the pause after too many replacements."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from doctor.door import Allowance, DoorKeeper, Place, Queues, Replacements, TurnedAway


class Door:
    """A door keeper, and who stands at the door by address."""

    def __init__(self, limit: int, per_address: int) -> None:
        self.keeper = DoorKeeper(limit, per_address)
        self.places: dict[str, list[Place]] = {}
        self.shown_out: list[str] = []
        self.elapsed = 0

    def enter(self, host: str) -> TurnedAway | None:
        """Somebody comes; why it does not get in."""

        def show_out(why: TurnedAway) -> None:
            assert why is TurnedAway.MADE_ROOM
            self.shown_out.append(host)
            self.places[host].pop(0)

        answer = self.keeper.enter(host, show_out, self.elapsed)
        if isinstance(answer, TurnedAway):
            return answer
        self.places.setdefault(host, []).append(answer)
        return None

    def leave(self, host: str) -> None:
        """The oldest from a host is done."""
        self.keeper.leave(self.places[host].pop(0))

    def fail(self, host: str, times: int = 1) -> None:
        """So many handshakes fail."""
        for _ in range(times):
            self.keeper.note_failure(host, self.elapsed)

    def crowded(self) -> bool:
        """Whether it is."""
        return self.keeper.crowded(self.elapsed)


def test_unfinished_handshakes_are_limited_by_address() -> None:
    """Who leaves makes room for its own address."""
    door = Door(9, 2)

    assert [door.enter("a"), door.enter("a"), door.enter("a")] == [None, None, TurnedAway.UNFINISHED]
    assert door.enter("b") is None
    door.leave("a")
    assert [door.enter("a"), door.enter("a")] == [None, TurnedAway.UNFINISHED]
    assert door.shown_out == []


def test_who_fills_all_places_keeps_nobody_out() -> None:
    """A newcomer from elsewhere takes the oldest place of the address that has most."""
    door = Door(6, 4)
    for host in ("a", "a", "a", "a", "b", "b"):
        door.enter(host)

    assert [door.enter("c"), door.enter("c"), door.enter("c")] == [None, None, TurnedAway.UNFINISHED]
    assert door.shown_out == ["a", "a"]
    assert door.keeper.unfinished == 6


def test_a_place_that_was_left_or_taken_is_left_once() -> None:
    """The connection of who was shown out still closes, later."""
    door = Door(2, 2)
    door.enter("a")
    first = door.places["a"][0]
    door.enter("a")
    door.enter("b")
    assert door.shown_out == ["a"]

    door.keeper.leave(first)
    door.keeper.leave(first)

    assert door.keeper.unfinished == 2


def test_many_addresses_with_one_place_each_keep_out_nobody_who_has_none() -> None:
    """The one that has been there for longest goes: an honest handshake takes less time than a flood needs to go round."""
    door = Door(100, 50)
    for number in range(100):
        door.enter(f"flood-{number}")

    assert door.enter("honest") is None
    assert [door.enter(f"more-{number}") for number in range(99)] == [None] * 99
    assert "honest" not in door.shown_out
    assert door.shown_out == [f"flood-{number}" for number in range(100)]


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans())))
def test_the_queues_know_at_any_time_who_has_most(steps: list[tuple[str, bool]]) -> None:
    """Against a plain count."""
    queues, places = Queues(), list[Place]()
    for host, comes in steps:
        mine = [place for place in places if place.host == host]
        if comes:
            places.append(Place(host, lambda why: None))
            queues.add(places[-1])
        elif mine:
            places.remove(mine[0])
            assert queues.remove(mine[0])
            assert not queues.remove(mine[0])
        counts = Counter(place.host for place in places)
        assert queues.total == len(places)
        assert queues.most == max(counts.values(), default=0)
        assert {host: queues.count(host) for host in "abcd"} == {host: counts[host] for host in "abcd"}
        if places:
            oldest = queues.oldest_of_most()
            assert counts[oldest.host] == queues.most
            assert oldest == next(place for place in places if place.host == oldest.host)


def test_handshakes_that_fail_at_a_rate_are_a_crowd_though_none_stays() -> None:
    """Bad proofs come and go: only counting them shows the load. Then cookies are asked for, until it has been quiet."""
    door = Door(1000, 1000)
    door.fail("a", DoorKeeper.NEVER_CROWDED)
    assert not door.crowded()
    door.fail("b")
    assert door.crowded()

    door.fail("b", 10_000)
    door.elapsed = 5_000
    assert door.crowded()
    door.elapsed = 7_000
    assert not door.crowded()


def test_ten_failures_a_second_are_no_crowd() -> None:
    """However long it goes on: devices with a wrong clock come again and again."""
    door = Door(1000, 1000)
    for door.elapsed in range(0, 600_000, 100):
        door.fail("a")
        assert not door.crowded()


def test_under_load_an_address_whose_handshakes_keep_failing_is_turned_away() -> None:
    """Before it costs anything; others are not, and without load it is not either."""
    door = Door(1000, 1000)
    door.fail("bad", DoorKeeper.ADDRESS_FAILURES + 1)
    assert door.enter("bad") is None

    door.fail("worse", 100)
    assert door.crowded()
    assert [door.enter("bad"), door.enter("worse"), door.enter("good")] == [
        TurnedAway.FAILED,
        TurnedAway.FAILED,
        None,
    ]
    door.elapsed = 1_000
    assert door.crowded()
    assert [door.enter("bad"), door.enter("worse")] == [None, TurnedAway.FAILED]


def test_failures_of_so_many_addresses_are_remembered_and_no_more() -> None:
    """Who has not failed for longest is forgotten."""
    door = Door(1000, 1000)
    door.fail("old", 100)
    for number in range(DoorKeeper.ADDRESSES - 1):
        door.fail(f"address-{number}")
    assert door.enter("old") is TurnedAway.FAILED

    door.fail("one more")
    assert door.enter("old") is None


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


def test_nobody_uses_up_what_others_may_spend() -> None:
    """One revoked device that knocks without end must not keep another's entry out of the audit log."""
    allowance = Allowance(10)
    while allowance.take("loud", 100_000):
        pass

    assert allowance.take("quiet", 100_000)


def test_a_quarter_of_the_limit_is_a_crowd_but_never_a_few() -> None:
    """From then on newcomers show a cookie first."""
    door, small = Door(400, 400), Door(8, 8)
    for _ in range(100):
        door.enter("a")
    for _ in range(8):
        small.enter("a")

    seen = [door.crowded(), small.crowded()]
    door.enter("a")
    seen.append(door.crowded())
    door.leave("a")
    seen.append(door.crowded())

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

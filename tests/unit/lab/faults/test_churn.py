"""What the churn looks at besides the invariants: epochs at devices and at the doctor."""

from __future__ import annotations

from lab.faults.epochs import differing, falling, skipped
from lab.faults.keys import EpochKey, KeyRing, SessionKey

GROUP = "everyone"


def epoch(number: int, time: float, holder: str = "anna", secret: bytes | None = None) -> EpochKey:
    """An epoch's secret in a device's hands."""
    return EpochKey(holder, GROUP, number, time, secret or bytes([number]) * 32)


def ring(*keys: EpochKey | SessionKey) -> KeyRing:
    """Keys as they were taken down."""
    found = KeyRing()
    for key in keys:
        found.add(key)
    return found


def session(time: float) -> SessionKey:
    """A session of the same device."""
    return SessionKey("anna", f"connection {time}", time, bytes(32), bytes(32))


def test_epochs_that_rise_are_fine_and_a_session_may_begin_where_the_last_one_ended() -> None:
    """It is given the current epoch, whatever that is."""
    keys = ring(
        session(0), epoch(1, 1), epoch(2, 2), session(3), epoch(2, 4), epoch(3, 5), session(6), epoch(7, 7)
    )

    assert list(falling(keys)) == []


def test_an_epoch_that_falls_or_comes_twice_in_a_session_is_found() -> None:
    """Also below one of an earlier session."""
    assert "epoch 1 of everyone after 2" in next(falling(ring(session(0), epoch(2, 1), epoch(1, 2))))
    assert "epoch 2 of everyone after 2" in next(falling(ring(session(0), epoch(2, 1), epoch(2, 2))))
    assert len(list(falling(ring(session(0), epoch(3, 1), session(2), epoch(2, 3))))) == 1
    assert len(list(falling(ring(session(0), epoch(3, 1), session(2), epoch(3, 3), epoch(3, 4))))) == 1


def test_members_hold_the_same_secret_for_an_epoch_and_another_for_each() -> None:
    """Whichever of the two is broken is named."""
    assert list(differing([epoch(1, 0), epoch(1, 0, "bert"), epoch(2, 0)])) == []
    assert "bert holds another secret" in next(differing([epoch(1, 0), epoch(1, 0, "bert", b"x" * 32)]))
    assert "two epochs" in next(differing([epoch(1, 0), epoch(2, 0, secret=bytes([1]) * 32)]))


def test_the_doctors_epochs_follow_one_another_in_each_group() -> None:
    """A skipped number would be an epoch that nobody was told of."""
    begun = [{"group": "a", "epoch": 4}, {"group": "b", "epoch": 9}, {"group": "a", "epoch": 5}]

    assert list(skipped(begun)) == []
    assert list(skipped([*begun, {"group": "b", "epoch": 11}])) == ["The doctor began epoch 11 of b after 9."]

"""The group's log of finished frames: shared slices, markers, retention."""

from __future__ import annotations

import pytest

from doctor import broadcast_log
from doctor.broadcast_log import BroadcastLog, Slice
from shared.protocol.epochs import Epoch
from tests.crypto_tools import entropy


def epoch(number: int) -> Epoch:
    """An epoch."""
    return Epoch.begin("doctor", "everyone", number, [], [], entropy(f"epoch {number}"))


def filled(*frames: bytes) -> BroadcastLog:
    """A log of frames numbered from 1."""
    log = BroadcastLog()
    for number, frame in enumerate(frames, start=1):
        log.append(frame, number)
    return log


def test_an_empty_log_has_nothing_to_send() -> None:
    """A cursor at its end waits."""
    log = BroadcastLog()

    assert (log.base, log.end, log.at(0)) == (0, 0, None)


def test_all_cursors_at_one_place_get_the_same_object() -> None:
    """Not an equal one: there is one copy of a broadcast, whatever the number of patients."""
    log = filled(b"one", b"two")

    first, second = log.at(0), log.at(0)
    assert isinstance(first, Slice)
    assert first is second
    assert (first.frames, first.end, first.last) == (b"onetwo", 2, 2)


def test_a_single_frame_is_passed_on_uncopied() -> None:
    """The very bytes that were sealed."""
    frame = bytes(1000)
    log = filled(b"before", frame)

    entry = log.at(1)
    assert isinstance(entry, Slice)
    assert entry.frames is frame


def test_no_slice_crosses_a_marker() -> None:
    """At a marker each member first needs its own key."""
    log = filled(b"one", b"two")
    second = epoch(2)
    log.mark(second)
    log.append(b"three", 3)

    before, marker, after = log.at(0), log.at(2), log.at(3)
    assert before == Slice(b"onetwo", 2, 2)
    assert marker is second
    assert after == Slice(b"three", 4, 3)
    assert log.at(4) is None


def test_a_slice_grows_with_the_log() -> None:
    """What was cut before a frame came is cut anew."""
    log = filled(b"one")
    assert log.at(0) == Slice(b"one", 1, 1)

    log.append(b"two", 2)
    assert log.at(0) == Slice(b"onetwo", 2, 2)
    log.mark(epoch(2))

    assert log.at(0) == Slice(b"onetwo", 2, 2)


def test_a_slice_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """But always holds at least one frame."""
    monkeypatch.setattr(broadcast_log, "SLICE_BYTES", 10)
    log = filled(b"a" * 4, b"b" * 6, b"c", b"d" * 50, b"e")

    ends = []
    position = 0
    while isinstance(entry := log.at(position), Slice):
        position = entry.end
        ends.append((entry.end, entry.last, len(entry.frames)))

    assert ends == [(2, 2, 10), (3, 3, 1), (4, 4, 50), (5, 5, 1)]


def test_few_slices_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each may be as long as one write: a ward of laggards, each at a place of its own, must not fill the memory."""
    monkeypatch.setattr(broadcast_log, "SLICES_KEPT", 3)
    log = filled(*(bytes([number]) for number in range(10)))

    for position in range(10):
        assert isinstance(log.at(position), Slice)
        assert len(log._slices) <= 3


def test_retention_forgets_the_oldest_and_never_renumbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions stay what they were; a cursor below the base has fallen behind."""
    monkeypatch.setattr(broadcast_log, "RETENTION_BYTES", 10)
    log = filled(b"a" * 4)
    log.mark(epoch(2))
    log.append(b"b" * 4, 2)
    assert log.base == 0

    log.append(b"c" * 4, 3)
    assert (log.base, log.end) == (1, 4)
    log.append(b"d" * 4, 4)

    assert (log.base, log.end) == (3, 5)
    assert log.at(3) == Slice(b"cccc" + b"dddd", 5, 4)


def test_the_newest_frame_is_kept_whatever_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or nobody could ever be sent it."""
    monkeypatch.setattr(broadcast_log, "RETENTION_BYTES", 10)
    log = filled(b"a" * 4, b"b" * 400)

    assert (log.base, log.end) == (1, 2)
    assert isinstance(log.at(1), Slice)

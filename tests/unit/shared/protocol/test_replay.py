"""The replay cache: remembers as long as a timestamp could pass, and no longer."""

from __future__ import annotations

from shared.protocol.clock import Instant
from shared.protocol.replay import ReplayCache


def at(elapsed: int) -> Instant:
    """A moment; the cache looks at the monotonic clock alone."""
    return Instant(1_000, elapsed)


def test_a_nonce_is_remembered_for_the_window() -> None:
    """Up to its last millisecond."""
    cache = ReplayCache(60_000)
    cache.add("patient-a", b"n", at(0))

    assert cache.seen("patient-a", b"n", at(60_000))
    assert not cache.seen("patient-b", b"n", at(60_000))
    assert not cache.seen("patient-a", b"m", at(60_000))
    assert not cache.seen("patient-a", b"n", at(60_001))


def test_the_cache_holds_no_more_than_a_windows_worth() -> None:
    """A thousand hours of handshakes leave what the last minute brought."""
    cache = ReplayCache(60_000)
    for minute in range(1_000):
        for request in range(10):
            nonce = bytes([request]) + minute.to_bytes(4, "big")
            now = at(minute * 60_001)
            assert not cache.seen("patient-a", nonce, now)
            cache.add("patient-a", nonce, now)

    assert len(cache) == 10


def test_a_wall_clock_that_jumps_changes_nothing() -> None:
    """Lifetimes are measured with the clock that never jumps."""
    cache = ReplayCache(60_000)
    cache.add("patient-a", b"n", Instant(5_000_000, 0))

    assert cache.seen("patient-a", b"n", Instant(0, 1))
    assert cache.seen("patient-a", b"n", Instant(9_000_000, 1))

"""Pauses grow, are bounded, and are drawn evenly from zero."""

from __future__ import annotations

from patient.backoff import Backoff, between


def highest(size: int) -> bytes:
    """Entropy that is all ones."""
    return b"\xff" * size


def test_the_ceiling_doubles_up_to_the_maximum() -> None:
    """With the highest draws the pauses are the ceilings."""
    backoff = Backoff(0.5, 3.0, highest)

    pauses = [round(backoff.next(), 6) for _ in range(5)]

    assert pauses == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_jitter_is_full() -> None:
    """The lowest draw is no pause at all: devices spread over the whole range."""
    backoff = Backoff(0.5, 3.0, bytes)

    assert backoff.next() == 0.0


def test_a_success_starts_it_again() -> None:
    """After a reset the first ceiling is back."""
    backoff = Backoff(0.5, 30.0, highest)
    for _ in range(4):
        backoff.next()

    backoff.reset()

    assert backoff.failures == 0
    assert round(backoff.next(), 6) == 0.5


def test_a_million_failures_do_not_overflow() -> None:
    """The exponent is bounded, whatever the number of failures."""
    backoff = Backoff(0.5, 30.0, highest)
    backoff.failures = 1_000_000

    assert round(backoff.next(), 6) == 30.0


def test_between_covers_its_range() -> None:
    """Both ends can be drawn, up to rounding."""
    assert between(45.0, 55.0, bytes) == 45.0
    assert round(between(45.0, 55.0, highest), 6) == 55.0

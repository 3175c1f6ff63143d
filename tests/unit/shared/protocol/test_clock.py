"""Instants."""

from __future__ import annotations

from shared.protocol.clock import SECOND, Instant


def test_an_instant_reads_both_clocks_in_milliseconds() -> None:
    """Named, so that nobody mixes them up."""
    now = Instant(wall=5, elapsed=7)

    assert (now.wall, now.elapsed) == (5, 7)
    assert SECOND == 1000

"""Time as an argument. The core never reads a clock; whoever calls it says what time it is."""

from __future__ import annotations

from typing import NamedTuple

SECOND = 1000


class Instant(NamedTuple):
    """One reading of both clocks, in milliseconds.

    `wall` is the time since the Unix epoch and may jump; it only ever meets timestamps that a peer sent. `elapsed` is
    monotonic; deadlines and lifetimes are measured with it.
    """

    wall: int
    elapsed: int

"""Durations as a histogram: where a value is counted, and what Prometheus is told."""

from __future__ import annotations

import pytest

from shared.durations import Durations


def test_a_duration_counts_in_the_bucket_whose_bound_it_does_not_exceed() -> None:
    """And in all above it."""
    durations = Durations((0.1, 1.0))

    for seconds in (0.05, 0.1, 0.5, 7.0):
        durations.note(seconds)

    assert durations.cumulative() == [("0.1", 2.0), ("1.0", 3.0), ("+Inf", 4.0)]
    assert durations.count == 4
    assert durations.total == pytest.approx(7.65)


def test_one_duration_may_count_for_many_or_for_none() -> None:
    """A write that went to a whole group, and one that nobody got."""
    durations = Durations((1.0,))

    durations.note(0.5, 200)
    durations.note(9.0, 0)

    assert durations.cumulative() == [("1.0", 200.0), ("+Inf", 200.0)]
    assert durations.total == pytest.approx(100.0)

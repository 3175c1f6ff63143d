"""The guard finds what has become slower, what was not measured, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lab.bench import crypto
from lab.bench.comparison import line
from lab.bench.guard import Bound, Bounds, bounds, judge
from lab.bench.part import QUICK, Unwatched
from lab.bench.peers import textbook
from lab.bench.results import Results
from shared.crypto.suites import DEFAULT_SUITE
from tests.bench_results import results, row

KEPT = Bounds(0.6, [Bound("P3", "deliveries", "a broker", 2.0)])
HASH = crypto.OPERATIONS.index("hash")


@pytest.mark.parametrize(("ours", "found"), [(121, 0), (119, 1)])
def test_a_row_falls_below_a_share_of_the_ratio_that_was_kept(ours: float, found: int) -> None:
    """Which leaves room for noise, and for nothing else."""
    assert len(judge(results(row(ours, 100)), KEPT, every_peer=False)) == found


def test_the_finding_says_what_was_measured_and_what_was_kept() -> None:
    """Enough to begin to look."""
    (found,) = judge(results(row(50, 100)), KEPT, every_peer=False)
    assert found == "P3, deliveries, beside a broker: 0.5 ×, where 1.2 × is the least and 2 × was kept."


def test_a_missing_peer_is_a_finding_only_where_all_are_required() -> None:
    """Elsewhere it is named by the command, and its rows are left out."""
    run = results(row(50, None))
    assert judge(run, KEPT, every_peer=False) == []
    assert judge(run, KEPT, every_peer=True) == ["Debian package nats-server is not installed."]


def test_a_bound_that_nothing_was_measured_for_is_a_finding() -> None:
    """A row that is renamed, or dropped, does not drop its bound."""
    assert judge(results(), KEPT, every_peer=False) == ["P3, deliveries, beside a broker: was not measured."]


def test_a_part_that_came_to_no_result_is_a_finding() -> None:
    """With its reason."""
    run = results(row(200, 100), failed=True)
    assert judge(run, KEPT, every_peer=False) == [
        "churn came to no result: BenchFailed: the doctor has ended."
    ]


@pytest.mark.parametrize(("times", "trips"), [(1, False), (4, True)])
def test_a_slowdown_of_the_real_thing_trips_its_real_bound(times: int, trips: bool) -> None:
    """The hash that the benchmark measures, done four times over for each call."""
    method = crypto.ours(DEFAULT_SUITE)
    slowed = replace(method, digest=lambda: [method.digest() for _ in range(times)][-1])
    toy = crypto.published(textbook.PUBLISHED_BITS)
    extent = replace(QUICK, runs=5)
    ((found,),) = crypto.operation(HASH, [slowed if trips else method], [toy], extent, Unwatched())
    run = Results([line(found)], [], [], [], True, results().surroundings)
    kept = bounds()
    kept = Bounds(kept.margin, [each for each in kept.rows if each.measure == found.measure])
    assert len(kept.rows) == 1
    assert bool(judge(run, kept, every_peer=True)) is trips


def test_a_row_is_bound_once() -> None:
    """Of two bounds for one row nobody would know which holds."""
    keys = [(each.id, each.measure, each.peer) for each in bounds().rows]
    assert len(keys) == len(set(keys))

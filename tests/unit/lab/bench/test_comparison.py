"""A comparison says how many times better we are, and never remembers a peer that is not there."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from lab.bench.comparison import Better, Comparison, Figure, Point, line, series, significant, within
from lab.bench.tables import table


def comparison(
    ours: float, theirs: float | None, better: Better = Better.HIGHER, target: float | None = 1.3
) -> Comparison:
    """One measure beside one peer."""
    peer = None if theirs is None else Figure.of([theirs])
    return Comparison("P3", "deliveries", "1/s", better, Figure.of([ours]), "a broker", peer, target)


@pytest.mark.parametrize(
    ("ours", "theirs", "better", "ratio"),
    [(200.0, 100.0, Better.HIGHER, 2.0), (2.0, 5.0, Better.LOWER, 2.5), (5.0, 2.0, Better.LOWER, 0.4)],
)
def test_a_ratio_is_how_many_times_better_we_are(
    ours: float, theirs: float, better: Better, ratio: float
) -> None:
    """Whichever way the figure counts."""
    assert comparison(ours, theirs, better).ratio == pytest.approx(ratio)


def test_a_promise_is_met_missed_or_not_tried() -> None:
    """Without the peer there is no ratio, and so nothing is met."""
    assert comparison(130, 100).met is True
    assert comparison(129, 100).met is False
    assert comparison(130, None).met is None
    assert comparison(130, 100, target=None).met is None


def test_a_promised_limit_is_kept_up_to_the_limit() -> None:
    """It needs no peer, and is a ratio all the same."""
    assert within("P7", "memory a patient", "KiB", Figure.of([16.0]), 16).met is True
    assert within("P7", "memory a patient", "KiB", Figure.of([20.0]), 16).ratio == pytest.approx(0.8)


def test_a_figure_is_the_median_with_its_spread() -> None:
    """One odd run moves it little."""
    assert Figure.of([1.0, 2.0, 9.0]) == Figure(2.0, 4.0, 3)


def test_figures_are_rounded_to_what_they_carry() -> None:
    """Four digits."""
    assert significant(123_456.0) == 123_500.0
    assert line(comparison(1 / 3, 3)).ours == 0.3333


def test_the_table_names_a_peer_that_is_missing() -> None:
    """And puts nothing in its place."""
    out = io.StringIO()
    Console(file=out, width=80).print(table("fanout", [line(comparison(130, None))]))
    assert "not installed" in out.getvalue()
    assert "≥ 1.3" in out.getvalue()


def test_a_series_is_in_the_order_of_the_number_of_patients() -> None:
    """And rounded as the lines are."""
    found = series("P8", "memory", "KiB", "ours", {1000: 10.12345, 100: 9.0})
    assert found.points == [Point(100, 9.0), Point(1000, 10.12)]

"""Named networks, the campaign's grid of them, and what counts as soon."""

from __future__ import annotations

import pytest

from lab.faults.proxy import Weather
from lab.faults.rows.weather import CI, Climate, climates, figures
from lab.faults.weather import WEATHERS, grid, weather_named
from shared.errors import UserError


def test_the_grid_is_every_combination_and_its_names_tell_which() -> None:
    """Three delays, with and without a narrow line, stalls and lost connections."""
    found = grid()

    assert len(found) == len(set(found.values())) == 24
    rural = found["200 ms, 1 Mbit/s, stalls"]
    assert (rural.delay, rural.bandwidth, rural.loss) == (0.2, 125_000, 0.0)
    assert rural.stall_chance > 0
    assert {weather.jitter for weather in found.values()} == {0.5}


def test_continuous_integration_takes_its_four_and_a_release_all_of_them() -> None:
    """The four are among the grid, with one of each kind of trouble."""
    assert tuple(climate.name for climate in climates(4)) == CI
    assert {climate.name for climate in climates(24)} == set(grid())
    assert {climate.weather.delay for climate in climates(4)} == {0.05, 0.2, 1.0}
    assert any(climate.weather.loss for climate in climates(4))


def test_only_gentle_weather_must_let_nearly_everybody_in_soon() -> None:
    """Where a connection may be lost or a second passes each way, coming back at all is what counts."""
    assert Climate("gentle", Weather(delay=0.2, stall_chance=0.1, stall=1.0)).strict
    assert not Climate("lossy", Weather(delay=0.2, loss=0.1)).strict
    assert not Climate("far", Weather(delay=1.0)).strict
    assert Climate("some", Weather(), [1.0, 2.0, 15.0, 15.1]).share_soon == 0.75


def test_figures_are_told_by_delay() -> None:
    """All weathers of one delay together."""
    told = dict(
        figures([Climate("a", Weather(delay=0.2), [1.0, 3.0]), Climate("b", Weather(delay=0.2), [2.0])])
    )

    assert told == {"handshakes": 3, "p50_at_200_ms_s": 2.0, "p99_at_200_ms_s": 3.0}


def test_a_weather_that_nobody_knows_is_answered_with_those_that_there_are() -> None:
    """By its name."""
    assert weather_named("fair") == Weather()
    assert {"fair", "clinic-wifi", "rural", "storm"} <= set(WEATHERS)
    with pytest.raises(UserError, match=r"no weather 'drizzle'.*rural"):
        weather_named("drizzle")

"""Networks with a name, from a clinic's own to a storm in the country: for the demo, for containers, and for the campaign's grid."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from lab.faults.proxy import FAIR, Weather
from shared.errors import UserError

MEGABIT = 1_000_000 // 8  # bytes a second

WEATHERS: Mapping[str, Weather] = {
    "fair": FAIR,
    "clinic-wifi": Weather(delay=0.01, jitter=0.5, bandwidth=20 * MEGABIT, stall_chance=0.01, stall=0.2),
    "rural": Weather(delay=0.2, jitter=0.5, bandwidth=MEGABIT, stall_chance=0.05, stall=1.0),
    "satellite": Weather(delay=0.6, jitter=0.1, bandwidth=2 * MEGABIT, stall_chance=0.02, stall=2.0),
    "storm": Weather(delay=0.2, jitter=0.5, bandwidth=MEGABIT, stall_chance=0.05, stall=1.0, loss=0.02),
}


def weather_named(name: str) -> Weather:
    """One of WEATHERS.

    Raises:
        UserError: there is none of that name; says which there are.
    """
    if name not in WEATHERS:
        raise UserError(f"There is no weather {name!r}. There are: {', '.join(WEATHERS)}.")
    return WEATHERS[name]


def described(weather: Weather) -> str:
    """A weather in words."""
    parts = (
        [f"{weather.delay * 1000:g} ms each way, give or take {weather.jitter:.0%}"] if weather.delay else []
    )
    parts += [f"{weather.bandwidth / MEGABIT:g} Mbit/s"] if weather.bandwidth else []
    if weather.stall_chance:
        parts.append(f"{weather.stall_chance:.0%} of the packets stall for {weather.stall:g} s")
    if weather.loss:
        parts.append(f"{weather.loss:.0%} of them cost the connection")
    return ", ".join(parts) or "fair"


def grid() -> dict[str, Weather]:
    """Every combination of delay, bandwidth, stalls and lost connections, by a name that says which it is."""
    found = {}
    for delay, bandwidth, stalls, loss in itertools.product(
        (0.05, 0.2, 1.0), (0, MEGABIT), (0.0, 0.05), (0.0, 0.02)
    ):
        name = f"{delay * 1000:g} ms"
        name += ", 1 Mbit/s" if bandwidth else ""
        name += ", stalls" if stalls else ""
        name += ", lost connections" if loss else ""
        found[name] = Weather(delay, 0.5, bandwidth, stalls, 5 * delay if stalls else 0.0, loss)
    return found

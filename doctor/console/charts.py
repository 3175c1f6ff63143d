"""The course of vitals as drawings: lines in a box that is 1000 wide and 100 high, whatever room the page gives it.

Law: numbers in, numbers out; the template writes them as SVG. However many readings there are, a drawing has a bound: of those that fall
into one column the lowest and the highest are kept, so that no peak is lost.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from doctor.console.measures import NAMES, UNITS
from doctor.thresholds import Thresholds
from doctor.watching import Reading
from shared.vitals import Measure

WIDTH, HEIGHT = 1000, 100
COLUMNS = 200
PAUSE = 20  # over more than this part of the time that is shown no line is drawn
_STEPS = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)


@dataclass(frozen=True, slots=True)
class _Plan:
    """A drawing to be: of which measures, and the values that it shows in any case."""

    title: str
    measures: tuple[Measure, ...]
    low: float
    high: float


_PLANS = (
    _Plan("Heart rate", (Measure.HEART_RATE,), 40, 140),
    _Plan("Blood pressure", (Measure.SYSTOLIC, Measure.DIASTOLIC), 60, 180),
    _Plan("Oxygen saturation", (Measure.SPO2,), 88, 100),
    _Plan("Temperature", (Measure.TEMPERATURE,), 35, 39),
)


@dataclass(frozen=True, slots=True)
class Line:
    """One measure: its name, `path` as SVG has it, and what people read of it."""

    measure: str
    name: str
    path: str
    lowest: float
    highest: float
    last: float


@dataclass(frozen=True, slots=True)
class Limit:
    """A threshold at a height, and the part of the box that is beyond it for all that is drawn there: from `top`, so high."""

    y: float
    top: float
    height: float


@dataclass(frozen=True, slots=True)
class Chart:
    """One drawing. `ticks`: what its horizontal lines stand for, from above; `rows`: their heights."""

    title: str
    unit: str
    lines: tuple[Line, ...]
    limits: tuple[Limit, ...]
    ticks: tuple[str, ...]
    rows: tuple[float, ...]


def draw(readings: Sequence[Reading], bounds: Thresholds, start: int, end: int) -> list[Chart]:
    """Those measures that there is anything of. `start`, `end`: the time that is shown, in milliseconds."""
    found = []
    for plan in _PLANS:
        values = {measure: _values(readings, measure) for measure in plan.measures}
        known = {measure: each for measure, each in values.items() if each}
        if known:
            found.append(_draw(plan, known, bounds, start, end))
    return found


def _values(readings: Iterable[Reading], measure: Measure) -> list[tuple[int, float]]:
    """When and how much."""
    found = []
    for reading in readings:
        value = reading.vitals.values().get(measure) if reading.vitals else None
        if value is not None:
            found.append((reading.time, value))
    return found


def _draw(
    plan: _Plan, values: dict[Measure, list[tuple[int, float]]], bounds: Thresholds, start: int, end: int
) -> Chart:
    every = [value for each in values.values() for _, value in each]
    low, high, step = scale(min(plan.low, *every), max(plan.high, *every))
    count = round((high - low) / step)

    def place(value: float) -> float:
        return round(HEIGHT * (high - value) / (high - low), 2)

    def across(time: int) -> float:
        return round(WIDTH * (time - start) / max(1, end - start), 1)

    lines = []
    for measure, each in values.items():
        points = [(across(time), place(value)) for time, value in thinned(each, start, end)]
        numbers = [value for _, value in each]
        lines.append(
            Line(measure.value, NAMES[measure], path_of(points), min(numbers), max(numbers), numbers[-1])
        )
    limits = []
    for measure in values:
        watched = bounds.of(measure)
        if watched.high is not None and low <= watched.high <= high:
            y = place(watched.high)
            limits.append(Limit(y, 0.0, y if measure is plan.measures[0] else 0.0))
        if watched.low is not None and low <= watched.low <= high:
            y = place(watched.low)
            limits.append(Limit(y, y, HEIGHT - y if measure is plan.measures[-1] else 0.0))
    marks = [high - step * number for number in range(count + 1)]
    return Chart(
        plan.title,
        UNITS[plan.measures[0]],
        tuple(lines),
        tuple(limits),
        tuple(f"{mark:g}" for mark in marks),
        tuple(place(mark) for mark in marks),
    )


def scale(low: float, high: float) -> tuple[float, float, float]:
    """Round values around these two, and a round step of which there are at most five."""
    for step in _STEPS:
        bottom, top = math.floor(low / step) * step, math.ceil(high / step) * step
        if (top - bottom) / step <= 5:
            break
    return bottom, max(top, bottom + step), step


def thinned(values: Sequence[tuple[int, float]], start: int, end: int) -> list[tuple[int, float]]:
    """Of each column of the drawing the lowest and the highest value, in the order in which they were measured."""
    width = max(1, (end - start) / COLUMNS)
    columns: dict[int, list[tuple[int, float]]] = {}
    for each in values:
        columns.setdefault(int((each[0] - start) / width), []).append(each)
    found: list[tuple[int, float]] = []
    for column in columns.values():
        extremes = {min(column, key=lambda each: each[1]), max(column, key=lambda each: each[1])}
        found += sorted(extremes)
    return found


def path_of(points: Sequence[tuple[float, float]]) -> str:
    """One line, with a gap where nothing was measured for long; a value that stands alone is a dot."""
    parts: list[str] = []
    before: float | None = None
    for number, (x, y) in enumerate(points):
        broken = before is None or x - before > WIDTH / PAUSE
        parts.append(f"{'M' if broken else 'L'}{x:g} {y:g}")
        after = points[number + 1][0] if number + 1 < len(points) else math.inf
        if broken and after - x > WIDTH / PAUSE:
            parts.append("h0")
        before = x
    return "".join(parts)

"""P8: what a patient costs as patients become many: fan-out, rekey, memory, start-up.

Doctors with wards of all sizes are up at once and measured in turns, so that a machine that grows slower meanwhile does not
look like a cost that grows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lab.bench.comparison import Better, Comparison, Figure, Measured, Series, series
from lab.bench.doctor import MeasuredDoctor
from lab.bench.part import Extent, Progress
from lab.bench.peers.bare_ward import BareWard, bare_ward
from lab.bench.timing import alternate, turns
from lab.bench.ward import Ward, require_descriptors, ward
from shared.crypto.suites import DEFAULT_SUITE

FANOUT_TARGET = 0.87  # ours may grow 1.15 × as much as the bare loop
RUNS = 5
FLAT_TARGET = 0.769  # within 1.3 × of flat

FANOUT = "doctor CPU of one delivery of 1 KiB"
REKEY = "doctor CPU of a new epoch for one member"
MEMORY = "memory of the doctor for one connected patient"
START = "start of the doctor, CPU"

BARE, FLAT = "bare uvloop writes", "a flat line"

Figures = Mapping[int, Figure]


@dataclass(frozen=True, slots=True)
class Costs:
    """What was found, by the number of patients. Seconds and bytes."""

    fanout: Figures
    floor: Figures
    rekey: Figures
    memory: Figures
    start: Figures  # 0: nobody on the roster


def compare(extent: Extent, progress: Progress) -> Measured:
    """P8 for wards of all sizes. Raises UserError where the system does not allow as many connections."""
    require_descriptors(max(extent.patients))
    costs = _measure(extent, progress)
    return Measured([*_growths(costs), *_each_size(costs)], [], _curves(costs))


def _measure(extent: Extent, progress: Progress) -> Costs:
    sizes, runs, starting = extent.patients, min(extent.runs, RUNS), extent.repeats
    progress.plan(len(sizes) + turns(3 * len(sizes), runs) + turns(1 + len(sizes), starting, warmed_up=True))
    with tempfile.TemporaryDirectory(prefix="telemed-bench-") as directory:
        places = {size: Path(directory) / str(size) for size in (0, *sizes)}
        with ExitStack() as stack:
            wards, floors = [], []
            for size in sizes:
                wards.append(stack.enter_context(ward(size, places[size])))
                floors.append(stack.enter_context(bare_ward(size)))
                progress.step()
            costs = _of_wards(wards, floors, runs, progress)
        with MeasuredDoctor(places[0], DEFAULT_SUITE.name):
            pass  # its first start makes keys and a database, as that of each ward has done
        starts = alternate(
            [partial(_start, place) for place in places.values()], starting, progress, warmed_up=True
        )
        return Costs(*costs, dict(zip(places, starts, strict=True)))


def _of_wards(
    wards: Sequence[Ward], floors: Sequence[BareWard], runs: int, progress: Progress
) -> tuple[Figures, Figures, Figures, Figures]:
    both = [each.fanout for pair in zip(wards, floors, strict=True) for each in pair]
    deliveries = alternate(both, runs, progress)
    keys = alternate([each.rekey for each in wards], runs, progress)
    sizes = [each.patients for each in wards]
    memory = [Figure.of([each.memory()]) for each in wards]
    fanout, floor = deliveries[::2], deliveries[1::2]
    return (
        dict(zip(sizes, fanout, strict=True)),
        dict(zip(sizes, floor, strict=True)),
        dict(zip(sizes, keys, strict=True)),
        dict(zip(sizes, memory, strict=True)),
    )


def _start(directory: Path) -> float:
    """Processor seconds until a doctor with this state takes devices."""
    with MeasuredDoctor(directory, DEFAULT_SUITE.name) as doctor:
        return doctor.processor_seconds()


def _growths(costs: Costs) -> list[Comparison]:
    flat = Figure.of([1.0])
    fewest, most = min(costs.fanout), max(costs.fanout)
    span = f"from {fewest:,} to {most:,} patients"
    return [
        _growth(FANOUT, span, _grown(costs.fanout), BARE, _grown(costs.floor), FANOUT_TARGET),
        _growth(REKEY, span, _grown(costs.rekey), FLAT, flat, FLAT_TARGET),
        _growth(MEMORY, span, _grown(costs.memory), FLAT, flat, FLAT_TARGET),
    ]


def _growth(what: str, span: str, ours: Figure, peer: str, theirs: Figure, target: float) -> Comparison:
    note = (
        "last figure over first; what the doctor pays once, however many patients it has, is taken off before"
    )
    return Comparison(
        "P8", f"growth of the {what} {span}", "×", Better.LOWER, ours, peer, theirs, target, note
    )


def _grown(figures: Figures) -> Figure:
    few, many = figures[min(figures)], figures[max(figures)]
    return Figure(many.value / few.value, max(few.spread, many.spread), min(few.runs, many.runs))


def _each_size(costs: Costs) -> list[Comparison]:
    def row(what: str, size: int, unit: str, ours: Figure, peer: str, theirs: Figure) -> Comparison:
        return Comparison("P8", f"{what}, {size:,} patients", unit, Better.LOWER, ours, peer, theirs, None)

    rows = []
    for size in sorted(costs.fanout):
        fanout, floor = costs.fanout[size].scaled(1e6), costs.floor[size].scaled(1e6)
        rows.append(row(FANOUT, size, "µs", fanout, BARE, floor))
    fewest = min(costs.fanout)
    for what, unit, figures, by in ((REKEY, "µs", costs.rekey, 1e6), (MEMORY, "KiB", costs.memory, 1 / 1024)):
        first = figures[fewest].scaled(by)
        rows += [
            row(what, size, unit, figures[size].scaled(by), f"with {fewest:,} patients", first)
            for size in sorted(figures)
            if size != fewest
        ]
    alone = costs.start[0]
    rows += [
        row(START, size, "s", costs.start[size], "nobody on the roster", alone)
        for size in sorted(costs.fanout)
    ]
    return rows


def _curves(costs: Costs) -> list[Series]:
    def values(figures: Figures, by: float) -> dict[int, float]:
        return {size: figure.value * by for size, figure in figures.items()}

    alone = costs.start[0].value
    started = {
        size: max(0.0, figure.value - alone) / size * 1e6 for size, figure in costs.start.items() if size
    }
    return [
        series("P8", FANOUT, "µs", "ours", values(costs.fanout, 1e6)),
        series("P8", FANOUT, "µs", BARE, values(costs.floor, 1e6)),
        series("P8", REKEY, "µs", "ours", values(costs.rekey, 1e6)),
        series("P8", MEMORY, "KiB", "ours", values(costs.memory, 1 / 1024)),
        series("P8", f"{START} for one patient on the roster", "µs", "ours", started),
    ]

"""Clocks of the benchmark: wall time of small functions, processor time of whole processes, repeats that alternate.

Law: two figures that are compared are taken in turns, ours and theirs and ours again, so that a machine that grows slower or
faster meanwhile wrongs neither.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lab.bench.comparison import Figure
from lab.bench.part import Progress, Unwatched

SHORTEST_RUN = 0.02  # seconds; a function is repeated within a run until it takes at least that


def alternate(
    measures: Sequence[Callable[[], float]],
    runs: int,
    progress: Progress | None = None,
    warmed_up: bool = False,
) -> list[Figure]:
    """Take each measure `runs` times, in turns, after one turn that does not count.

    Each measure of each turn is a step of the progress: `turns` says how many that are. `warmed_up`: what is measured has been
    done just before, so that the first turn counts.
    """
    progress = progress or Unwatched()
    taken: list[list[float]] = [[] for _ in measures]
    for turn in range(turns(1, runs, warmed_up)):
        for values, measure in zip(taken, measures, strict=True):
            value = measure()
            progress.step()
            if turn or warmed_up:
                values.append(value)
    return [Figure.of(values) for values in taken]


def turns(measures: int, runs: int, warmed_up: bool = False) -> int:
    """How many steps `alternate` takes."""
    return measures * (runs + (not warmed_up))


def seconds_per_call(work: Callable[[], object], least: int = 100) -> float:
    """Processor seconds that one call takes, averaged over so many calls at least, and more where they are short."""
    calls = least
    with _without_collector():
        while True:
            began = time.process_time()
            for _ in range(calls):
                work()
            spent = time.process_time() - began
            if spent >= SHORTEST_RUN:
                return spent / calls
            # The last run alone counts, so reading the clock is spread over all of its calls.
            calls = max(calls + 1, int(calls * 1.2 * SHORTEST_RUN / max(spent, SHORTEST_RUN / 10)))


def processor_seconds(pid: int) -> float:
    """Processor time of a process and all its threads so far, to the nanosecond where the kernel counts so."""
    total = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        total += int((thread / "schedstat").read_text().split()[0])
    return total / 1e9


def resident_bytes(pid: int) -> int:
    """The physical memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@contextmanager
def _without_collector() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()

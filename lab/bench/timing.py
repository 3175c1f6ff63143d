"""Clocks of the benchmark: wall time of small functions, processor time of whole processes, repeats that alternate.

Law: two figures that are compared are taken in turns, ours and theirs and ours again, so that a machine that grows slower or
faster meanwhile wrongs neither.
"""

from __future__ import annotations

import gc
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lab.bench.comparison import Figure

SHORTEST_RUN = 0.02  # seconds; a function is repeated within a run until it takes at least that


def alternate(measures: Sequence[Callable[[], float]], runs: int) -> list[Figure]:
    """Take each measure `runs` times, in turns, after one turn that does not count."""
    taken: list[list[float]] = [[] for _ in measures]
    for turn in range(runs + 1):
        for values, measure in zip(taken, measures, strict=True):
            value = measure()
            if turn:
                values.append(value)
    return [Figure.of(values) for values in taken]


def seconds_per_call(work: Callable[[], object], least: int = 100) -> float:
    """Seconds that one call takes, averaged over at least `least` calls."""
    with _without_collector():
        calls, spent = 0, 0.0
        while calls < least or spent < SHORTEST_RUN:
            began = time.perf_counter()
            for _ in range(least):
                work()
            spent += time.perf_counter() - began
            calls += least
    return spent / calls


def processor_seconds(pid: int) -> float:
    """Processor time of a process and all its threads so far, to the nanosecond where the kernel counts so."""
    total = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        total += int((thread / "schedstat").read_text().split()[0])
    return total / 1e9


def resident_bytes(pid: int) -> int:
    """The physical memory that a process holds."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def machine() -> str:
    """What it ran on, in a line."""
    model = next(
        (
            text.partition(":")[2].strip()
            for text in Path("/proc/cpuinfo").read_text().splitlines()
            if text.startswith("model name")
        ),
        platform.machine(),
    )
    processors = len(os.sched_getaffinity(0))
    return f"{processors} × {model}, Linux {platform.release()}, Python {platform.python_version()}"


@contextmanager
def _without_collector() -> Iterator[None]:
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()

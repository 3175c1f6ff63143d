"""What a long-running doctor uses: memory, open files, log, write-ahead log; and whether it grows.

Law: looks from outside, by the kernel's account (Linux, proc(5)). A trend is the median of all slopes between two samples (Theil and Sen), which
a garbage collection or a page that comes and goes does not move.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from lab.faults import memory
from lab.processes import Program

INTERVAL = 2.0  # seconds between two samples
AT_MOST = 400  # samples that a trend is made from; the number of slopes is its square


@dataclass(frozen=True, slots=True)
class Sample:
    """At `time` seconds of the monotonic clock: MB resident, open descriptors, lines logged, MB of the write-ahead log."""

    time: float
    resident: float
    descriptors: int
    lines: int
    wal: float


def take(doctor: Program, state_dir: Path) -> Sample:
    """One sample of a doctor that runs on `state_dir`. Raises OSError where it is gone."""
    pid = doctor.pid
    wal = state_dir / "doctor.db-wal"
    return Sample(
        time.monotonic(),
        memory.of(pid).resident,
        len(list(Path(f"/proc/{pid}/fd").iterdir())),
        len(doctor.lines),
        wal.stat().st_size / 1e6 if wal.exists() else 0.0,
    )


class Gauge:
    """Samples of a doctor."""

    def __init__(self, doctor: Program, state_dir: Path) -> None:
        self.samples: list[Sample] = []
        self._doctor = doctor
        self._state_dir = state_dir

    async def watch(self) -> None:
        """Sample until cancelled."""
        while True:
            self.samples.append(take(self._doctor, self._state_dir))
            await asyncio.sleep(INTERVAL)


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The trend of (x, y): the median of the slopes between any two; 0 where there are not two."""
    thinned = points[:: max(1, len(points) // AT_MOST)]
    pairs = itertools.combinations(thinned, 2)
    slopes = [(y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in pairs if x1 != x2]
    return median(slopes) if slopes else 0.0


def growth_a_ten_minutes(samples: Sequence[Sample]) -> float:
    """By how much of itself the memory grows in ten minutes: 0.01 is one percent."""
    points = [(each.time, each.resident) for each in samples]
    return slope(points) * 600 / median(each.resident for each in samples)

"""What counts as growing, and what does not."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from lab.faults.gauge import Sample, growth_a_ten_minutes, slope, take
from lab.faults.rows.soak import DESCRIPTORS, LONG, WAL, growth
from lab.processes import Program


def samples(seconds: int, a_minute: float = 0.0, **last: float) -> list[Sample]:
    """A doctor of 100 MB that grows by so many MB a minute; `last` changes the last sample."""
    found = [
        Sample(float(time), 100 + a_minute * time / 60, 20, time // 10, 4.0)
        for time in range(0, seconds + 1, 2)
    ]
    changed = {**{name: getattr(found[-1], name) for name in Sample.__slots__}, **last}
    return [*found[:-1], Sample(**changed)]


def test_a_trend_is_not_moved_by_what_comes_and_goes() -> None:
    """The median of all slopes."""
    points = [(float(x), 2.0 * x) for x in range(100)]
    points[50] = (50.0, 10_000.0)

    assert slope(points) == pytest.approx(2.0)
    assert slope(points[:1]) == 0.0
    assert growth_a_ten_minutes(samples(600)) == 0.0
    assert growth_a_ten_minutes(samples(600, 0.1)) == pytest.approx(0.01, rel=0.01)


def test_over_an_hour_a_percent_in_ten_minutes_is_too_much() -> None:
    """Half of it is not."""
    found, figures = growth(samples(3600, 0.05), 18_000, 3600)
    assert found == []
    assert figures["rss_percent_in_10_min"] == pytest.approx(0.5, abs=0.02)

    found, _ = growth(samples(3600, 0.2), 18_000, 3600)
    assert "grows by 1.8" in found[0]


def test_over_minutes_the_growth_itself_is_bounded() -> None:
    """A percent in two minutes are caches that fill; six are not."""
    assert growth(samples(120, 0.5), 600, LONG - 1)[0] == []
    assert "has grown by 5.83" in growth(samples(120, 3.0), 600, LONG - 1)[0][0]


@pytest.mark.parametrize(
    ("last", "words"),
    [
        ({"descriptors": 20 + DESCRIPTORS + 1}, "more files open"),
        ({"lines": 10_000}, "lines a message"),
        ({"wal": WAL + 1}, "write-ahead log"),
    ],
)
def test_files_logs_and_the_write_ahead_log_may_not_grow(last: dict[str, float], words: str) -> None:
    """Each is named."""
    (found,), _ = growth(samples(120, **last), 600, 180)

    assert words in found


async def test_a_sample_is_the_kernels_account(tmp_path: Path) -> None:
    """Of the process itself, and of its database's log."""
    (tmp_path / "doctor.db-wal").write_bytes(bytes(2_000_000))
    idle = "import time; print('{}', flush=True); time.sleep(60)"
    async with Program("idle", ["-c", idle], {}, "stdout") as program:
        await program.wait_for("have started", lambda started: bool(started.lines), 10)
        sample = take(program, tmp_path)

        assert sample.wal == 2.0
        assert sample.resident > 1
        assert sample.descriptors >= 3
        os.kill(program.pid, 9)
        await asyncio.wait_for(program.ended_by_itself(), 10)

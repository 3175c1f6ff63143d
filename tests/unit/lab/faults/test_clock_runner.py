"""A program under a wrong clock: its wall clock is off and can be moved, its steady clock is not touched."""

from __future__ import annotations

import runpy
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

from lab.faults import clock_runner
from lab.faults.clock_runner import WrongClock, put_under
from shared.net import stream
from shared.net.stream import clock

HOUR = 3600.0


def test_only_the_wall_clock_is_wrong_and_it_can_be_set_while_the_program_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has imported the clock function before reads the wrong clock too."""
    monkeypatch.setattr(stream, "time", time)
    wrong = WrongClock(tmp_path / "clock", HOUR)
    put_under(wrong.path)

    before = time.time_ns() // 1_000_000
    ahead = clock()
    assert before + 3_600_000 <= ahead.wall <= time.time_ns() // 1_000_000 + 3_600_000
    wrong.set(-HOUR)
    behind = clock()
    assert behind.wall - ahead.wall == pytest.approx(-7_200_000, abs=60_000)
    assert ahead.elapsed <= behind.elapsed <= time.monotonic_ns() // 1_000_000


def test_the_arguments_run_the_program_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the runner's own arguments come the program's, as its `__main__` expects them."""
    seen: list[tuple[str, list[str]]] = []

    def run_module(name: str, run_name: str, alter_sys: bool) -> dict[str, ModuleType]:
        seen.append((name, list(sys.argv)))
        assert (run_name, alter_sys) == ("__main__", True)
        return {}

    monkeypatch.setattr(stream, "time", time)
    monkeypatch.setattr(runpy, "run_module", run_module)
    arguments = WrongClock(tmp_path / "clock").runs("patient", "anna", "--json")
    assert arguments[:2] == ["-m", clock_runner.MODULE]
    monkeypatch.setattr(sys, "argv", arguments[1:])
    clock_runner.main()

    assert seen == [("patient", ["patient", "anna", "--json"])]


def test_another_program_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name."""
    monkeypatch.setattr(sys, "argv", ["runner", str(tmp_path / "clock"), "clockwork"])
    with pytest.raises(SystemExit, match="clockwork"):
        clock_runner.main()

"""The kill rows draw every point before any comes again, and a small one runs from end to end."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from lab.faults.points import DOCTOR, schedule
from lab.faults.row import Scale, Trial
from lab.faults.rows import kill_doctor, kill_patient


def test_every_point_comes_before_any_comes_again() -> None:
    """And each at a call that its errand brings about."""
    drawn = schedule(DOCTOR, 2 * len(DOCTOR) + 5, random.Random(1))
    names = [point.name for point, _ in drawn]
    assert set(names[: len(DOCTOR)]) == set(names[len(DOCTOR) : 2 * len(DOCTOR)])
    assert len(names) == 2 * len(DOCTOR) + 5
    assert all(1 <= nth <= point.most for point, nth in drawn)


def test_the_draw_repeats_itself_for_a_seed() -> None:
    """So that a finding can be looked for again."""
    first, again, other = (schedule(DOCTOR, 40, random.Random(seed)) for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.slow  # the campaign runs the rows themselves
async def test_a_doctor_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    """The row itself, at a size for a unit test."""
    seen = []
    trial = Trial(Scale(1, 2, 4), 3, tmp_path, lambda done, total: seen.append((done, total)))
    tally = await kill_doctor.ROW.run(trial)
    assert (tally.tried, tally.survived, tally.findings) == (1, 1, ())
    assert (tally.lost, tally.duplicated, tally.leaked) == (0, 0, 0)
    assert seen == [(1, 1)]
    assert dict(tally.figures)["records_opened"] > 0


@pytest.mark.slow  # the campaign runs the rows themselves
async def test_a_patient_that_is_killed_loses_nothing_and_shows_nothing_twice(tmp_path: Path) -> None:
    """Its device is a process; the point, its program has said, is where it died."""
    tally = await kill_patient.ROW.run(Trial(Scale(1, 1, 3), 2, tmp_path, lambda done, total: None))
    assert (tally.tried, tally.survived, tally.findings) == (1, 1, ())
    assert dict(tally.figures)["points"] == 1

"""Settings below a directory of the test's own, conditions that let no time pass, and logs that are strict."""

from __future__ import annotations

from pathlib import Path

import pytest

from patient.device import Conditions
from patient.settings import PatientSettings
from shared import logs
from tests.patient_bench import Bench, Heard, Pauses


@pytest.fixture
def heard() -> Heard:
    """A listener for notices."""
    return Heard()


@pytest.fixture
def pauses() -> Pauses:
    """A clock's substitute."""
    return Pauses()


@pytest.fixture
def conditions(pauses: Pauses) -> Conditions:
    """Real entropy, no waiting, no renewal of sessions."""
    return Conditions(pause=pauses, renewal_after=lambda: 1e6)


@pytest.fixture
def settings(tmp_path: Path) -> PatientSettings:
    """Settings below a directory of the test's own."""
    return PatientSettings(state_dir=str(tmp_path / "patients"))


@pytest.fixture
def bench(settings: PatientSettings, heard: Heard, conditions: Conditions) -> Bench:
    """One device's surroundings."""
    return Bench(settings, heard, conditions)


@pytest.fixture(autouse=True)
def _strict_logs() -> None:
    """A log event with a field that is not allowed fails the test."""
    logs.configure("debug", "json", strict=True)

"""The latest trouble of each patient."""

from __future__ import annotations

import pytest

from doctor import troubles
from doctor.troubles import Troubles


def test_the_latest_trouble_counts() -> None:
    """With its time; nobody else has it."""
    noted = Troubles()
    noted.note("anna", "first", 0)
    noted.note("anna", "second", 1_000)

    assert noted.of("anna") == "1970-01-01 00:00:01 UTC: second"
    assert noted.of("bert") is None


def test_only_so_many_patients_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one whose trouble is oldest goes, not the one that was the first to have any."""
    monkeypatch.setattr(troubles, "LIMIT", 2)
    noted = Troubles()
    for name in ("anna", "bert", "anna", "carl"):
        noted.note(name, "x", 0)

    assert [name for name in ("anna", "bert", "carl") if noted.of(name)] == ["anna", "carl"]

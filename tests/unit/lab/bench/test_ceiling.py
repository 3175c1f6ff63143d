"""The ceiling of a suite: four operations, measured, and no handshake in it."""

from __future__ import annotations

import pytest

from lab.bench import ceiling
from shared.crypto.suites import DEFAULT_SUITE


def test_the_ceiling_is_what_the_four_operations_take_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them once, and each of them works."""
    called = []

    def timed(work: object) -> float:
        assert callable(work)
        called.append(work())
        return 0.25

    monkeypatch.setattr(ceiling, "seconds_per_call", timed)

    assert ceiling.handshakes_a_second(DEFAULT_SUITE) == 1
    assert len(called) == 4

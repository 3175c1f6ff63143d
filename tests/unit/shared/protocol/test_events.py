"""Events are what ends in logs: they must be safe to print."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import get_args

import pytest

from shared.crypto.secret import Secret
from shared.crypto.signatures import Algorithm
from shared.crypto.suites import SuiteId
from shared.protocol.events import Alerted, Event, Verified
from shared.wire.opcodes import AlertCode


def test_a_verified_event_does_not_print_the_contribution() -> None:
    """It is a share in the group's secret."""
    contribution = Secret(b"canary-canary-canary-canary-cana")
    event = Verified("p", Algorithm.ECDSA_P256, b"", SuiteId.ELGAMAL_P256, None, contribution, 1, 2)

    assert "canary" not in repr(event)
    assert "Secret(32 bytes)" in repr(event)


def test_events_are_facts() -> None:
    """Nobody changes them afterwards."""
    event = Alerted(AlertCode.BUSY, 0, authentic=False)

    with pytest.raises(FrozenInstanceError):
        event.code = AlertCode.CLOCK  # type: ignore[misc]
    assert all(hasattr(kind, "__slots__") for kind in get_args(Event))

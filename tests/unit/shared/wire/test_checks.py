"""The checks as a list, and the checklist that applies them."""

from __future__ import annotations

import pytest

from shared.errors import CryptoError, InvalidSeal, LocalError
from shared.wire.checks import Check, Checklist, PeerError
from shared.wire.opcodes import AlertCode


def test_numbers_are_unique_and_in_order() -> None:
    """A number is a name; the enum would hide a second one as an alias."""
    numbers = [check.number for check in Check]

    assert numbers == sorted(set(numbers))
    assert len(Check.__members__) == len(Check)


def test_no_rule_is_told_as_sealed() -> None:
    """SEALED is a form of an alert, not a code."""
    assert [check for check in Check if check.alert is AlertCode.SEALED] == []


def test_a_peer_error_says_which_rule_and_why() -> None:
    """For the log."""
    error = PeerError(Check.SUITE_ALLOWED, "suite 9 is not allowed here")

    assert str(error) == "V-010 suite 9 is not allowed here"
    assert (error.check, error.detail, error.clocks) == (
        Check.SUITE_ALLOWED,
        "suite 9 is not allowed here",
        None,
    )


def test_a_checklist_remembers_what_passed_and_stops_at_what_does_not() -> None:
    """In order, and without the one that failed."""
    checks = Checklist()
    checks.require(True, Check.SUITE_ALLOWED, "")
    with checks.guard(Check.REQUEST_OPENS, ""):
        pass
    checks.require_clock(Check.REQUEST_CLOCK, 100, 130, 30, "")
    with pytest.raises(PeerError, match="V-032 no"):
        checks.require(False, Check.REQUEST_DOCTOR, "no")
    with pytest.raises(PeerError, match="V-062 it shows 100, this clock shows 131"):
        checks.require_clock(Check.VERIFIER_CLOCK, 100, 131, 30, "it shows")

    assert checks.passed == [Check.SUITE_ALLOWED, Check.REQUEST_OPENS, Check.REQUEST_CLOCK]


def test_a_guard_turns_a_primitives_refusal_into_the_peers_fault() -> None:
    """And nothing else: our own mistakes stay our own."""
    checks = Checklist()

    with (
        pytest.raises(PeerError, match="V-050 response: the tag") as caught,
        checks.guard(Check.RESPONSE_OPENS, "response"),
    ):
        raise InvalidSeal("the tag does not verify")
    with pytest.raises(LocalError), checks.guard(Check.RESPONSE_OPENS, "response"):
        raise LocalError("ours")
    assert isinstance(caught.value.__cause__, CryptoError)
    assert checks.passed == []

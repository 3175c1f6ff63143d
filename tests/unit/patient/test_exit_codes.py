"""The exit codes are an interface: numbers, names and one sentence each."""

from __future__ import annotations

from patient.exit_codes import ExitCode, Refusal
from shared.errors import UserError


def test_numbers_stay_what_they_are() -> None:
    """Scripts depend on the numbers."""
    numbers = {code.name: int(code) for code in ExitCode}

    assert numbers == {
        "OK": 0,
        "UNEXPECTED": 1,
        "USAGE": 2,
        "INVITATION": 3,
        "WRONG_DOCTOR": 4,
        "CLOCK": 5,
        "SUITE": 6,
        "REVOKED": 7,
        "NOT_ENROLLED": 8,
        "UNREACHABLE": 9,
        "STORAGE": 10,
    }


def test_each_code_has_a_sentence_of_its_own() -> None:
    """The table in --help explains every code."""
    meanings = [code.meaning for code in ExitCode]

    assert all(meanings)
    assert len(set(meanings)) == len(meanings)


def test_a_refusal_is_a_user_error_with_a_code() -> None:
    """What handles UserError handles a Refusal."""
    refusal = Refusal(ExitCode.CLOCK, "Set the clock.")

    assert isinstance(refusal, UserError)
    assert (refusal.code, str(refusal)) == (ExitCode.CLOCK, "Set the clock.")

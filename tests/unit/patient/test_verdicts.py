"""Each end of a connection has one sentence, one exit code, and only the doctor's authentic word is final."""

from __future__ import annotations

import pytest

from patient.exit_codes import ExitCode
from patient.verdicts import (
    EXIT_CODES,
    FAULTLESS,
    FINAL,
    Ending,
    InboxFailed,
    Reason,
    Situation,
    Unreachable,
    judge,
)
from shared.protocol.events import Alerted, Disconnected, Failed
from shared.wire.checks import Check
from shared.wire.opcodes import AlertCode, DisconnectReason

NOW = 1_800_000_000_000
SITUATION = Situation("alice", "doctor", "elgamal-p256", "h:7700", False, 45.0, NOW)
ENROLLING = Situation("alice", "doctor", "elgamal-p256", "h:7700", True, 45.0, NOW)
HOUR = 3_600_000


def authentic(code: AlertCode, peer_clock: int = NOW) -> Alerted:
    """An alert that only the doctor can have sent."""
    return Alerted(code, peer_clock, authentic=True)


def hint(code: AlertCode) -> Alerted:
    """An alert that anybody can have sent."""
    return Alerted(code, 0, authentic=False)


ENDS: list[tuple[str, Ending, Situation, Reason, ExitCode, bool]] = [
    ("revoked, sealed", authentic(AlertCode.REVOKED), SITUATION, Reason.REVOKED, ExitCode.REVOKED, True),
    (
        "invitation expired, sealed",
        authentic(AlertCode.INVITATION_EXPIRED),
        ENROLLING,
        Reason.INVITATION_EXPIRED,
        ExitCode.INVITATION,
        True,
    ),
    (
        "invitation used, sealed",
        authentic(AlertCode.INVITATION_USED),
        ENROLLING,
        Reason.INVITATION_USED,
        ExitCode.INVITATION,
        True,
    ),
    ("refused", hint(AlertCode.REFUSED), SITUATION, Reason.NOT_ENROLLED, ExitCode.NOT_ENROLLED, False),
    (
        "refused while enrolling",
        hint(AlertCode.REFUSED),
        ENROLLING,
        Reason.INVITATION_REFUSED,
        ExitCode.INVITATION,
        False,
    ),
    ("unsupported", hint(AlertCode.UNSUPPORTED), SITUATION, Reason.SUITE, ExitCode.SUITE, False),
    ("busy", hint(AlertCode.BUSY), SITUATION, Reason.BUSY, ExitCode.UNREACHABLE, False),
    ("malformed", hint(AlertCode.MALFORMED), SITUATION, Reason.PROTOCOL, ExitCode.UNEXPECTED, False),
    ("clock", hint(AlertCode.CLOCK), SITUATION, Reason.CLOCK, ExitCode.CLOCK, False),
    (
        "closing",
        Disconnected(DisconnectReason.CLOSING),
        SITUATION,
        Reason.CLOSING,
        ExitCode.UNREACHABLE,
        False,
    ),
    (
        "replaced",
        Disconnected(DisconnectReason.REPLACED),
        SITUATION,
        Reason.REPLACED,
        ExitCode.UNEXPECTED,
        False,
    ),
    ("revoked", Disconnected(DisconnectReason.REVOKED), SITUATION, Reason.REVOKED, ExitCode.REVOKED, True),
    ("retired", Disconnected(DisconnectReason.RETIRED), SITUATION, Reason.RETIRED, ExitCode.OK, True),
    (
        "lagging",
        Disconnected(DisconnectReason.LAGGING),
        SITUATION,
        Reason.LAGGING,
        ExitCode.UNREACHABLE,
        False,
    ),
    ("cut", None, SITUATION, Reason.CUT, ExitCode.UNREACHABLE, False),
    ("unreachable", Unreachable("refused"), SITUATION, Reason.UNREACHABLE, ExitCode.UNREACHABLE, False),
    ("disk full", InboxFailed("disk full"), SITUATION, Reason.STORAGE, ExitCode.STORAGE, False),
    *(
        (check.number, Failed(check, "x"), SITUATION, reason, code, False)
        for check, reason, code in (
            (Check.DOCTOR_PINNED, Reason.WRONG_DOCTOR, ExitCode.WRONG_DOCTOR),
            (Check.PREKEY_SIGNATURE, Reason.WRONG_DOCTOR, ExitCode.WRONG_DOCTOR),
            (Check.RESPONSE_SIGNATURE, Reason.WRONG_DOCTOR, ExitCode.WRONG_DOCTOR),
            (Check.PREKEY_FRESH, Reason.CLOCK, ExitCode.CLOCK),
            (Check.RESPONSE_CLOCK, Reason.CLOCK, ExitCode.CLOCK),
            (Check.HANDSHAKE_DEADLINE, Reason.UNREACHABLE, ExitCode.UNREACHABLE),
            (Check.STREAM_COMPLETE, Reason.CUT, ExitCode.UNREACHABLE),
            (Check.FRAME_VERSION, Reason.PROTOCOL, ExitCode.UNEXPECTED),
        )
    ),
]


@pytest.mark.parametrize(
    ("ending", "situation", "reason", "code", "final"),
    [row[1:] for row in ENDS],
    ids=[row[0] for row in ENDS],
)
def test_an_end_means(
    ending: Ending, situation: Situation, reason: Reason, code: ExitCode, final: bool
) -> None:
    """Reason, exit code and finality of each end."""
    verdict = judge(ending, situation)

    assert (verdict.reason, verdict.code, verdict.final) == (reason, code, final)
    assert verdict.sentence.endswith((".", "?", "full"))


@pytest.mark.parametrize("code", list(AlertCode))
def test_no_alert_in_clear_is_final(code: AlertCode) -> None:
    """Anybody on the way can write one."""
    for situation in (SITUATION, ENROLLING):
        assert not judge(hint(code), situation).final


@pytest.mark.parametrize("code", [AlertCode.REVOKED, AlertCode.INVITATION_USED, AlertCode.INVITATION_EXPIRED])
def test_a_forged_final_alert_is_not_believed(code: AlertCode) -> None:
    """These codes are only ever sealed; in clear they are somebody else's."""
    assert judge(hint(code), SITUATION).reason is Reason.PROTOCOL


def test_every_reason_has_an_exit_code() -> None:
    """And what is final is not also faultless."""
    assert set(EXIT_CODES) == set(Reason)
    assert not FINAL & FAULTLESS


def test_a_sealed_clock_alert_tells_both_clocks() -> None:
    """The user can see which one is wrong."""
    sentence = judge(authentic(AlertCode.CLOCK, NOW + HOUR), SITUATION).sentence

    assert "this device's shows 2027-01-15T08:00:00.000" in sentence
    assert "the doctor's 2027-01-15T09:00:00.000" in sentence


def test_who_found_the_clocks_too_far_apart_is_told() -> None:
    """The doctor's window is not this device's: naming ours for its refusal would contradict the two times beside it."""
    assert "45 s" not in judge(authentic(AlertCode.CLOCK, NOW + 31_000), SITUATION).sentence
    assert "(for the doctor)" in judge(authentic(AlertCode.CLOCK, NOW + 31_000), SITUATION).sentence
    failed = Failed(Check.RESPONSE_CLOCK, "x", None, (NOW + HOUR, NOW))
    assert "(at most 45 s here)" in judge(failed, SITUATION).sentence


def test_a_clock_alert_in_clear_tells_only_our_own() -> None:
    """A time that anybody can have written is not shown as the doctor's."""
    assert "the doctor's is not known" in judge(hint(AlertCode.CLOCK), SITUATION).sentence


def test_a_stale_prekey_tells_when_it_was_made() -> None:
    """Its valid_until is 15 s after that."""
    failed = Failed(Check.PREKEY_FRESH, "x", None, (NOW - HOUR + 15_000, NOW))

    assert "the doctor's 2027-01-15T07:00:00.000" in judge(failed, SITUATION).sentence


def test_a_response_tells_the_doctors_clock() -> None:
    """B's timestamp is signed."""
    failed = Failed(Check.RESPONSE_CLOCK, "x", None, (NOW + HOUR, NOW))

    assert "the doctor's 2027-01-15T09:00:00.000" in judge(failed, SITUATION).sentence


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        (hint(AlertCode.UNSUPPORTED), "TELEMED_PATIENT_SUITE"),
        (hint(AlertCode.BUSY), "h:7700"),
        (Failed(Check.PREKEY_SIGNATURE, "x"), "not the doctor 'doctor'"),
        (Failed(Check.FRAME_OPCODE, "x"), "V-002"),
        (Unreachable("Connection refused"), "Connection refused"),
        (Disconnected(DisconnectReason.REPLACED), "alice"),
    ],
)
def test_a_sentence_names_what_it_is_about(ending: Ending, words: str) -> None:
    """What was wrong, where, what to do."""
    assert words in judge(ending, SITUATION).sentence


def test_an_authentic_refusal_is_said_to_be_one() -> None:
    """A hint "seems"; a sealed alert does not."""
    assert "The doctor refuses the invitation" in judge(authentic(AlertCode.REFUSED), ENROLLING).sentence
    assert "The doctor seems to refuse alice" in judge(hint(AlertCode.REFUSED), SITUATION).sentence


def test_a_sealed_busy_says_that_a_second_copy_may_run() -> None:
    """The doctor turns a device away for a while whose sessions replace one another; it is asked again, with pauses."""
    verdict = judge(authentic(AlertCode.BUSY), SITUATION)

    assert "alice away for a minute" in verdict.sentence
    assert "second copy" in verdict.sentence
    assert (verdict.reason, verdict.code, verdict.final) == (Reason.BUSY, ExitCode.UNREACHABLE, False)
    assert verdict.reason not in FAULTLESS
    assert "second copy" not in judge(hint(AlertCode.BUSY), SITUATION).sentence

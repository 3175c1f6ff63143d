"""The patient's checks on a handshake. Each test shows an honest message that passes and one with a single flaw that fails.

The flawed message comes from a doctor that holds the pinned keys and signs and seals what it changed, so that the checks
before the one under test pass, and the failure is for the named reason.
"""

from __future__ import annotations

from typing import Any

import pytest

from shared.crypto.signatures import Algorithm
from shared.crypto.suites import SUITES, Suite, SuiteId
from shared.protocol.events import Alerted, Traced
from shared.protocol.patient_handshake import Enrolment, Request
from shared.protocol.transitions import State
from shared.wire.checks import Check
from shared.wire.opcodes import AlertCode
from tests.crypto_tools import flip_bit
from tests.protocol_bench import WALL, Clinic, Outcome, events_of, only, outcome
from tests.protocol_puppets import PuppetDoctor

REFUSED, CLOCK = AlertCode.REFUSED, AlertCode.CLOCK
P256 = SUITES[SuiteId.ELGAMAL_P256]


def reply(clinic: Clinic, suite: Suite = P256, **changes: Any) -> Outcome:
    """What a patient makes of one KEY_EXCHANGE_REPLY."""
    device = clinic.patient(suite=suite)
    patient = clinic.patient_connection(device)
    patient.receive_data(
        PuppetDoctor(clinic, device).reply(patient.data_to_send(), **changes), clinic.clock.now
    )
    return outcome(patient)


def response(clinic: Clinic, suite: Suite = P256, **changes: Any) -> Outcome:
    """What a patient makes of one AUTH_RESPONSE."""
    device = clinic.patient(suite=suite)
    patient = clinic.patient_connection(device)
    puppet = PuppetDoctor(clinic, device)
    patient.receive_data(puppet.reply(patient.data_to_send()), clinic.clock.now)
    patient.receive_data(puppet.response(patient.data_to_send(), **changes), clinic.clock.now)
    return outcome(patient)


def accepted(result: Outcome, check: Check) -> bool:
    """Whether everything passed, this check among it."""
    return result.verdict is None and check in result.passed


def test_v020_the_reply_names_the_pinned_doctor() -> None:
    """Another doctor's name under a signature that would verify is refused."""
    assert accepted(reply(Clinic()), Check.DOCTOR_PINNED)
    assert reply(Clinic(), doctor_id="another").verdict == ("V-020", REFUSED, False)


def test_v021_the_prekey_is_signed_by_the_pinned_key() -> None:
    """Not by another doctor's, not by nobody."""
    stranger = Clinic("stranger").keys[Algorithm.ECDSA_P256]

    assert accepted(reply(Clinic()), Check.PREKEY_SIGNATURE)
    assert reply(Clinic(), key=stranger).verdict == ("V-021", REFUSED, False)
    assert reply(Clinic(), signature=b"").verdict == ("V-021", REFUSED, False)


@pytest.mark.parametrize("skew", [-45_001, -45_000, 45_000, 45_001])
def test_v022_the_prekey_is_fresh(skew: int) -> None:
    """valid_until lies within 45 s of the patient's clock, both ways."""
    result = reply(Clinic(), valid_until=WALL + skew)

    inside = abs(skew) <= 45_000
    assert accepted(result, Check.PREKEY_FRESH) is inside
    assert result.verdict == (None if inside else ("V-022", CLOCK, False))


@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.name)
def test_v023_the_prekey_is_an_element(suite: Suite) -> None:
    """A pinned doctor that signs nonsense is refused before anything is encapsulated to it."""
    clinic = Clinic()
    size = suite.kem.public_size
    good = suite.kem.generate(clinic.random).public
    bad = [b"", bytes(size), b"\xff" * size, flip_bit(good, 8 * size - 8) if suite.id > 1 else good[:-1]]

    assert accepted(reply(clinic, suite), Check.PREKEY_ELEMENT)
    assert [reply(clinic, suite, kem_public=value).verdict for value in bad] == [
        ("V-023", REFUSED, False)
    ] * 4


def test_v050_the_response_opens_under_k2() -> None:
    """A changed seal, a ciphertext for nobody, one of the wrong size."""
    foreign = P256.kem.generate(Clinic().random).public
    flawed = [{"sealed": bytes(528)}, {"kem_ciphertext": foreign}, {"kem_ciphertext": b""}]

    assert accepted(response(Clinic()), Check.RESPONSE_OPENS)
    assert [response(Clinic(), outer=outer).verdict for outer in flawed] == [("V-050", REFUSED, False)] * 3


def test_v051_the_response_names_this_patient() -> None:
    """A response made for another patient."""
    assert accepted(response(Clinic()), Check.RESPONSE_PATIENT)
    assert response(Clinic(), claims={"patient_id": "patient-b"}).verdict == ("V-051", REFUSED, False)


def test_v052_the_response_returns_the_nonce() -> None:
    """A response to another request."""
    assert accepted(response(Clinic()), Check.RESPONSE_NONCE)
    assert response(Clinic(), claims={"patient_nonce": bytes(32)}).verdict == ("V-052", REFUSED, False)


def test_v053_the_doctor_proves_the_session_key() -> None:
    """A signature alone is not enough."""
    assert accepted(response(Clinic()), Check.RESPONSE_CONFIRMS)
    assert response(Clinic(), proof={"confirmation": bytes(32)}).verdict == ("V-053", REFUSED, False)


def test_v054_the_response_is_signed_by_the_pinned_key() -> None:
    """A thief of the prekey can do everything but this."""
    stranger = Clinic("stranger").keys[Algorithm.ECDSA_P256]

    assert accepted(response(Clinic()), Check.RESPONSE_SIGNATURE)
    assert response(Clinic(), key=stranger).verdict == ("V-054", REFUSED, False)
    assert response(Clinic(), proof={"signature": bytes(64)}).verdict == ("V-054", REFUSED, False)


@pytest.mark.parametrize("skew", [-45_001, -45_000, 45_000, 45_001])
def test_v055_the_responses_timestamp_lies_within_the_window(skew: int) -> None:
    """Both edges."""
    result = response(Clinic(), claims={"timestamp": WALL + skew})

    inside = abs(skew) <= 45_000
    assert accepted(result, Check.RESPONSE_CLOCK) is inside
    assert result.verdict == (None if inside else ("V-055", CLOCK, False))


def test_a_patient_sends_neither_its_id_nor_its_key_in_clear() -> None:
    """Everything that a listener sees of a handshake names nobody but the doctor."""
    clinic = Clinic()
    enrolment = clinic.invite("patient-new")
    device = clinic.patient("patient-new", standing=None, enrolment=enrolment)
    link = clinic.link(device).run()

    seen = b"".join(frame for frames in link.sent.values() for frame in frames)

    assert b"doctor" in seen
    for private in (b"patient-new", device.identity.key.public, enrolment.invitation_id, enrolment.secret):
        assert private not in seen


def test_sealed_handshake_messages_have_one_size_per_suite() -> None:
    """Neither the length of an id nor an enrolment shows."""
    clinic = Clinic()
    long = clinic.patient("p" * 64, P256, standing=None, enrolment=clinic.invite("p" * 64))
    short = clinic.patient("p", P256)

    def sizes(device: Any) -> list[int]:
        traces = events_of(Traced, clinic.link(device).run().patient_events)
        return [trace.size for trace in traces]

    assert sizes(long) == sizes(short)


def test_reprs_hide_what_a_phase_knows() -> None:
    """A traceback may print them."""
    clinic = Clinic()
    device = clinic.patient(enrolment=Enrolment(b"i" * 16, b"s" * 32))
    patient = clinic.patient_connection(device)
    patient.receive_data(PuppetDoctor(clinic, device).reply(patient.data_to_send()), clinic.clock.now)

    assert isinstance(patient._phase, Request)
    assert repr(patient._phase) == "Request(…)"
    assert repr(device.identity.enrolment) == f"Enrolment({b'i'.hex() * 16})"
    assert "ssss" not in repr(device.identity)


def test_the_doctors_sealed_alert_is_believed_and_its_clock_with_it() -> None:
    """Only the doctor holds the alert key of this handshake."""
    clinic = Clinic()
    device = clinic.patient()
    patient = clinic.patient_connection(device)
    puppet = PuppetDoctor(clinic, device)
    patient.receive_data(puppet.reply(patient.data_to_send()), clinic.clock.now)
    puppet.open_request(patient.data_to_send())
    clinic.clock.jump(90_000)
    patient.receive_data(puppet.alert(CLOCK), clinic.clock.now)

    assert only(Alerted, patient.take_events()) == Alerted(CLOCK, WALL + 90_000, authentic=True)
    assert patient.state is State.CLOSED

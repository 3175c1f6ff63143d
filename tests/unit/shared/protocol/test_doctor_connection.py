"""The doctor's connection: admission, refusal, and what it sends when."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.crypto.signatures import Algorithm
from shared.crypto.suites import SuiteId
from shared.errors import LocalError
from shared.protocol.doctor_connection import DoctorConnection
from shared.protocol.doctor_handshake import Practice
from shared.protocol.events import Positioned, Receipted, Verified
from shared.protocol.transitions import State
from shared.wire.checks import Check
from shared.wire.messages import Position
from shared.wire.opcodes import AlertCode
from tests.protocol_bench import ESTABLISHED, EVERYONE, WALL, Clinic, events_of, only, outcome
from tests.protocol_puppets import PuppetPatient


def verified(clinic: Clinic | None = None) -> tuple[Clinic, DoctorConnection, PuppetPatient]:
    """A doctor's connection whose patient is verified and waits for the roster."""
    clinic = clinic or Clinic()
    doctor = clinic.doctor_connection()
    puppet = PuppetPatient(clinic.patient(), clinic.clock, clinic.random)
    now = clinic.clock.now
    doctor.receive_data(puppet.key_exchange(), now)
    doctor.receive_data(puppet.auth_request(doctor.data_to_send()), now)
    doctor.receive_data(puppet.session_verifier(doctor.data_to_send()), now)
    assert doctor.state is State.ADMITTING
    return clinic, doctor, puppet


def test_an_admission_that_comes_too_late_does_nothing() -> None:
    """The patient may hang up while the roster's transaction runs; that is no fault of the program."""
    clinic, doctor, _ = verified()
    doctor.receive_eof(clinic.clock.now)

    doctor.admit(clinic.clock.now)

    assert doctor.state is State.CLOSED


def test_a_practice_needs_a_signing_key_for_every_suite_it_allows() -> None:
    """Our own mistake shows when the program starts, not when the first patient comes."""
    clinic = Clinic()
    p = clinic.practice
    keys = {Algorithm.ECDSA_P256: clinic.envelope_key}

    with pytest.raises(LocalError, match="SCHNORR_FFDHE3072"):
        Practice(p.doctor_id, keys, frozenset(SuiteId), p.directory, p.prekeys, p.replays, p.random)


def test_an_admission_before_the_proof_is_our_error() -> None:
    """The program would let somebody in that has proved nothing."""
    clinic = Clinic()
    doctor = clinic.doctor_connection()

    with pytest.raises(LocalError, match="admit before the session is verified"):
        doctor.admit(clinic.clock.now)

    assert doctor.state is State.AWAIT_KEY_EXCHANGE


def test_a_second_admission_is_our_error() -> None:
    """It would start the counters of the same keys again."""
    clinic, doctor, _ = verified()
    doctor.admit(clinic.clock.now)
    opener = doctor._opener

    with pytest.raises(LocalError, match="or twice"):
        doctor.admit(clinic.clock.now)

    assert doctor._opener is opener


def test_a_refusal_is_told_under_seal_and_ends_only_this_connection() -> None:
    """Whatever the roster's transaction has against it."""
    clinic = Clinic()
    live = clinic.link(clinic.patient()).run()
    _, doctor, puppet = verified(clinic)

    doctor.refuse(Check.NOT_REVOKED, "revoked meanwhile", clinic.clock.now)

    assert outcome(doctor, puppet.alert_key).verdict == ("V-037", AlertCode.REVOKED, True)
    assert live.run().states == ESTABLISHED


def test_verified_says_who_and_what_both_clocks_show() -> None:
    """For the roster and the log."""
    clinic = Clinic()
    device = clinic.patient()
    patient, doctor = clinic.patient_connection(device), clinic.doctor_connection()
    doctor.receive_data(patient.data_to_send(), clinic.clock.now)
    patient.receive_data(doctor.data_to_send(), clinic.clock.now)
    doctor.receive_data(patient.data_to_send(), clinic.clock.now)
    patient.receive_data(doctor.data_to_send(), clinic.clock.now)
    clinic.clock.advance(700)
    doctor.receive_data(patient.data_to_send(), clinic.clock.now)

    event = only(Verified, doctor.take_events())
    assert (event.patient_id, event.public_key) == ("patient-a", device.identity.key.public)
    assert (event.patient_clock, event.doctor_clock) == (WALL, WALL + 700)
    assert len(event.contribution) == 32


def test_contributions_differ_from_session_to_session() -> None:
    """Fresh shares each time."""
    clinic = Clinic()
    device = clinic.patient()
    first, second = (only(Verified, clinic.link(device).run().doctor_events) for _ in range(2))

    assert first.contribution != second.contribution


def test_the_handshakes_deadline_can_be_set() -> None:
    """For slow links."""
    clinic = Clinic()
    clinic.practice = replace(clinic.practice, handshake_deadline=25_000)

    assert clinic.doctor_connection().next_deadline() == 25_000


def test_receipts_are_told_in_order() -> None:
    """The first says where the patient stands, all others what it has applied."""
    link = Clinic().link().run()
    for number in (1, 2):
        link.patient.acknowledge([Position(EVERYONE, number, [])])
    link.run()

    assert only(Positioned, link.doctor_events).positions == ()
    told = [event.positions[0].last for event in events_of(Receipted, link.doctor_events)]
    assert told == [1, 2]

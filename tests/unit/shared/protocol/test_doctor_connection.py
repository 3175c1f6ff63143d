"""The doctor's connection: admission, refusal, and what it sends when."""

from __future__ import annotations

import pytest

from shared.crypto.signatures import Algorithm
from shared.crypto.suites import SuiteId
from shared.errors import LocalError
from shared.protocol.doctor_connection import DoctorConnection
from shared.protocol.doctor_handshake import Practice
from shared.protocol.transitions import State
from tests.protocol_bench import Clinic, PuppetPatient


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

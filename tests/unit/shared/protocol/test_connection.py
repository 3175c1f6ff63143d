"""Two real connections over a fake link: the handshake as a whole, and what both roles do alike."""

from __future__ import annotations

import pytest

from shared.crypto.suites import SUITES, Suite
from shared.protocol.doctor_handshake import Standing
from shared.protocol.events import Confirmed, EpochBegun, Positioned, Traced, Verified
from shared.protocol.invitations import derived_id
from tests.protocol_bench import ESTABLISHED, GROUP, Clinic, events_of, only

ALL_SUITES = pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.name)


@ALL_SUITES
@pytest.mark.parametrize("chunk", [None, 1, 7, 1000], ids=lambda chunk: f"chunk-{chunk or 'whole'}")
def test_a_handshake_establishes_both_sides(suite: Suite, chunk: int | None) -> None:
    """Each suite, in whole writes and in portions down to single bytes."""
    clinic = Clinic()
    device = clinic.patient(suite=suite)

    link = clinic.link(device, chunk=chunk).run()

    assert link.states == ESTABLISHED
    verified = only(Verified, link.doctor_events)
    assert (verified.patient_id, verified.suite) == (device.patient_id, suite.id)
    assert verified.public_key == device.identity.key.public
    assert only(Positioned, link.doctor_events).positions == ()
    assert only(EpochBegun, link.patient_events) == EpochBegun(GROUP, 1, 0)
    assert len(events_of(Confirmed, link.patient_events)) == 1
    assert [trace.message for trace in events_of(Traced, link.patient_events)] == [
        "KEY_EXCHANGE",
        "KEY_EXCHANGE_REPLY",
        "AUTH_REQUEST",
        "AUTH_RESPONSE",
        "SESSION_VERIFIER",
    ]


@ALL_SUITES
def test_a_new_patient_enrols_with_its_invitation(suite: Suite) -> None:
    """An invited id is verified although the roster does not know it, and the event names the invitation."""
    clinic = Clinic()
    enrolment = clinic.invite("patient-new")
    device = clinic.patient("patient-new", suite, standing=None, enrolment=enrolment)

    link = clinic.link(device).run()

    assert link.states == ESTABLISHED
    assert only(Verified, link.doctor_events).invitation_id == enrolment.invitation_id


def test_a_fleet_patient_enrols_with_the_id_derived_from_its_key() -> None:
    """A fleet invitation names no id."""
    clinic = Clinic()
    enrolment = clinic.invite(None, uses=5)
    key = clinic.patient().identity.key
    name = derived_id(clinic.patient("probe", key=key, standing=None).reader.patient_fingerprint)
    clinic.directory.members.clear()
    device = clinic.patient(name, key=key, standing=None, enrolment=enrolment)

    link = clinic.link(device).run()

    assert link.states == ESTABLISHED
    assert only(Verified, link.doctor_events).invitation_id == enrolment.invitation_id


def test_a_patient_on_the_roster_needs_no_invitation_and_uses_none() -> None:
    """An enrolment that was cut is tried again: the id and key match, so the invitation is not touched."""
    clinic = Clinic()
    enrolment = clinic.invite("patient-a", uses=0)
    device = clinic.patient("patient-a", enrolment=enrolment)

    link = clinic.link(device).run()

    assert link.states == ESTABLISHED
    assert only(Verified, link.doctor_events).invitation_id is None


def test_a_retired_patient_comes_back_with_the_same_key() -> None:
    """Retired is not revoked."""
    clinic = Clinic()

    link = clinic.link(clinic.patient(standing=Standing.RETIRED)).run()

    assert link.states == ESTABLISHED

"""Lies of those who enrol: invitations that are not theirs, not valid, or not proved."""

from __future__ import annotations

from dataclasses import replace

from lab.evil.clinic import DAY, Clinic
from lab.evil.lies.of_patients import lie
from lab.evil.misbehaviour import Liar, fails
from lab.evil.peer import equations as eq
from lab.evil.peer.patient import Credentials, PatientLies
from shared.crypto.signatures import Algorithm
from shared.protocol.doctor_handshake import OpenInvitation
from shared.wire.checks import Check


def _foreign_invitation(clinic: Clinic, who: Credentials) -> Credentials:
    return replace(who, invitation=clinic.invite("somebody-else"))


def _guessed_secret(clinic: Clinic, who: Credentials) -> Credentials:
    assert who.invitation is not None  # noqa: S101  these rows enrol; tells mypy
    return replace(who, invitation=(who.invitation[0], bytes(32)))


def _invented_invitation(clinic: Clinic, who: Credentials) -> Credentials:
    return replace(who, invitation=(clinic.random(16), clinic.random(32)))


def _changed_invitation(clinic: Clinic, who: Credentials, *, uses: int = 1, age: int = 0) -> Credentials:
    assert who.invitation is not None  # noqa: S101  these rows enrol; tells mypy
    invitation_id, secret = who.invitation
    expires = clinic.clock.now.wall + DAY - age
    clinic.ledger.invitations[invitation_id] = OpenInvitation(secret, expires, uses, who.patient_id)
    return who


def _fleet_name(clinic: Clinic, who: Credentials) -> Credentials:
    return replace(who, invitation=clinic.invite(None, uses=5))


def _owned_key(clinic: Clinic, who: Credentials) -> Credentials:
    clinic.roster("another", Algorithm(who.key.algorithm), who.key.public)
    return who


ROWS = (
    lie(
        "forged-enrolment-mac",
        "guesses an invitation's secret",
        fails(Check.ENROLMENT_MAC),
        enrols=True,
        situation=_guessed_secret,
        liar=Liar.STRANGER,
    ),
    lie(
        "invented-invitation",
        "enrols by an invitation that was never made",
        fails(Check.ENROLMENT_MAC),
        enrols=True,
        situation=_invented_invitation,
        liar=Liar.STRANGER,
    ),
    lie(
        "stolen-enrolment-mac",
        "brings the MAC of another handshake",
        fails(Check.ENROLMENT_MAC),
        PatientLies(mac_covered=lambda h_a: eq.digest(eq.AUTH_HASH, h_a)),
        enrols=True,
    ),
    lie(
        "missing-enrolment-mac",
        "names an invitation and proves nothing",
        fails(Check.ENROLMENT_MAC),
        PatientLies(proof=lambda proof: proof._replace(enrolment_mac=None)),
        enrols=True,
        liar=Liar.STRANGER,
    ),
    lie(
        "truncated-enrolment-mac",
        "brings half of the MAC",
        fails(Check.PAYLOAD_CANONICAL),
        PatientLies(proof=lambda proof: proof._replace(enrolment_mac=(proof.enrolment_mac or b"")[:16])),
        enrols=True,
    ),
    lie(
        "expired-invitation",
        "enrols a millisecond after its invitation's end",
        fails(Check.INVITATION_VALID),
        enrols=True,
        situation=lambda clinic, who: _changed_invitation(clinic, who, age=DAY + 1),
    ),
    lie(
        "used-invitation",
        "enrols by an invitation without a use left",
        fails(Check.INVITATION_UNUSED),
        enrols=True,
        situation=lambda clinic, who: _changed_invitation(clinic, who, uses=0),
    ),
    lie(
        "foreign-invitation",
        "enrols by an invitation that is for another id",
        fails(Check.INVITATION_ID),
        enrols=True,
        situation=_foreign_invitation,
    ),
    lie(
        "chosen-fleet-id",
        "takes an id of its choice with a fleet's invitation",
        fails(Check.INVITATION_ID),
        enrols=True,
        situation=_fleet_name,
    ),
    lie(
        "unknown-key-share",
        "enrols the key of another patient under its own id",
        fails(Check.KEY_UNCLAIMED),
        enrols=True,
        situation=_owned_key,
    ),
)

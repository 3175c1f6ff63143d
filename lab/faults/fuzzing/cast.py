"""One doctor and one patient in memory, honest, for whoever attacks what they say to each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from shared.crypto.kdf import Label
from shared.crypto.secret import Random
from shared.crypto.signatures import SIGNERS, Algorithm, SigningKey, fingerprint
from shared.crypto.suites import SUITES, Suite, SuiteId
from shared.protocol import envelopes
from shared.protocol.clock import SECOND, Instant
from shared.protocol.doctor_connection import DoctorConnection
from shared.protocol.doctor_handshake import Member, OpenInvitation, Practice, Standing
from shared.protocol.envelopes import Draft, Positions, Reader
from shared.protocol.patient_connection import PatientConnection
from shared.protocol.patient_handshake import Enrolment, Identity
from shared.protocol.prekeys import PrekeyRing
from shared.protocol.replay import ReplayCache
from shared.wire.messages import (
    SignedMessage,
    Stream,
    TargetKind,
)

NOW = Instant(1_800_000_000_000, 1_000)
DOCTOR, PATIENT, GROUP = "doctor", "patient-a", "everyone"
SUITE: Suite = SUITES[SuiteId.ELGAMAL_P256]
DAY = 24 * 3600 * SECOND
STREAM = Stream(TargetKind.GROUP, GROUP)


@dataclass(slots=True)
class Book:
    """A roster in memory."""

    members: dict[str, Member] = field(default_factory=dict)
    invitations: dict[bytes, OpenInvitation] = field(default_factory=dict)

    def member(self, patient_id: str) -> Member | None:
        """The row of an id."""
        return self.members.get(patient_id)

    def owner(self, key_fingerprint: str) -> Member | None:
        """The row that holds a key."""
        rows = self.members.values()
        found = (row for row in rows if fingerprint(row.algorithm, row.public_key) == key_fingerprint)
        return next(found, None)

    def invitation(self, invitation_id: bytes) -> OpenInvitation | None:
        """An open invitation."""
        return self.invitations.get(invitation_id)


class Cast:
    """One doctor and one patient in memory. `enrolling`: the patient is not on the roster yet."""

    def __init__(self, random: Random, enrolling: bool = False) -> None:
        self.random = random
        self.doctor_keys = {algorithm: signer.generate(random) for algorithm, signer in SIGNERS.items()}
        self.patient_key = SUITE.signer.generate(random)
        self.book = Book()
        invitation = None
        if enrolling:
            invitation = Enrolment(random(16), random(32))
            opened = OpenInvitation(invitation.secret, NOW.wall + DAY, 1, PATIENT)
            self.book.invitations[invitation.invitation_id] = opened
        else:
            row = Member(PATIENT, self.patient_key.algorithm, self.patient_key.public, Standing.ACTIVE)
            self.book.members[PATIENT] = row
        self.practice = Practice(
            DOCTOR,
            self.doctor_keys,
            frozenset(SUITES),
            self.book,
            PrekeyRing(DOCTOR, self.doctor_keys, random),
            ReplayCache(60 * SECOND),
            random,
        )
        pinned = self.doctor_keys[SUITE.signer.algorithm].public
        self.identity = Identity(PATIENT, self.patient_key, SUITE, DOCTOR, pinned, invitation)
        name = fingerprint(self.patient_key.algorithm, self.patient_key.public)
        self.reader = Reader(PATIENT, name, DOCTOR, self.envelope_key.public)

    @property
    def envelope_key(self) -> SigningKey:
        """What signs every envelope."""
        return self.doctor_keys[Algorithm.ECDSA_P256]

    def doctor(self) -> DoctorConnection:
        """The doctor's side of a new connection."""
        return DoctorConnection(self.practice, NOW)

    def patient(self) -> PatientConnection:
        """The patient's side of a new connection."""
        return PatientConnection(
            self.identity, self.reader, Positions(), NOW, self.random, report=_nothing_to_report
        )

    def signed_envelope(self, envelope: bytes, body: bytes | None) -> SignedMessage:
        """Whatever bytes, under the doctor's signature."""
        signer = SIGNERS[Algorithm.ECDSA_P256]
        signature = signer.sign(self.envelope_key, Label.ENVELOPE_SIGNATURE, envelope)
        return SignedMessage(envelope, signature, bytes(16), body)

    def message(self, number: int = 1, previous: int = 0) -> SignedMessage:
        """An honest message to everyone."""
        draft = Draft(STREAM, "", NOW.wall, NOW.wall + DAY, b"take two")
        return envelopes.sign(DOCTOR, self.envelope_key, draft, number, previous, self.random)


def _nothing_to_report() -> list[Any]:
    return []

"""Signed messages as a doctor of the second implementation writes them, and as those do who only wish to."""

from __future__ import annotations

from lab.evil.clinic import DAY, Clinic
from lab.evil.peer import equations as eq
from lab.evil.peer import wire
from lab.evil.peer.groups import INSTRUCTION, body_hash, sign_envelope
from lab.evil.peer.suites import SigningPair
from lab.evil.stages import HOME

BODY = b"Take two."


def envelope(
    clinic: Clinic,
    doctor_id: str,
    signer: SigningPair,
    number: int,
    previous: int,
    *,
    stream: wire.Stream = HOME,
    fingerprint: str = "",
    salt: bytes = bytes(16),
    body: bytes = BODY,
    lifetime: int = DAY,
) -> wire.Envelope:
    """The envelope of a message."""
    now = clinic.clock.now.wall
    return wire.Envelope(
        doctor_id,
        eq.fingerprint(signer.algorithm, signer.public),
        stream,
        fingerprint,
        number,
        previous,
        now,
        now + lifetime,
        INSTRUCTION,
        body_hash(salt, body),
    )


def letter(signer: SigningPair, made: wire.Envelope, body: bytes | None = BODY) -> wire.SignedMessage:
    """An envelope, signed, with a body beside it."""
    return sign_envelope(signer, made, bytes(16), body)

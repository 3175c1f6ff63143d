"""SPEC sections 9 and 10: epochs, broadcasts, and the doctor's signed envelopes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lab.evil.peer import equations as eq
from lab.evil.peer import wire
from lab.evil.peer.equations import Surprise, digest, kdf, open_seal, pad_padme, seal, unpad
from lab.evil.peer.suites import ECDSA, Random, SigningPair, verify

INSTRUCTION = 1


@dataclass(frozen=True, slots=True, repr=False)
class Epoch:
    """One epoch of a group, from its secret."""

    group: str
    number: int
    secret: bytes
    roster_hash: bytes

    @classmethod
    def begin(
        cls,
        doctor_id: str,
        group: str,
        number: int,
        contributions: Sequence[bytes],
        members: Sequence[str],
        random: Random,
    ) -> Epoch:
        """A doctor's new epoch: contributions in the order of patient ids, all members sorted."""
        salt = random(32)
        roster = digest(eq.ROSTER_HASH, salt, *(member.encode() for member in members))
        info = (doctor_id.encode(), group.encode(), number.to_bytes(8, "big"), roster)
        return cls(group, number, kdf(eq.EPOCH_SECRET, tuple(contributions), info, salt=salt), roster)

    @property
    def key(self) -> bytes:
        """What seals its broadcasts."""
        return kdf(eq.EPOCH_KEY, (self.secret,))

    @property
    def key_id(self) -> bytes:
        """How a broadcast names it."""
        return kdf(eq.EPOCH_KEY_ID, (self.secret,), size=16)

    def group_key(self, start: int = 0) -> wire.GroupKey:
        """GROUP_KEY for a member whose stream starts after `start`."""
        return wire.GroupKey(self.group, self.number, self.secret, self.roster_hash, start)

    def broadcast(self, sequence: int, message: wire.SignedMessage) -> bytes:
        """The BROADCAST of a message."""
        return self.broadcast_bytes(sequence, wire.encode(message))

    def broadcast_bytes(self, sequence: int, plaintext: bytes) -> bytes:
        """The BROADCAST of any bytes."""
        padded = pad_padme(plaintext)
        prefix = self.key_id + sequence.to_bytes(8, "big")
        head = wire.header(wire.BROADCAST, len(prefix) + len(padded) + 16)
        return head + prefix + seal(self.key, sequence, padded, head + prefix)

    def open(self, frame: bytes) -> wire.SignedMessage:
        """The message of a BROADCAST. Raises Surprise where it is of another epoch, or does not open."""
        body = wire.payload(frame, wire.BROADCAST)
        if body[:16] != self.key_id:
            raise Surprise("a broadcast of another epoch")
        sequence = int.from_bytes(body[16:24], "big")
        opened = open_seal(self.key, sequence, body[24:], frame[: wire.HEADER] + body[:24])
        return wire.decode(wire.SignedMessage, unpad(opened))


def epoch_of(message: wire.GroupKey) -> Epoch:
    """What a member holds after GROUP_KEY."""
    return Epoch(message.group, message.epoch, message.secret, message.roster_hash)


def sign_envelope(
    key: SigningPair, envelope: wire.Envelope, salt: bytes, body: bytes | None
) -> wire.SignedMessage:
    """An envelope as it stands, signed; the body beside it need not be the one that it covers."""
    encoded = wire.encode(envelope)
    return wire.SignedMessage(encoded, key.sign(eq.ENVELOPE_SIGNATURE, encoded), salt, body)


def body_hash(salt: bytes, body: bytes) -> bytes:
    """What an envelope covers of a body."""
    return digest(eq.BODY_HASH, salt, body)


def read_envelope(message: wire.SignedMessage, doctor_id: str, key: bytes) -> wire.Envelope:
    """The envelope of a message that the doctor signed. Raises Surprise where it did not."""
    envelope = wire.decode(wire.Envelope, message.envelope)
    if (envelope.doctor_id, envelope.signing_key) != (doctor_id, eq.fingerprint(ECDSA, key)):
        raise Surprise(f"an envelope of {envelope.doctor_id}")
    verify(ECDSA, key, eq.ENVELOPE_SIGNATURE, message.signature, message.envelope)
    if message.body is not None and body_hash(message.salt, message.body) != envelope.body_hash:
        raise Surprise("a body that the envelope does not cover")
    return envelope

"""Doctor-signed envelopes: who said what to whom, in which place of which stream.

The signature is made once, when a message is accepted, and stays with it however often the message is encrypted anew. A member
of a group holds the key that opens the group's broadcasts; because of the signature, the stream's name and `previous`
inside it, it can neither forge the doctor, nor pass one patient's message to another, nor hide one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from shared.crypto import kdf
from shared.crypto.kdf import Label
from shared.crypto.signatures import SIGNERS, Algorithm, SigningKey, fingerprint
from shared.errors import CryptoError
from shared.protocol.clock import Instant
from shared.protocol.patient_handshake import PREKEY_WINDOW
from shared.wire import messages
from shared.wire.checks import Check, PeerError
from shared.wire.messages import Envelope, SignedMessage, Stream, TargetKind

SALT_SIZE = 16
INSTRUCTION = 1  # the only kind of message so far

_SIGNER = SIGNERS[Algorithm.ECDSA_P256]  # envelopes are signed with the doctor's P-256 key whatever the suite


def body_hash(salt: bytes, body: bytes) -> bytes:
    """H(salt ‖ body); the 16 random bytes keep a short body from being guessed from its hash."""
    return kdf.digest(Label.BODY_HASH, salt, body)


@dataclass(frozen=True, slots=True)
class Draft:
    """A message that is about to be accepted: everything but its place in the stream."""

    stream: Stream
    fingerprint: str
    created: int
    expires: int
    body: bytes


def sign(
    doctor_id: str,
    key: SigningKey,
    draft: Draft,
    number: int,
    previous: int,
    random: Callable[[int], bytes],
) -> SignedMessage:
    """Doctor: give a message its place and sign it."""
    salt = random(SALT_SIZE)
    envelope = messages.encode(
        Envelope(
            doctor_id=doctor_id,
            signing_key=fingerprint(key.algorithm, key.public),
            stream=draft.stream,
            fingerprint=draft.fingerprint,
            number=number,
            previous=previous,
            created=draft.created,
            expires=draft.expires,
            kind=INSTRUCTION,
            body_hash=body_hash(salt, draft.body),
        )
    )
    return SignedMessage(envelope, _SIGNER.sign(key, Label.ENVELOPE_SIGNATURE, envelope), salt, draft.body)


@dataclass(frozen=True, slots=True)
class FormerKey:
    """A key of the doctor's that was pinned once. `until`: when it was rotated away, in milliseconds since the Unix epoch."""

    public: bytes
    until: int


@dataclass(frozen=True, slots=True)
class Reader:
    """Patient: who it is, which doctor it believes, and by how many milliseconds their clocks may differ.

    `former`: keys under which messages may still come that were made before a rotation.
    """

    patient_id: str
    patient_fingerprint: str
    doctor_id: str
    doctor_key: bytes  # ECDSA P-256, 65 bytes, pinned
    clock_window: int = PREKEY_WINDOW
    former: tuple[FormerKey, ...] = ()

    def verify(
        self, message: SignedMessage, group: str | None, now: Instant
    ) -> tuple[Envelope, bytes | None]:
        """The envelope, and the body unless it has expired by either clock. Position in the stream is judged by `Positions`.

        Args:
            group: the group whose key opened the message; None for a DIRECT, which the session's key opened.

        Raises:
            PeerError: V-080 to V-084 and V-086, and V-004 where the envelope is malformed.
        """
        envelope = messages.decode(Envelope, message.envelope)
        doctor_key = self._named_key(envelope, group)
        try:
            _SIGNER.verify(doctor_key, Label.ENVELOPE_SIGNATURE, message.signature, message.envelope)
        except CryptoError as error:
            raise PeerError(
                Check.ENVELOPE_SIGNATURE, f"message {envelope.number}: {error}"
            ) from error  # V-081
        if not self._addressed(envelope, group):
            detail = f"message {envelope.number} is for {envelope.stream}"
            raise PeerError(Check.ENVELOPE_TARGET, detail)  # V-082
        expired = now.wall > envelope.expires
        if message.body is None:
            # The doctor left it out by its own clock, which may be ahead of this one by the window that the handshake allows.
            if now.wall + self.clock_window <= envelope.expires:
                raise PeerError(
                    Check.ENVELOPE_BODY_PRESENT, f"message {envelope.number} has no body"
                )  # V-084
        elif body_hash(message.salt, message.body) != envelope.body_hash:
            raise PeerError(Check.ENVELOPE_BODY, f"message {envelope.number} has another body")  # V-083
        return envelope, None if expired else message.body

    def _named_key(self, envelope: Envelope, group: str | None) -> bytes:
        """The doctor's key that the envelope names."""
        if envelope.doctor_id == self.doctor_id:
            if envelope.signing_key == fingerprint(Algorithm.ECDSA_P256, self.doctor_key):
                return self.doctor_key
            for former in self.former:
                if envelope.signing_key == fingerprint(Algorithm.ECDSA_P256, former.public):
                    # A rotation ends every session, so what is older than it comes as DIRECT alone, and there the session's
                    # keys vouch for it: who has stolen a former key, and is a member of the group, can forge nothing.
                    if group is not None or envelope.created >= former.until:
                        detail = f"message {envelope.number}, made under a former key"
                        raise PeerError(Check.ENVELOPE_FORMER, detail)  # V-086
                    return former.public
        detail = f"from {envelope.doctor_id} with key {envelope.signing_key}"
        raise PeerError(Check.ENVELOPE_DOCTOR, detail)  # V-080

    def _addressed(self, envelope: Envelope, group: str | None) -> bool:
        if envelope.stream.kind is TargetKind.GROUP:
            # A DIRECT carries the start number of its stream under the session's key: the doctor itself says that
            # this patient is a member.
            return group is None or envelope.stream.name == group
        ours = (self.patient_id, self.patient_fingerprint)
        return group is None and (envelope.stream.name, envelope.fingerprint) == ours


class Positions:
    """Patient: the last number taken in each stream, by a connection or by those that read into one inbox."""

    __slots__ = ("_last",)

    def __init__(self, last: dict[Stream, int] | None = None) -> None:
        self._last = dict(last or {})

    def __getitem__(self, stream: Stream) -> int:
        return self._last.get(stream, 0)

    def streams(self) -> list[Stream]:
        """The streams known so far."""
        return list(self._last)

    def raise_to(self, stream: Stream, number: int) -> None:
        """A start number or an applied message moves the position; nothing ever moves it back."""
        self._last[stream] = max(self[stream], number)

    def is_next(self, envelope: Envelope, start: int) -> bool:
        """Whether the message is the next of its stream; False for one that is known already. Changes nothing.

        Raises:
            PeerError: V-085, where a message in between is missing.
        """
        position = max(self[envelope.stream], start)
        if envelope.number <= position:
            return False
        if envelope.previous != position:
            detail = f"{envelope.stream}: {envelope.number} follows {envelope.previous}, not {position}"
            raise PeerError(Check.ENVELOPE_PREVIOUS, detail)  # V-085
        return True

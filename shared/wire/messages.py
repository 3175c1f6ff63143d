"""The messages as declared structs, and the one way to encode and decode them.

A struct travels as a msgpack array of its fields in the order written here. `decode` accepts exactly the bytes that `encode`
makes: unknown, missing or trailing fields, lengths outside the bounds and any second spelling of the same value
are refused (V-004), so that a signature over bytes is a signature over one meaning.

Names follow SPEC.md: `AuthClaims` is A, `ResponseClaims` is B. Times are milliseconds since the Unix epoch.
"""

from __future__ import annotations

from enum import IntEnum, unique
from functools import cache
from typing import Annotated, TypeVar

import msgspec
from msgspec import Meta

from shared.wire.checks import Check, PeerError
from shared.wire.opcodes import AlertCode, DisconnectReason

NONCE_SIZE = 32
KEY_SIZE = 32
BODY_LIMIT = 32 * 1024

Nonce = Annotated[bytes, Meta(min_length=NONCE_SIZE, max_length=NONCE_SIZE)]
Key32 = Annotated[bytes, Meta(min_length=KEY_SIZE, max_length=KEY_SIZE)]
Digest = Annotated[bytes, Meta(min_length=32, max_length=32)]
ReportId = Annotated[bytes, Meta(min_length=16, max_length=16)]
InvitationId = Annotated[bytes, Meta(min_length=16, max_length=16)]
Salt = Annotated[bytes, Meta(min_length=16, max_length=16)]
Element = Annotated[bytes, Meta(max_length=1280)]  # the largest public key or ciphertext is the hybrid's
Cookie = Annotated[bytes, Meta(min_length=40, max_length=40)]
SignatureBytes = Annotated[bytes, Meta(max_length=512)]
Time = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Name = Annotated[str, Meta(pattern=r"\A[a-z0-9][a-z0-9._-]{0,63}\Z")]
Fingerprint = Annotated[str, Meta(pattern=r"\A([a-z2-7]{32})?\Z")]


class Wire(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Base of everything that is encoded: immutable, compared by value."""

    def __repr__(self) -> str:
        # Bytes may be a key or a patient's data: a log or a traceback learns their length only.
        values = ((name, getattr(self, name)) for name in self.__struct_fields__)
        shown = (
            f"{name}=<{len(value)} bytes>" if isinstance(value, bytes) else f"{name}={value!r}"
            for name, value in values
        )
        return f"{type(self).__name__}({', '.join(shown)})"


class KeyExchange(Wire, frozen=True):
    """Opcode 10, first: the patient names one suite and sends its ephemeral key. Clear."""

    suite: Annotated[int, Meta(ge=0, le=255)]
    nonce: Nonce
    kem_public: Element
    cookie: Annotated[bytes, Meta(max_length=64)]


class KeySuccession(Wire, frozen=True):
    """One of the doctor's long-term keys: the fingerprint of the former, and the public key that takes its place."""

    algorithm: Annotated[int, Meta(ge=0, le=255)]
    former: Fingerprint
    public: Annotated[bytes, Meta(max_length=384)]


class RotationStatement(Wire, frozen=True):
    """What the doctor's former keys sign when it rotates them. `time`: from then on it signs with the new ones alone.

    It names no handshake and no patient, so it is made once and shown to everyone.
    """

    doctor_id: Name
    sequence: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    time: Time
    keys: Annotated[list[KeySuccession], Meta(min_length=1, max_length=4)]


class Rotation(Wire, frozen=True):
    """A statement's exact bytes, and the signature of each former key over them, in the order of the statement's keys."""

    statement: Annotated[bytes, Meta(max_length=2048)]
    signatures: Annotated[list[SignatureBytes], Meta(min_length=1, max_length=4)]


class KeyExchangeReply(Wire, frozen=True):
    """Opcode 11: the doctor's signed prekey. Clear. `rotation`: while not every patient has its new keys yet."""

    doctor_id: Name
    nonce: Nonce
    kem_public: Element
    valid_until: Time
    signature: SignatureBytes
    rotation: Rotation | None = None


class Retry(Wire, frozen=True):
    """Opcode 12: come again with this cookie. Clear; the connection closes."""

    cookie: Cookie


class AuthRequest(Wire, frozen=True):
    """Opcode 10, second: a ciphertext to the prekey, and `AuthProof` sealed under k1."""

    kem_ciphertext: Element
    sealed: bytes


class AuthClaims(Wire, frozen=True):
    """A: what the patient claims. The signature covers its exact bytes."""

    timestamp: Time
    nonce: Nonce
    doctor_id: Name
    patient_id: Name
    algorithm: Annotated[int, Meta(ge=0, le=255)]
    public_key: Annotated[bytes, Meta(max_length=384)]
    session_key: Key32
    invitation_id: InvitationId | None


class AuthProof(Wire, frozen=True):
    """The plaintext of AUTH_REQUEST: A, Sig_P, and the enrolment MAC of a patient that is new."""

    claims: bytes
    signature: SignatureBytes
    enrolment_mac: Digest | None


class AuthResponse(Wire, frozen=True):
    """Opcode 20: a ciphertext to the patient's ephemeral key, and `ResponseProof` sealed under k2."""

    kem_ciphertext: Element
    sealed: bytes


class ResponseClaims(Wire, frozen=True):
    """B: what the doctor claims."""

    timestamp: Time
    nonce: Nonce
    patient_nonce: Nonce
    patient_id: Name
    key_share: Key32


class ResponseProof(Wire, frozen=True):
    """The plaintext of AUTH_RESPONSE: B, the doctor's key confirmation and Sig_D."""

    claims: bytes
    confirmation: Digest
    signature: SignatureBytes


class SessionVerifier(Wire, frozen=True):
    """The plaintext of opcode 30: the patient's key confirmation over a new timestamp."""

    timestamp: Time
    confirmation: Digest


class GroupKey(Wire, frozen=True):
    """Opcode 31: the secret of a group's new epoch, and the number at which this member's stream starts."""

    group: Name
    epoch: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    secret: Key32
    roster_hash: Digest
    start: Number


@unique
class TargetKind(IntEnum):
    """Whether a stream of messages belongs to a group or to one patient."""

    GROUP = 1
    PATIENT = 2

    # Enum's own hash is that of the name, by a function of Python's: a stream is looked up several times for each receipt.
    __hash__ = int.__hash__


class Stream(Wire, frozen=True):
    """A numbered stream of messages: one for each group, one for each patient."""

    kind: TargetKind
    name: Name

    def __str__(self) -> str:
        return f"{self.kind.name.lower()}:{self.name}"


class Envelope(Wire, frozen=True):
    """What the doctor signs, once; the signature stays with the message however often that is encrypted anew.

    `signing_key` is the fingerprint of the doctor's key; `fingerprint` that of the patient a PATIENT stream belongs to, empty
    for a group. `previous` is the stream's preceding accepted number, whoever received that one. `body_hash` covers the
    salt and the body, so that an expired message can be passed on without its body.
    """

    doctor_id: Name
    signing_key: Fingerprint
    stream: Stream
    fingerprint: Fingerprint
    number: Number
    previous: Number
    created: Time
    expires: Time
    kind: Annotated[int, Meta(ge=0, le=255)]
    body_hash: Digest


class SignedMessage(Wire, frozen=True):
    """The plaintext of BROADCAST: an envelope's exact bytes, the doctor's signature, and what the hash covers."""

    envelope: bytes
    signature: SignatureBytes
    salt: Salt
    body: Annotated[bytes, Meta(max_length=BODY_LIMIT)] | None


class Direct(Wire, frozen=True):
    """Opcode 41: a message to one patient, or a broadcast that it missed, with its start number in that stream."""

    start: Number
    message: SignedMessage


class Position(Wire, frozen=True):
    """How far a patient has come in one stream. `expired` lists the numbers since its previous receipt that it did not show."""

    stream: Stream
    last: Number
    expired: Annotated[list[Number], Meta(max_length=1024)]


class Receipt(Wire, frozen=True):
    """Opcode 42: cumulative, per stream. The first one of a session says where the patient stands."""

    positions: Annotated[list[Position], Meta(max_length=256)]


class ResendRequest(Wire, frozen=True):
    """Opcode 43: something is missing. `positions` says where the patient stands in the streams that it asks for.

    `key_id` is that of a broadcast which it holds no key for, empty where it is a gap that it has noticed.
    """

    key_id: Annotated[bytes, Meta(max_length=16)]
    positions: Annotated[list[Position], Meta(min_length=1, max_length=256)]


@unique
class ReportKind(IntEnum):
    """What a report holds."""

    VITALS = 1  # JSON
    REPLY = 2  # text


class Report(Wire, frozen=True):
    """Opcode 50: what a patient reports. `report_id` stays the same however often it is sent."""

    report_id: ReportId
    kind: ReportKind
    created: Time
    body: Annotated[bytes, Meta(min_length=1, max_length=BODY_LIMIT)]


class ReportReceipt(Wire, frozen=True):
    """Opcode 51: these reports are on the doctor's disk."""

    report_ids: Annotated[list[ReportId], Meta(min_length=1, max_length=256)]


class Disconnect(Wire, frozen=True):
    """Opcode 60: the session ends in good order."""

    reason: DisconnectReason


class Alert(Wire, frozen=True):
    """Opcode 70: one coarse code, and the sender's clock, which only a sealed alert makes trustworthy.

    In a handshake the frame's payload is this struct, with the code SEALED and the real alert in `sealed` once the sender knows
    whom it talks to. After the first record an alert is a record like any other.
    """

    code: AlertCode
    time: Time
    sealed: Annotated[bytes, Meta(max_length=128)]


class Ping(Wire, frozen=True):
    """Opcode 80: asks for a PONG with the same token."""

    token: Annotated[bytes, Meta(min_length=8, max_length=8)]


class Pong(Wire, frozen=True):
    """Opcode 81."""

    token: Annotated[bytes, Meta(min_length=8, max_length=8)]


W = TypeVar("W", bound=Wire)

_encoder = msgspec.msgpack.Encoder()


@cache
def _decoder(kind: type[W]) -> msgspec.msgpack.Decoder[W]:
    """One prepared decoder for each struct."""
    return msgspec.msgpack.Decoder(kind)


def encode(message: Wire) -> bytes:
    """The one encoding of `message`."""
    return _encoder.encode(message)


def decode(kind: type[W], data: bytes) -> W:
    """Read a message of type `kind`.

    Raises:
        PeerError: V-004, where `data` is not exactly what `encode` would make of the message.
    """
    try:
        message: W = _decoder(kind).decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PeerError(Check.PAYLOAD_CANONICAL, f"not a {kind.__name__}: {error}") from error  # V-004
    # Encoding again is what rules out non-minimal integers and lengths, which a decoder has to tolerate.
    if _encoder.encode(message) != data:
        raise PeerError(Check.PAYLOAD_CANONICAL, f"a {kind.__name__} in a second spelling")  # V-004
    return message

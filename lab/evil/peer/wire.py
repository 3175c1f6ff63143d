"""SPEC sections 4 and 5: frames, and the messages as named tuples.

A named tuple travels as a MessagePack array of its fields. Nothing here has bounds: this side must be able to say anything.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import msgspec

from lab.evil.peer.equations import Surprise

VERSION = 1
HEADER = 6

KEY_EXCHANGE = AUTH_REQUEST = 10
KEY_EXCHANGE_REPLY = 11
RETRY = 12
AUTH_RESPONSE = 20
SESSION_VERIFIER = 30
GROUP_KEY = 31
BROADCAST = 40
DIRECT = 41
RECEIPT = 42
RESEND_REQUEST = 43
REPORT = 50
REPORT_RECEIPT = 51
DISCONNECT = 60
ALERT = 70
PING = 80
PONG = 81

SEALED_ALERT = 0
GROUP, PATIENT = 1, 2


class KeyExchange(NamedTuple):
    """M1."""

    suite: int
    nonce: bytes
    kem_public: bytes
    cookie: bytes


class KeySuccession(NamedTuple):
    """One key in a rotation."""

    algorithm: int
    former: str
    public: bytes


class RotationStatement(NamedTuple):
    """What the former keys sign."""

    doctor_id: str
    sequence: int
    time: int
    keys: list[KeySuccession]


class Rotation(NamedTuple):
    """A statement and its signatures."""

    statement: bytes
    signatures: list[bytes]


class KeyExchangeReply(NamedTuple):
    """M2."""

    doctor_id: str
    nonce: bytes
    kem_public: bytes
    valid_until: int
    signature: bytes
    rotation: Rotation | None = None


class Retry(NamedTuple):
    """Instead of M2."""

    cookie: bytes


class Sealed(NamedTuple):
    """M3 and M4: AuthRequest and AuthResponse."""

    kem_ciphertext: bytes
    sealed: bytes


class AuthClaims(NamedTuple):
    """A."""

    timestamp: int
    nonce: bytes
    doctor_id: str
    patient_id: str
    algorithm: int
    public_key: bytes
    session_key: bytes
    invitation_id: bytes | None


class AuthProof(NamedTuple):
    """The plaintext of M3."""

    claims: bytes
    signature: bytes
    enrolment_mac: bytes | None


class ResponseClaims(NamedTuple):
    """B."""

    timestamp: int
    nonce: bytes
    patient_nonce: bytes
    patient_id: str
    key_share: bytes


class ResponseProof(NamedTuple):
    """The plaintext of M4."""

    claims: bytes
    confirmation: bytes
    signature: bytes


class SessionVerifier(NamedTuple):
    """The plaintext of 30."""

    timestamp: int
    confirmation: bytes


class GroupKey(NamedTuple):
    """31."""

    group: str
    epoch: int
    secret: bytes
    roster_hash: bytes
    start: int


class Stream(NamedTuple):
    """Where a message belongs."""

    kind: int
    name: str


class Envelope(NamedTuple):
    """What the doctor signs."""

    doctor_id: str
    signing_key: str
    stream: Stream
    fingerprint: str
    number: int
    previous: int
    created: int
    expires: int
    kind: int
    body_hash: bytes


class SignedMessage(NamedTuple):
    """The plaintext of 40."""

    envelope: bytes
    signature: bytes
    salt: bytes
    body: bytes | None


class Direct(NamedTuple):
    """41."""

    start: int
    message: SignedMessage


class Position(NamedTuple):
    """Where a patient stands."""

    stream: Stream
    last: int
    expired: list[int]


class Receipt(NamedTuple):
    """42."""

    positions: list[Position]


class ResendRequest(NamedTuple):
    """43."""

    key_id: bytes
    positions: list[Position]


class Report(NamedTuple):
    """50."""

    report_id: bytes
    kind: int
    created: int
    body: bytes


class ReportReceipt(NamedTuple):
    """51."""

    report_ids: list[bytes]


class Disconnect(NamedTuple):
    """60."""

    reason: int


class Alert(NamedTuple):
    """70."""

    code: int
    time: int
    sealed: bytes


class Ping(NamedTuple):
    """80, and 81."""

    token: bytes


M = TypeVar("M")


def encode(message: object) -> bytes:
    """The shortest MessagePack of a message."""
    return msgspec.msgpack.encode(message)


def decode(kind: type[M], data: bytes) -> M:
    """A message of that kind. Raises Surprise unless `data` is its one encoding."""
    try:
        message = msgspec.msgpack.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise Surprise(f"no {kind.__name__}: {error}") from error
    if encode(message) != data:
        raise Surprise(f"a second spelling of a {kind.__name__}")
    return message


def header(opcode: int, size: int) -> bytes:
    """The six bytes before a payload."""
    return bytes([VERSION, opcode]) + size.to_bytes(4, "big")


def build(opcode: int, payload: bytes) -> bytes:
    """A frame."""
    return header(opcode, len(payload)) + payload


def split(data: bytes) -> list[bytes]:
    """Whole frames, one by one. Raises Surprise where the last one is cut."""
    frames = []
    while data:
        end = HEADER + int.from_bytes(data[2:HEADER], "big")
        if len(data) < end:
            raise Surprise(f"{len(data)} bytes of a frame of {end}")
        frames.append(data[:end])
        data = data[end:]
    return frames


def payload(frame: bytes, opcode: int) -> bytes:
    """The payload of a frame of that opcode. Raises Surprise for any other frame."""
    found = split(frame)
    if len(found) != 1 or frame[0] != VERSION or frame[1] != opcode:
        seen = [each[1] for each in found]
        raise Surprise(f"opcodes {seen} where one {opcode} was expected")
    return frame[HEADER:]


def read(kind: type[M], frame: bytes, opcode: int) -> M:
    """The message of a clear frame."""
    return decode(kind, payload(frame, opcode))


def respelled(message: tuple[Any, ...], index: int, spelling: bytes) -> bytes:
    """A message in which one field is spelled as `spelling`; the count of fields stays, and must be below sixteen."""
    fields = [encode(field) for field in message]
    fields[index] = spelling
    return bytes([0x90 | len(fields)]) + b"".join(fields)

"""Lies in KEY_EXCHANGE: frames and encodings that must not be, suites that are not allowed."""

from __future__ import annotations

import struct

from lab.evil.lies.of_patients import lie
from lab.evil.misbehaviour import Liar, fails
from lab.evil.peer import wire
from lab.evil.peer.patient import PatientLies
from lab.evil.peer.suites import FFDHE3072
from shared.wire.checks import Check


def _double(number: int) -> bytes:
    return struct.pack(">d", float(number))


def _as_map(message: wire.KeyExchange) -> bytes:
    return wire.encode(message._asdict())


ROWS = (
    lie(
        "unknown-suite",
        "names a suite that does not exist",
        fails(Check.SUITE_ALLOWED),
        PatientLies(hello=lambda m: m._replace(suite=9)),
    ),
    lie(
        "downgrade-own",
        "names a suite that this doctor does not allow",
        fails(Check.SUITE_ALLOWED),
        PatientLies(hello=lambda m: m._replace(suite=FFDHE3072.number)),
    ),
    lie(
        "wrong-version",
        "begins its frame with version 2",
        fails(Check.FRAME_VERSION),
        PatientLies(hello_frame=lambda f: b"\x02" + f[1:]),
        liar=Liar.STRANGER,
    ),
    lie(
        "unknown-opcode",
        "sends opcode 99",
        fails(Check.FRAME_OPCODE),
        PatientLies(hello_frame=lambda f: f[:1] + b"\x63" + f[2:]),
        liar=Liar.STRANGER,
    ),
    lie(
        "oversize-hello",
        "announces 4,097 bytes before anybody knows it",
        fails(Check.FRAME_LENGTH),
        PatientLies(hello_frame=lambda f: wire.header(wire.KEY_EXCHANGE, 4097) + f[wire.HEADER :]),
        liar=Liar.STRANGER,
    ),
    lie(
        "opcode-of-the-doctor",
        "sends a KEY_EXCHANGE_REPLY",
        fails(Check.OPCODE_IN_STATE),
        PatientLies(hello_frame=lambda f: f[:1] + bytes([wire.KEY_EXCHANGE_REPLY]) + f[2:]),
        liar=Liar.STRANGER,
    ),
    lie(
        "receipt-before-all",
        "begins with a RECEIPT",
        fails(Check.OPCODE_IN_STATE),
        PatientLies(hello_frame=lambda f: f[:1] + bytes([wire.RECEIPT]) + f[2:]),
        liar=Liar.STRANGER,
    ),
    lie(
        "trailing-byte",
        "puts a byte behind the message",
        fails(Check.PAYLOAD_CANONICAL),
        PatientLies(hello_payload=lambda payload: payload + b"\0"),
    ),
    lie(
        "long-integer",
        "spells the suite in two bytes where one does",
        fails(Check.PAYLOAD_CANONICAL),
        PatientLies(hello_payload=lambda p: p[:1] + b"\xcc" + p[1:]),
    ),
    lie(
        "float-for-integer",
        "spells the suite as a floating point number",
        fails(Check.PAYLOAD_CANONICAL),
        PatientLies(hello_payload=lambda p: p[:1] + b"\xcb" + _double(p[1]) + p[2:]),
    ),
    lie(
        "long-length",
        "spells the nonce's length in two bytes where one does",
        fails(Check.PAYLOAD_CANONICAL),
        PatientLies(hello_payload=lambda p: p[:2] + b"\xc5\x00" + p[3:]),
    ),
    lie(
        "map-for-array",
        "sends names and values instead of an array",
        fails(Check.PAYLOAD_CANONICAL),
        PatientLies(hello_payload=lambda p: _as_map(wire.decode(wire.KeyExchange, p))),
    ),
    lie(
        "extra-field",
        "sends one field more",
        fails(Check.PAYLOAD_CANONICAL),
        PatientLies(hello_payload=lambda p: bytes([p[0] + 1]) + p[1:] + b"\xc0"),
    ),
    lie(
        "missing-field",
        "leaves the cookie out",
        fails(Check.PAYLOAD_CANONICAL),
        PatientLies(hello_payload=lambda p: bytes([p[0] - 1]) + p[1:-2]),
    ),
    lie(
        "text-for-bytes",
        "sends its nonce as text",
        fails(Check.PAYLOAD_CANONICAL),
        PatientLies(hello_payload=lambda p: p[:2] + b"\xd9\x20" + b"n" * 32 + p[36:]),
    ),
    lie(
        "empty-message",
        "sends a KEY_EXCHANGE of no bytes",
        fails(Check.PAYLOAD_CANONICAL),
        PatientLies(hello_payload=lambda p: b""),
        liar=Liar.STRANGER,
    ),
    lie(
        "short-nonce",
        "sends a nonce of 31 bytes",
        fails(Check.PAYLOAD_CANONICAL),
        PatientLies(hello=lambda m: m._replace(nonce=m.nonce[1:])),
    ),
)

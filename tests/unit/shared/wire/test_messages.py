"""The messages: canonical encoding, bounds, and reprs that keep secrets and patients' data to themselves."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import msgpack

from shared.protocol.events import MessageReceived, Reported
from shared.wire import messages
from shared.wire.checks import Check, PeerError
from shared.wire.messages import (
    AuthClaims,
    AuthProof,
    Direct,
    Envelope,
    GroupKey,
    KeyExchange,
    Position,
    Receipt,
    Report,
    ReportKind,
    ReportReceipt,
    ResendRequest,
    ResponseClaims,
    Retry,
    SignedMessage,
    Stream,
    TargetKind,
    Wire,
)
from shared.wire.opcodes import AlertCode, DisconnectReason

SECRET = b"canary-canary-canary-canary-cana"
STREAM = Stream(TargetKind.GROUP, "everyone")
SIGNED = SignedMessage(b"envelope", b"signature", b"s" * 16, SECRET)
ENVELOPE = Envelope("doctor", "a" * 32, STREAM, "", 5, 4, 1, 2, 1, bytes(32))


@pytest.mark.parametrize(
    "holder",
    [
        AuthClaims(1, bytes(32), "doctor", "patient-a", 1, b"", SECRET, None),
        AuthProof(SECRET, b"", None),
        ResponseClaims(1, bytes(32), bytes(32), "patient-a", SECRET),
        messages.ResponseProof(SECRET, bytes(32), b""),
        GroupKey("everyone", 1, SECRET, bytes(32), 0),
        SIGNED,
        Direct(0, SIGNED),
        Report(bytes(16), ReportKind.VITALS, 1, SECRET),
        Reported(Report(bytes(16), ReportKind.VITALS, 1, SECRET)),
        MessageReceived(ENVELOPE, SECRET, direct=False),
    ],
    ids=lambda holder: type(holder).__name__,
)
def test_a_repr_shows_neither_a_secret_nor_a_body(holder: object) -> None:
    """Whatever ends in a log or a traceback names the message and not its content."""
    text = repr(holder)

    assert type(holder).__name__ in text
    assert "canary" not in text


ALL = [kind for kind in vars(messages).values() if isinstance(kind, type) and issubclass(kind, Wire)]
SAMPLES: list[Wire] = [
    KeyExchange(3, bytes(32), bytes(1249), b""),
    messages.KeyExchangeReply("doctor", bytes(32), bytes(1249), 1_800_000_000_000, bytes(64)),
    messages.KeyExchangeReply(
        "doctor",
        bytes(32),
        bytes(1249),
        1_800_000_000_000,
        bytes(64),
        messages.Rotation(bytes(200), [bytes(64), bytes(116)]),
    ),
    messages.KeySuccession(1, "a" * 32, bytes(65)),
    messages.RotationStatement("doctor", 1, 0, [messages.KeySuccession(2, "a" * 32, bytes(384))]),
    messages.Rotation(b"", [b""]),
    Retry(bytes(40)),
    messages.AuthRequest(bytes(1153), bytes(528)),
    AuthClaims(1_800_000_000_000, bytes(32), "doctor", "patient-a", 1, bytes(65), bytes(32), None),
    AuthClaims(0, bytes(32), "doctor", "p", 2, bytes(384), bytes(32), bytes(16)),
    AuthProof(bytes(200), bytes(64), None),
    AuthProof(bytes(200), bytes(64), bytes(32)),
    messages.AuthResponse(bytes(1153), bytes(528)),
    ResponseClaims(1, bytes(32), bytes(32), "patient-a", bytes(32)),
    messages.ResponseProof(bytes(120), bytes(32), bytes(64)),
    messages.SessionVerifier(5, bytes(32)),
    GroupKey("everyone", 1, bytes(32), bytes(32), 0),
    STREAM,
    ENVELOPE,
    SIGNED,
    Direct(0, SIGNED),
    Position(STREAM, 7, [5, 6]),
    Receipt([Position(STREAM, 7, []), Position(Stream(TargetKind.PATIENT, "p"), 0, [1])]),
    ResendRequest(b"", [Position(STREAM, 7, [])]),
    ResendRequest(bytes(16), [Position(STREAM, 7, []), Position(Stream(TargetKind.PATIENT, "p"), 0, [])]),
    Report(bytes(16), ReportKind.VITALS, 1_800_000_000_000, b"{}"),
    Report(bytes(16), ReportKind.REPLY, 0, bytes(messages.BODY_LIMIT)),
    ReportReceipt([bytes(16)] * 256),
    messages.Disconnect(DisconnectReason.LAGGING),
    messages.Alert(AlertCode.BUSY, 0, b""),
    messages.Ping(bytes(8)),
    messages.Pong(bytes(8)),
]


def verdict(kind: type[Wire], data: bytes) -> Check:
    """The check that refuses some bytes."""
    with pytest.raises(PeerError) as caught:
        messages.decode(kind, data)
    return caught.value.check


def test_there_is_a_sample_of_every_message() -> None:
    """A message without one would not be tested below."""
    assert {type(sample) for sample in SAMPLES} | {Wire} == set(ALL)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
def test_v004_the_canonical_encoding_is_read_and_no_other(sample: Wire) -> None:
    """Fields missing, fields added, bytes after the end, truncation at each byte, and wider spellings of the same."""
    data = messages.encode(sample)
    fields = msgpack.decode(data)
    assert messages.decode(type(sample), data) == sample

    others = [
        msgpack.encode([*fields, None]),
        msgpack.encode(fields[:-1]),
        data + b"\x00",
        b"",
        msgpack.encode(dict(enumerate(fields))),
        b"\xdc" + len(fields).to_bytes(2, "big") + data[1:],  # the array's length in three bytes
        *(data[:size] for size in range(0, len(data), 1 + len(data) // 200)),
    ]
    assert {verdict(type(sample), other) for other in others} == {Check.PAYLOAD_CANONICAL}


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        (messages.Ping, b"\x91\xa8" + b"\x61" * 8),  # a string for bytes
        (messages.Ping, b"\x91\xc5\x00\x08" + bytes(8)),  # a 16-bit length
        (messages.SessionVerifier, b"\x92\xcd\x00\x05\xc4\x20" + bytes(32)),  # 5 in three bytes
        (messages.SessionVerifier, b"\x92\xd0\x05\xc4\x20" + bytes(32)),  # 5 as a signed byte
        (messages.SessionVerifier, b"\x92\xcb\x40\x14" + bytes(6) + b"\xc4\x20" + bytes(32)),  # 5.0
        (messages.SessionVerifier, b"\x92\xa1\x35\xc4\x20" + bytes(32)),  # "5"
        (messages.SessionVerifier, b"\x92\xc3\xc4\x20" + bytes(32)),  # true for 1
        (messages.SessionVerifier, b"\x92\xcf" + b"\xff" * 8 + b"\xc4\x20" + bytes(32)),  # 2^64 − 1
        (messages.SessionVerifier, b"\x92\xff\xc4\x20" + bytes(32)),  # −1
        (messages.Stream, b"\x92\x01\xa2\xc3\x28"),  # not UTF-8
        (messages.Stream, b"\x92\x07\xa1\x61"),  # no such kind
        (messages.Disconnect, b"\x91\x00"),
        (Report, b"\x94\xc4\x10" + bytes(16) + b"\x00\x01\xc4\x01x"),  # no such kind
        (Report, b"\x94\xc4\x10" + bytes(16) + b"\x03\x01\xc4\x01x"),
        (messages.Disconnect, b"\x91\x06"),
        (messages.Alert, b"\x93\x09\x00\xc4\x00"),
        (messages.Ping, b"\x91" * 60_000),  # as deep as a frame
        (messages.Ping, b"\x91\xdd\xff\xff\xff\xff"),  # an array of 2^32 − 1
        (messages.Ping, b"\x91\xc6\xff\xff\xff\xff"),  # bytes of 2^32 − 1
        (messages.Receipt, b"\x91\xdd\xff\xff\xff\xff" + b"\x93" * 100),
    ],
    ids=lambda value: value[:6].hex() if isinstance(value, bytes) else value.__name__,
)
def test_v004_a_second_spelling_is_refused(kind: type[Wire], data: bytes) -> None:
    """Other types, other widths, values out of bounds, and claims of a size that is not there."""
    assert verdict(kind, data) is Check.PAYLOAD_CANONICAL


@pytest.mark.parametrize("name", ["", "-a", ".a", "_a", "A", "ä", "a b", "a\n", "a/b", "a" * 65])
def test_v004_a_name_that_is_none_is_refused(name: str) -> None:
    """Names end in logs, file names and terminals: a small alphabet, at most 64 characters."""
    bad = messages.encode(Stream(TargetKind.GROUP, name))

    assert verdict(Stream, bad) is Check.PAYLOAD_CANONICAL


@pytest.mark.parametrize("name", ["a", "0", "a.b_c-d", "a" * 64, "patient-" + "a" * 16])
def test_a_name_of_the_alphabet_is_read(name: str) -> None:
    """The positive case."""
    assert messages.decode(Stream, messages.encode(Stream(TargetKind.GROUP, name))).name == name


@pytest.mark.parametrize(
    "message",
    [
        KeyExchange(256, bytes(32), b"", b""),
        KeyExchange(3, bytes(31), b"", b""),
        KeyExchange(3, bytes(33), b"", b""),
        KeyExchange(3, bytes(32), bytes(1281), b""),
        KeyExchange(3, bytes(32), b"", bytes(65)),
        GroupKey("everyone", 0, bytes(32), bytes(32), 0),
        GroupKey("everyone", 1, bytes(31), bytes(32), 0),
        Position(STREAM, -1, []),
        Position(STREAM, 2**63, []),
        Position(STREAM, 1, [0] * 1025),
        Receipt([Position(STREAM, 1, [])] * 257),
        Retry(bytes(39)),
        Retry(bytes(41)),
        ResendRequest(bytes(17), [Position(STREAM, 1, [])]),
        ResendRequest(b"", []),
        ResendRequest(b"", [Position(STREAM, 1, [])] * 257),
        Report(bytes(15), ReportKind.REPLY, 1, b"x"),
        Report(bytes(17), ReportKind.REPLY, 1, b"x"),
        Report(bytes(16), ReportKind.REPLY, -1, b"x"),
        Report(bytes(16), ReportKind.REPLY, 1, b""),
        Report(bytes(16), ReportKind.REPLY, 1, bytes(messages.BODY_LIMIT + 1)),
        ReportReceipt([]),
        ReportReceipt([bytes(16)] * 257),
        ReportReceipt([bytes(15)]),
        SignedMessage(b"", b"", bytes(15), None),
        SignedMessage(b"", bytes(513), bytes(16), None),
        SignedMessage(b"", b"", bytes(16), bytes(messages.BODY_LIMIT + 1)),
        msgspec.structs.replace(ENVELOPE, fingerprint="a" * 31),
        msgspec.structs.replace(ENVELOPE, signing_key="1" * 32),
        messages.Alert(AlertCode.BUSY, 0, bytes(129)),
    ],
    ids=lambda message: repr(message)[:60],
)
def test_v004_a_value_out_of_its_bounds_is_refused(message: Wire) -> None:
    """Each field's bounds are part of the format."""
    assert verdict(type(message), messages.encode(message)) is Check.PAYLOAD_CANONICAL


@given(st.sampled_from(ALL), st.binary(max_size=200))
def test_any_bytes_are_read_canonically_or_refused(kind: type[Wire], data: bytes) -> None:
    """Nothing else is ever raised, and what is read is written the same way."""
    try:
        message = messages.decode(kind, data)
    except PeerError as error:
        refused_by, again = error.check, data
    else:
        refused_by, again = Check.PAYLOAD_CANONICAL, messages.encode(message)

    assert refused_by is Check.PAYLOAD_CANONICAL
    assert again == data


def test_a_stream_reads_well_in_a_log() -> None:
    """Kind and name."""
    assert str(STREAM) == "group:everyone"

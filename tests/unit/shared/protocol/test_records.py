"""Records: counter nonces, the ratchet, and what is refused."""

from __future__ import annotations

import pytest

from shared.crypto import kdf
from shared.crypto.aead import Aead
from shared.crypto.kdf import Label
from shared.crypto.padding import pad, unpad
from shared.errors import LocalError
from shared.protocol import records
from shared.protocol.records import RecordOpener, RecordSealer
from shared.wire.checks import PeerError
from shared.wire.framing import AUTHENTICATED_LIMIT, HEADER_SIZE
from shared.wire.opcodes import Opcode
from tests.crypto_tools import flipped
from tests.protocol_bench import frame_of
from tests.protocol_puppets import seal_payload

KEY = b"k" * 32


def test_a_record_that_would_not_fit_into_a_frame_is_our_error() -> None:
    """The peer would have to cut the connection for it."""
    sealer = RecordSealer(KEY)
    largest = sealer.seal(Opcode.RECEIPT, bytes(63_000))

    with pytest.raises(LocalError, match="at most 65536 bytes"):
        sealer.seal(Opcode.RECEIPT, bytes(AUTHENTICATED_LIMIT))

    assert len(largest) - HEADER_SIZE <= AUTHENTICATED_LIMIT
    assert sealer.count == 1


def test_the_frame_is_gcm_of_the_padded_message_with_header_and_counter() -> None:
    """The format, opened by hand; the counter is nowhere on the wire."""
    sealer = RecordSealer(KEY)
    frames = [sealer.seal(Opcode.PING, message) for message in (b"one", b"two")]

    opened = [
        Aead(KEY).open(number, frame[HEADER_SIZE:], frame[:HEADER_SIZE])
        for number, frame in enumerate(frames)
    ]
    assert [unpad(padded) for padded in opened] == [b"one", b"two"]
    assert [len(padded) for padded in opened] == [256, 256]


def test_v070_a_record_opens_once_in_its_place_and_nowhere_else() -> None:
    """Repeated, skipped, swapped, under another opcode's header, in the other direction, changed: all refused."""
    sealer, opener, mirror = RecordSealer(KEY), RecordOpener(KEY), RecordOpener(b"m" * 32)
    first, second = (frame_of(sealer.seal(Opcode.PING, message)) for message in (b"one", b"two"))
    assert opener.open(first) == b"one"

    with pytest.raises(PeerError, match="V-070 record 0"):
        opener.open(second)  # the first one was dropped or overtaken
    with pytest.raises(PeerError, match="V-070"):
        opener.open(first._replace(opcode=Opcode.PONG))
    with pytest.raises(PeerError, match="V-070"):
        mirror.open(first)
    opener.advance()
    with pytest.raises(PeerError, match="V-070 record 1"):
        opener.open(first)  # repeated
    assert opener.open(second) == b"two"


def test_v070_every_changed_bit_is_refused() -> None:
    """Over the whole payload."""
    frame = frame_of(RecordSealer(KEY).seal(Opcode.PING, b"one"))
    opener = RecordOpener(KEY)
    refused = 0
    for payload in flipped(frame.payload):
        with pytest.raises(PeerError, match="V-070"):
            opener.open(frame._replace(payload=payload))
        refused += 1

    assert refused == 8 * len(frame.payload)
    assert opener.open(frame) == b"one"


@pytest.mark.parametrize("padded", [b"", b"\0\0\0\x05abc", pad(b"a", 64)[:-1] + b"\1"])
def test_v070_padding_has_one_form(padded: bytes) -> None:
    """A peer that holds the key cannot give one message two spellings."""
    frame = frame_of(seal_payload(Opcode.PING, KEY, padded))

    with pytest.raises(PeerError, match="V-070"):
        RecordOpener(KEY).open(frame)


def test_the_key_is_replaced_every_65536_records() -> None:
    """Both sides turn at the same record, the counter goes on, and the old key opens nothing after it."""
    sealer, opener = RecordSealer(KEY), RecordOpener(KEY)
    last_before = sealer.seal(Opcode.PING, b"first")
    opener.open(frame_of(last_before))
    opener.advance()
    for _ in range(records.RATCHET_INTERVAL - 1):
        sealer.advance()
        opener.advance()
    after = frame_of(sealer.seal(Opcode.PING, b"after"))

    second_key = kdf.derive(Label.RATCHET, (KEY,))
    assert records.RATCHET_INTERVAL == 65_536
    assert opener.open(after) == b"after"
    assert unpad(Aead(second_key).open(65_536, after.payload, after.header)) == b"after"
    assert opener._key == sealer._key == second_key  # the first key is not kept


def test_the_ratchet_turns_again_and_again() -> None:
    """Each key is derived from the one before."""
    opener = RecordOpener(KEY)
    keys = [opener._key]
    for _ in range(3):
        for _ in range(records.RATCHET_INTERVAL):
            opener.advance()
        keys.append(opener._key)

    assert keys[1:] == [kdf.derive(Label.RATCHET, (key,)) for key in keys[:-1]]

"""Frames: cut out of a stream of bytes in any portions, and judged before anything is waited for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.wire import framing
from shared.wire.checks import PeerError
from shared.wire.framing import (
    AUTHENTICATED_LIMIT,
    HEADER_SIZE,
    UNAUTHENTICATED_LIMIT,
    VERSION,
    Frame,
    FrameBuffer,
)
from shared.wire.opcodes import AlertCode, Opcode

OPCODES = st.sampled_from(list(Opcode))


def read(data: bytes, limit: int = UNAUTHENTICATED_LIMIT) -> Frame | None:
    """The first frame of some bytes."""
    buffer = FrameBuffer(limit)
    buffer.receive(data)
    return buffer.next_frame()


def verdict(data: bytes, limit: int = UNAUTHENTICATED_LIMIT) -> tuple[str, AlertCode]:
    """The check that refuses some bytes."""
    with pytest.raises(PeerError) as caught:
        read(data, limit)
    return caught.value.check.number, caught.value.check.alert


def test_v001_the_version_is_judged_by_the_first_byte() -> None:
    """Nothing else is waited for."""
    assert read(bytes([VERSION])) is None
    wrong = {verdict(bytes([version])) for version in range(256) if version != VERSION}
    assert wrong == {("V-001", AlertCode.UNSUPPORTED)}


def test_v002_the_opcode_is_judged_by_the_second_byte() -> None:
    """Sixteen numbers are known; everything else is refused at once."""
    known = {10, 11, 12, 20, 30, 31, 40, 41, 42, 43, 50, 51, 60, 70, 80, 81}

    assert [read(bytes([VERSION, opcode])) for opcode in known] == [None] * len(known)
    unknown = {verdict(bytes([VERSION, opcode])) for opcode in range(256) if opcode not in known}
    assert unknown == {("V-002", AlertCode.UNSUPPORTED)}


@pytest.mark.parametrize("limit", [UNAUTHENTICATED_LIMIT, AUTHENTICATED_LIMIT])
@pytest.mark.parametrize("excess", ["one byte", "2^31", "2^32-1"])
def test_v003_the_length_is_judged_by_the_header(limit: int, excess: str) -> None:
    """The cap itself is allowed; the header alone refuses what is larger, before a byte of the payload has come."""
    length = {"one byte": limit + 1, "2^31": 1 << 31, "2^32-1": (1 << 32) - 1}[excess]
    whole = read(framing.header(Opcode.ALERT, limit) + bytes(limit), limit)

    assert whole is not None
    assert len(whole.payload) == limit
    assert verdict(framing.header(Opcode.ALERT, length), limit) == ("V-003", AlertCode.MALFORMED)


def test_an_empty_payload_is_a_frame() -> None:
    """Length 0 is the message's business."""
    frame = read(b"\x01\x50\x00\x00\x00\x00")

    assert frame == Frame(Opcode.PING, b"")
    assert frame.header == frame.data


@given(st.lists(st.tuples(OPCODES, st.binary(max_size=300)), max_size=5), st.data())
def test_any_portions_give_the_same_frames(parts: list[tuple[Opcode, bytes]], data: st.DataObject) -> None:
    """However the stream is cut, the frames are those that were sent, and nothing is left."""
    frames = [Frame(opcode, payload) for opcode, payload in parts]
    wire = b"".join(frame.data for frame in frames)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=6)))
    buffer, got = FrameBuffer(), []

    for start, end in zip([0, *cuts], [*cuts, len(wire)], strict=True):
        buffer.receive(wire[start:end])
        while frame := buffer.next_frame():
            got.append(frame)

    assert got == frames
    assert len(buffer) == 0


@given(st.binary(max_size=400))
def test_what_is_read_is_written_the_same_way(data: bytes) -> None:
    """One encoding for each frame: a frame that was read gives back its bytes."""
    try:
        frame = read(data)
    except PeerError:
        return

    if frame is not None:
        assert frame.data == data[: len(frame.data)]
        assert frame.header == data[:HEADER_SIZE]


def test_truncation_at_every_byte_waits_for_the_rest() -> None:
    """A frame that is not whole is no frame, and not an error either."""
    frame = Frame(Opcode.RECEIPT, bytes(range(100)))

    assert [read(frame.data[:size]) for size in range(len(frame.data))] == [None] * len(frame.data)
    assert read(frame.data) == frame


def test_clear_forgets_everything() -> None:
    """A failed connection reads no further."""
    buffer = FrameBuffer()
    buffer.receive(Frame(Opcode.PING, b"x").data)

    buffer.clear()

    assert buffer.next_frame() is None
    assert len(buffer) == 0

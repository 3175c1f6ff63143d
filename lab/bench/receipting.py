"""Our subscribers that send receipts: every patient answers whatever it has just read with one receipt, sealed under its own session.

A broadcast is the same bytes for all, so the first patient opens each one, verifies its signature and its place in the stream;
for the others the same bytes are the same message. So they cost the drain about what the subscribers of a broker do,
that acknowledge each packet without a look into it. Receipts are cumulative: twenty messages that are read together need one.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, field

from lab.bench.lean import LeanSession
from lab.bench.subscribers import OurSubscribers, frame_size
from shared.protocol.events import MessageReceived
from shared.wire.framing import HEADER_SIZE
from shared.wire.messages import Position
from shared.wire.opcodes import Opcode


@dataclass(slots=True)
class ReceiptingSubscribers(OurSubscribers):
    """Patients of one doctor that acknowledge what they read when they read it."""

    _rest: dict[int, bytes] = field(default_factory=dict)
    _verified: dict[bytes, Position] = field(default_factory=dict)  # by the broadcast's frame

    def round_size(self, sockets: list[socket.socket], messages: int, body: int) -> int:
        """As of the others; what was read in earlier rounds does not come again."""
        self._verified.clear()
        return messages * frame_size(body)

    def answer(self, number: int, data: memoryview) -> bytes:
        """One receipt for all messages that are whole now."""
        stream, start, reached = self._rest.get(number, b"") + bytes(data), 0, None
        while (end := _end_of_frame(stream, start)) <= len(stream):
            reached = self._read(number, stream[start:end]) or reached
            start = end
        self._rest[number] = stream[start:]
        if reached is None:
            return b""
        connection = self.sessions[number].connection
        connection.acknowledge([reached])
        return connection.data_to_send()

    def finish(self) -> None:
        """Nothing where messages were read: what had to be acknowledged is. Otherwise, as the others: who says nothing is gone."""
        if not self._verified:
            OurSubscribers.finish(self)

    def _read(self, number: int, frame: bytes) -> Position | None:
        """Where a patient stands after a frame; None where that says nothing of it."""
        if frame[1] != Opcode.BROADCAST:
            return _position_after(self.sessions[number], frame)
        position = self._verified.get(frame)
        if position is None:
            position = _position_after(self.sessions[0], frame)
            if position is not None:
                self._verified[frame] = position
        return position


def _position_after(session: LeanSession, frame: bytes) -> Position | None:
    position = None
    for event in session.take(frame):
        if isinstance(event, MessageReceived):
            position = Position(event.envelope.stream, event.envelope.number, [])
    return position


def _end_of_frame(stream: bytes, start: int) -> int:
    """Where the frame at `start` ends, however much of it is there; beyond the stream's end where that cannot be told."""
    body = start + HEADER_SIZE
    return body + int.from_bytes(stream[start + 2 : body], "big") if body <= len(stream) else body

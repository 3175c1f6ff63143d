"""Frames: `version (1) ‖ opcode (1) ‖ length (4) ‖ payload`, integers big-endian.

The header is judged as soon as it is complete, before a byte of the payload is waited for, so that a peer can never make
us hold more than one frame of the cap then in force.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import NamedTuple

from shared.wire.checks import Check, PeerError
from shared.wire.opcodes import Opcode

VERSION = 1
HEADER_SIZE = 6
UNAUTHENTICATED_LIMIT = 4 * 1024  # the largest real one is suite 1's AUTH_REQUEST, 2.5 KB
AUTHENTICATED_LIMIT = 64 * 1024

_HEADER = struct.Struct(">BBI")
_OPCODES = {int(opcode): opcode for opcode in Opcode}


class Frame(NamedTuple):
    """One frame, its header already judged (V-001 to V-003)."""

    opcode: Opcode
    payload: bytes

    @property
    def header(self) -> bytes:
        """The six bytes that every seal authenticates as associated data."""
        return header(self.opcode, len(self.payload))

    @property
    def data(self) -> bytes:
        """The whole frame as it stands on the wire; transcripts hash this."""
        return header(self.opcode, len(self.payload)) + self.payload


@lru_cache(maxsize=1024)  # padding leaves few lengths
def header(opcode: Opcode, length: int) -> bytes:
    """The header of a frame whose payload has `length` bytes."""
    return _HEADER.pack(VERSION, opcode, length)


class FrameBuffer:
    """Cuts a stream of bytes into frames.

    `limit` is the cap on a payload, in bytes; it is raised once, by whoever authenticated the peer.
    """

    __slots__ = ("_buffer", "limit")

    def __init__(self, limit: int = UNAUTHENTICATED_LIMIT) -> None:
        self._buffer = bytearray()
        self.limit = limit

    def __len__(self) -> int:
        return len(self._buffer)

    def receive(self, data: bytes) -> None:
        """Take bytes from the wire, in any portions."""
        self._buffer += data

    def next_frame(self) -> Frame | None:
        """The next whole frame, or None where more bytes are needed.

        Raises:
            PeerError: V-001 version, V-002 opcode, V-003 length.
        """
        buffer = self._buffer
        if not buffer:
            return None
        if buffer[0] != VERSION:
            raise PeerError(Check.FRAME_VERSION, f"version {buffer[0]}, this side speaks {VERSION}")  # V-001
        if len(buffer) > 1 and buffer[1] not in _OPCODES:
            raise PeerError(Check.FRAME_OPCODE, f"opcode {buffer[1]}")  # V-002
        if len(buffer) < HEADER_SIZE:
            return None
        _, opcode, length = _HEADER.unpack_from(buffer)
        if length > self.limit:
            raise PeerError(Check.FRAME_LENGTH, f"{length} bytes, at most {self.limit} now")  # V-003
        end = HEADER_SIZE + length
        if len(buffer) < end:
            return None
        payload = bytes(buffer[HEADER_SIZE:end])
        del buffer[:end]
        return Frame(_OPCODES[opcode], payload)

    def clear(self) -> None:
        """Forget what has come in; a failed connection reads no further."""
        self._buffer.clear()

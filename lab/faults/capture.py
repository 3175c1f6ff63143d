"""Everything that crossed a proxy, kept with its connection, direction and order; and the frames in it.

The checker reads a capture the way an eavesdropper would: it knows the public format of frames, and whatever keys it is given.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from enum import Enum, unique
from pathlib import Path
from typing import TypeAlias

from shared.wire.checks import PeerError
from shared.wire.framing import AUTHENTICATED_LIMIT, Frame, FrameBuffer


@unique
class Way(Enum):
    """Which way bytes went."""

    TO_DOCTOR = "to-doctor"
    TO_PATIENT = "to-patient"


Line: TypeAlias = tuple[int, Way]
"""One direction of one connection."""


class _Memory:
    """Bytes that are kept in memory."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def append(self, data: bytes) -> None:
        """Keep these behind all others."""
        self._bytes += data

    def read(self, offset: int, size: int) -> bytes:
        """So many of them, from a place on."""
        return bytes(self._bytes[offset : offset + size])

    def close(self) -> None:
        """Let go of them."""
        self._bytes.clear()


class _Spilled:
    """Bytes that are kept in a file. Each call names its place: between looking for a place and using it another thread might move it."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self._end = 0

    def append(self, data: bytes) -> None:
        """Keep these behind all others. Raises OSError."""
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self._file.fileno(), rest, self._end)
            rest, self._end = rest[written:], self._end + written

    def read(self, offset: int, size: int) -> bytes:
        """So many of them, from a place on. Raises OSError."""
        return os.pread(self._file.fileno(), size, offset)

    def close(self) -> None:
        """Let go of them; the file stays."""
        self._file.close()


class Capture:
    """What was read from each side, in the order in which it was read, whether or not it was passed on.

    It may be read on one thread while another adds to it: neither moves a place in the file that the other relies on.

    Args:
        path: of a file that holds the bytes, for hours of them: then only where each piece stands is kept in memory. None: all is.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._bytes = _Memory() if path is None else _Spilled(path)
        self._pieces: dict[Line, array[int]] = {}  # offset and length of each, one after the other
        self._spans: dict[Line, tuple[float, float]] = {}
        self._end = 0

    def add(self, connection: int, way: Way, time: float, data: bytes) -> None:
        """Keep what was read at this time, in seconds of the monotonic clock."""
        self._bytes.append(
            data
        )  # before its place is known: whoever reads meanwhile finds all that a place names
        began, _ = self._spans.get((connection, way), (time, time))
        self._spans[connection, way] = (began, time)
        pieces = self._pieces.setdefault((connection, way), array("Q"))
        if pieces and pieces[-2] + pieces[-1] == self._end:
            pieces[-1] += len(data)
        else:
            pieces.extend((self._end, len(data)))
        self._end += len(data)

    def close(self) -> None:
        """Let go of the bytes."""
        self._bytes.close()

    @property
    def size(self) -> int:
        """Bytes in all."""
        return self._end

    @property
    def lines(self) -> list[Line]:
        """Every connection and direction that something went, in the order in which they began."""
        return list(self._pieces)

    def span(self, line: Line) -> tuple[float, float]:
        """When the first and the last byte went this way."""
        return self._spans[line]

    def pieces(self, line: Line) -> Iterator[bytes]:
        """What went one way, in portions."""
        places = iter(self._pieces[line])
        for offset, size in zip(places, places, strict=True):
            yield self._bytes.read(offset, size)

    def streams(self) -> dict[Line, bytes]:
        """The whole stream of each connection and direction."""
        return {line: b"".join(self.pieces(line)) for line in self._pieces}

    def frames(self, way: Way) -> Iterator[tuple[int, Frame]]:
        """Every whole frame that went this way, connection by connection; a cut or garbled rest is left out."""
        for line in self.lines:
            if line[1] is way:
                yield from ((line[0], frame) for frame in self._whole(line))

    def _whole(self, line: Line) -> Iterator[Frame]:
        buffer = FrameBuffer(AUTHENTICATED_LIMIT)
        try:
            for piece in self.pieces(line):
                buffer.receive(piece)
                while (frame := buffer.next_frame()) is not None:
                    yield frame
        except PeerError:
            return


class Discarded(Capture):
    """Keeps nothing: of a proxy behind which another one keeps the same."""

    def add(self, connection: int, way: Way, time: float, data: bytes) -> None:
        """Forget what was read."""

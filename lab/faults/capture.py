"""Everything that crossed a proxy, kept with its connection, direction and order; and the frames in it.

The checker reads a capture the way an eavesdropper would: it knows the public format of frames, and whatever keys it is given.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, unique

from shared.wire.checks import PeerError
from shared.wire.framing import AUTHENTICATED_LIMIT, Frame, FrameBuffer


@unique
class Way(Enum):
    """Which way bytes went."""

    TO_DOCTOR = "to-doctor"
    TO_PATIENT = "to-patient"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes as they were read from one side. `time` in seconds of the monotonic clock."""

    connection: int
    way: Way
    time: float
    data: bytes


@dataclass(slots=True)
class Capture:
    """All chunks in the order in which they were read, whether or not they were passed on."""

    chunks: list[Chunk] = field(default_factory=list)

    def add(self, connection: int, way: Way, time: float, data: bytes) -> None:
        """Keep what was read."""
        self.chunks.append(Chunk(connection, way, time, data))

    @property
    def size(self) -> int:
        """Bytes in all."""
        return sum(len(chunk.data) for chunk in self.chunks)

    def streams(self) -> dict[tuple[int, Way], bytes]:
        """The whole stream of each connection and direction."""
        joined: dict[tuple[int, Way], bytearray] = {}
        for chunk in self.chunks:
            joined.setdefault((chunk.connection, chunk.way), bytearray()).extend(chunk.data)
        return {key: bytes(data) for key, data in joined.items()}

    def frames(self, way: Way) -> Iterator[tuple[int, Frame]]:
        """Every whole frame that went this way, with its connection; a cut or garbled rest is left out."""
        for (connection, direction), data in self.streams().items():
            if direction is not way:
                continue
            buffer = FrameBuffer(AUTHENTICATED_LIMIT)
            buffer.receive(data)
            yield from ((connection, frame) for frame in _whole(buffer))


class Discarded(Capture):
    """Keeps nothing: of a proxy behind which another one keeps the same."""

    def add(self, connection: int, way: Way, time: float, data: bytes) -> None:
        """Forget what was read."""


def _whole(buffer: FrameBuffer) -> Iterator[Frame]:
    try:
        while (frame := buffer.next_frame()) is not None:
            yield frame
    except PeerError:
        return

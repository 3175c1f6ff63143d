"""Which acknowledgements are due: one RECEIPT for all that was committed since the last, cumulative per stream.

Law: numbers get here only after their commit. A receipt is bounded, whatever came in while there was no session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from patient.inbox import StoredMessage
from shared.wire.messages import Position, Stream

STREAMS_PER_RECEIPT = 64
EXPIRED_PER_RECEIPT = 1024


class DueReceipts:
    """Streams in which something was committed since the last receipt, with the numbers that had expired."""

    def __init__(self) -> None:
        self._due: dict[Stream, list[int]] = {}

    def add(self, message: StoredMessage) -> None:
        """A message was committed."""
        expired = self._due.setdefault(message.stream, [])
        if message.body is None:
            expired.append(message.number)

    def take(self, position: Callable[[Stream], int]) -> Iterator[list[Position]]:
        """The positions of each RECEIPT that is due; what was yielded is due no more. `position`: the inbox's."""
        while self._due:
            yield self._take_one(position)

    def _take_one(self, position: Callable[[Stream], int]) -> list[Position]:
        room = EXPIRED_PER_RECEIPT
        positions = []
        for stream in list(self._due)[:STREAMS_PER_RECEIPT]:
            expired = self._due.pop(stream)
            now, later = expired[:room], expired[room:]
            room -= len(now)
            positions.append(Position(stream, position(stream), now))
            if later:
                self._due[stream] = later
        return positions

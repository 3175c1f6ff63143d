"""Which acknowledgements are due, and how they are put into RECEIPTs: cumulative per stream, the expired numbers named.

Law: numbers get here only after their commit. A receipt is bounded, whatever came in while there was no session. Whatever a
position covers and the doctor has not heard of counts as shown, so an expired number stands in the first receipt that covers it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping

from patient.link import Link
from shared.wire.messages import Position, Stream

STREAMS_PER_RECEIPT = 256
EXPIRED_PER_RECEIPT = 1024


class DueReceipts:
    """Streams whose position is to be told, each with the numbers that had expired."""

    def __init__(self) -> None:
        self._due: dict[Stream, set[int]] = {}

    def add(self, stream: Stream, expired: Iterable[int] = ()) -> None:
        """The position of a stream is to be told, and that these numbers up to it had expired."""
        self._due.setdefault(stream, set()).update(expired)

    def take(self, position: Callable[[Stream], int]) -> Iterator[list[Position]]:
        """The positions of each RECEIPT that is due; they are due no more. `position`: the inbox's."""
        due, self._due = self._due, {}
        return receipts(due, position)


class Receipting:
    """Sends what is due on the newest session, one turn of the loop later, so that all messages of one commit share a receipt.

    Args:
        position: the inbox's, of a stream.
        session: the link to send on; None where there is no session.
    """

    def __init__(self, position: Callable[[Stream], int], session: Callable[[], Link | None]) -> None:
        self._position = position
        self._session = session
        self._due = DueReceipts()
        self._soon: asyncio.Handle | None = None

    def tell(self, stream: Stream, expired: Iterable[int] = ()) -> None:
        """The position of a stream is to be told, and that these numbers up to it had expired."""
        self._due.add(stream, expired)
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_soon(self.send)

    def send(self) -> None:
        """Send what is due now; without a session it stays due."""
        self._soon = None
        link = self._session()
        if link is not None:
            for positions in self._due.take(self._position):
                link.acknowledge(positions)


def receipts(
    expired: Mapping[Stream, Iterable[int]], position: Callable[[Stream], int]
) -> Iterator[list[Position]]:
    """The positions of each RECEIPT that tells where these streams stand, in the order in which they are to be sent.

    Args:
        expired: every stream, with the numbers that were not shown.
        position: the last committed number of a stream.
    """
    receipt: list[Position] = []
    room = EXPIRED_PER_RECEIPT
    for stream, numbers in expired.items():
        for part in _parts(stream, sorted(numbers), position(stream)):
            if len(receipt) == STREAMS_PER_RECEIPT or len(part.expired) > room:
                yield receipt
                receipt, room = [], EXPIRED_PER_RECEIPT
            receipt.append(part)
            room -= len(part.expired)
    if receipt:
        yield receipt


def _parts(stream: Stream, expired: list[int], last: int) -> Iterator[Position]:
    """One position where the numbers fit a receipt; else several, none of which reaches beyond the numbers it names."""
    while len(expired) > EXPIRED_PER_RECEIPT:
        part, expired = expired[:EXPIRED_PER_RECEIPT], expired[EXPIRED_PER_RECEIPT:]
        yield Position(stream, part[-1], part)
    yield Position(stream, last, expired)

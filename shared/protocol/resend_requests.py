"""Patient: what it lacks, and when it may ask for it.

Anyone who can send to a device can make broadcasts fail, so there is at most one question a second, whatever its cause. A question that
comes too early is not forgotten: it waits, together with those behind it, and goes out when its time has come, unless what was
missing has arrived or is arriving by then.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.protocol.clock import SECOND, Instant
from shared.protocol.envelopes import Positions
from shared.wire.messages import Position, ResendRequest, Stream

ASK_INTERVAL = 1 * SECOND
STREAMS_PER_QUESTION = 256  # what one RESEND_REQUEST can name


@dataclass(frozen=True, slots=True)
class _Asked:
    """A question about a gap: the position that was told, and the last number that had been dropped behind the gap."""

    position: int
    dropped: int


class ResendRequests:
    """The questions of one session."""

    def __init__(self) -> None:
        self._gaps: dict[Stream, int] = {}  # the last number dropped in each stream that has a gap
        self._key_id = b""
        self._not_before: int | None = None
        self._asked: dict[Stream, _Asked] = {}  # gaps whose answer may be on its way

    def note_gap(self, stream: Stream, number: int) -> None:
        """A message was dropped because of one that is missing in front of it."""
        self._gaps[stream] = max(number, self._gaps.get(stream, 0))

    def note_unknown_key(self, key_id: bytes) -> None:
        """A broadcast could not be opened; nobody can say in which stream it was."""
        self._key_id = key_id

    def deadline(self) -> int | None:
        """When a question that waits may go out, in milliseconds of `Instant.elapsed`; None: none waits."""
        return self._not_before if self._gaps or self._key_id else None

    def take(self, positions: Positions, now: Instant) -> ResendRequest | None:
        """The question to ask now, if there is one; it is taken for asked.

        The positions are what has been applied, not what is safely stored: this is no receipt.
        """
        if not (self._gaps or self._key_id):
            return None
        if self._not_before is not None and now.elapsed < self._not_before:
            return None
        gaps, key_id = self._gaps, self._key_id
        self._gaps, self._key_id = {}, b""
        streams = positions.streams() if key_id else self._open(gaps, positions)
        if self._gaps:
            self._not_before = now.elapsed + ASK_INTERVAL
        if not streams:
            return None
        self._not_before = now.elapsed + ASK_INTERVAL
        streams = streams[:STREAMS_PER_QUESTION]
        for stream in gaps.keys() & set(streams):
            self._asked[stream] = _Asked(positions[stream], gaps[stream])
        return ResendRequest(key_id, [Position(stream, positions[stream], []) for stream in streams])

    def _open(self, gaps: dict[Stream, int], positions: Positions) -> list[Stream]:
        """The streams to ask for now: those that still have their gap, unless an answer is closing it.

        While an answer moves the position there is no need to ask, but the gap is kept: an answer may stop on its way.
        """
        streams = []
        for stream, dropped in gaps.items():
            position, asked = positions[stream], self._asked.get(stream)
            if position >= dropped:
                continue
            if asked is not None and asked.position < position < asked.dropped:
                self._gaps[stream] = dropped
                self._asked[stream] = _Asked(position, max(dropped, asked.dropped))
            else:
                streams.append(stream)
        return streams

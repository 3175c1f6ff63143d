"""A group's append-only log of finished frames, and the cursors that read it: the fan-out path.

A message is sealed once and appended once. A cursor is a position in the log; a writer pass hands all who stand at the same place the
same bytes object. There is no copy and no queue for each patient: those who are up to date share their group's cursor, a slow one has
its own, which lags. Epoch markers stand between frames; no slice crosses one, for at a marker each member first
needs its own GROUP_KEY.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from shared.protocol.epochs import Epoch

RETENTION_BYTES = 16 * 1024 * 1024
SLICE_BYTES = 256 * 1024  # one write's worth: a reader this far behind is looked at again before it gets more
SLICES_KEPT = 8  # for others that stand at the same place; a ward of laggards, each at its own, must not fill the memory


@dataclass(frozen=True, slots=True)
class Slice:
    """Frames from one cursor position up to `end`; `last` is the number of the last message in it."""

    frames: bytes
    end: int
    last: int


class BroadcastLog:
    """Frames and epoch markers, addressed by position; positions are never used twice."""

    __slots__ = ("_base", "_bytes", "_entries", "_numbers", "_slices")

    def __init__(self) -> None:
        self._base = 0
        self._entries: list[bytes | Epoch] = []
        self._numbers: list[int] = []
        self._bytes = 0
        self._slices: dict[int, Slice] = {}

    @property
    def base(self) -> int:
        """The first position that is still kept. A cursor below it has fallen behind the log's retention."""
        return self._base

    @property
    def end(self) -> int:
        """The position that the next entry will have."""
        return self._base + len(self._entries)

    def append(self, frame: bytes, number: int) -> None:
        """Add the finished frame of the message with this number."""
        self._entries.append(frame)
        self._numbers.append(number)
        self._bytes += len(frame)
        self._slices.clear()
        self._trim()

    def mark(self, epoch: Epoch) -> None:
        """A new epoch begins here."""
        self._entries.append(epoch)
        self._numbers.append(0)
        self._slices.clear()

    def at(self, position: int) -> Epoch | Slice | None:
        """What a cursor at `position` is to send next: a marker's epoch, a slice of frames, or None at the end."""
        index = position - self._base
        if index >= len(self._entries):
            return None
        entry = self._entries[index]
        if isinstance(entry, Epoch):
            return entry
        cached = self._slices.get(position)
        if cached is None:
            if len(self._slices) >= SLICES_KEPT:
                self._slices.clear()
            cached = self._slices[position] = self._cut(index)
        return cached

    def forget_before(self, position: int) -> None:
        """Drop the entries below `position`, which nobody will read any more."""
        drop = min(position - self._base, len(self._entries))
        if drop > 0:
            self._drop(drop)

    def _cut(self, index: int) -> Slice:
        frames = list(self._frames_from(index))
        end = index + len(frames)
        # One frame is passed on as it is; only a pile-up is joined, once for all who stand here.
        joined = frames[0] if len(frames) == 1 else b"".join(frames)
        return Slice(joined, self._base + end, self._numbers[end - 1])

    def _frames_from(self, index: int) -> Iterator[bytes]:
        size = 0
        for position in range(index, len(self._entries)):
            entry = self._entries[position]
            if isinstance(entry, Epoch) or (size and size + len(entry) > SLICE_BYTES):
                return
            size += len(entry)
            yield entry

    def _trim(self) -> None:
        drop, kept = 0, self._bytes
        while kept > RETENTION_BYTES and drop < len(self._entries) - 1:
            kept -= _size(self._entries[drop])
            drop += 1
        if drop:
            self._drop(drop)

    def _drop(self, count: int) -> None:
        self._bytes -= sum(_size(entry) for entry in self._entries[:count])
        del self._entries[:count], self._numbers[:count]
        self._base += count
        self._slices.clear()


def _size(entry: bytes | Epoch) -> int:
    return 0 if isinstance(entry, Epoch) else len(entry)

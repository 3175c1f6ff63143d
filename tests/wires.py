"""Wires in memory between real streams: what is written is kept, and goes over when a test says so.

The doctor's end can be held: then bytes pile up in it as in a socket whose peer does not read, and its protocol is told to pause.
Everything that was ever written stays in `written`, whether it arrived or not: that is what an attacker is given.
"""

from __future__ import annotations

import asyncio
from typing import Any


class NoSocket:
    """Where a kernel's socket would be: takes every option."""

    def setsockopt(self, *option: object) -> None:
        """There is no kernel to tell."""


class End(asyncio.Transport):
    """One end of a wire."""

    def __init__(self, protocol: asyncio.Protocol, name: str) -> None:
        super().__init__(extra={"peername": (name, 1), "socket": NoSocket()})
        self.protocol = protocol
        self.peer: End | None = None
        self.written = b""
        self.held = False
        self.lost = False
        self._queue = b""
        self._high = 1 << 16
        self._full = False
        self._reads = True
        self._closing = False

    # asyncio.Transport

    def write(self, data: Any) -> None:
        """Keep the bytes until `carry`."""
        if self._closing:
            return
        self.written += data
        self._queue += data
        if len(self._queue) > self._high and not self._full:
            self._full = True
            self.protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        """What has not gone over."""
        return len(self._queue)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """From how many bytes on the protocol is to pause."""
        self._high = high if high is not None else self._high

    def pause_reading(self) -> None:
        """Take nothing from the peer."""
        self._reads = False

    def resume_reading(self) -> None:
        """Take something again."""
        self._reads = True

    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""
        return self._closing

    def close(self) -> None:
        """End the wire when everything has gone over."""
        self._closing = True

    def abort(self) -> None:
        """End the wire now; what has not gone over is lost."""
        self._closing, self._queue, self.held = True, b"", False

    # For the test

    def carry(self) -> bool:
        """Let bytes go over to the peer, or the end of the wire; whether anything did."""
        peer = self.peer
        assert peer is not None
        if self._queue and not self.held and (peer._reads or peer.lost):
            data, self._queue = self._queue, b""
            if not peer._closing:
                peer.protocol.data_received(data)
            if self._full and not self._closing:
                self._full = False
                self.protocol.resume_writing()
            return True
        if self._closing and not self._queue and not self.lost:
            for end in (self, peer):
                end._lose()
            return True
        return False

    def _lose(self) -> None:
        if not self.lost:
            self.lost, self._closing, self._queue = True, True, b""
            self.protocol.connection_lost(None)


def wire(one: asyncio.Protocol, other: asyncio.Protocol, name: str) -> tuple[End, End]:
    """Connect two protocols. `name`: the address that each sees."""
    ends = End(one, name), End(other, name)
    ends[0].peer, ends[1].peer = ends[1], ends[0]
    for end in ends:
        end.protocol.connection_made(end)
    return ends

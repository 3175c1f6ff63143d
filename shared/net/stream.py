"""The only place that moves bytes between the network and a connection.

It reads, feeds, hands on the events, flushes, and keeps one timer; it takes no decision about the protocol and knows no
message by name. Both programs use it.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable
from typing import Generic, TypeVar, cast

from shared.errors import LocalError
from shared.protocol.clock import Instant
from shared.protocol.connection import Connection
from shared.protocol.events import Event

WRITE_HIGH_WATER = 256 * 1024  # bytes that may wait in one socket's buffer before its reader counts as slow

LINGER = 5.0  # seconds that a peer has to take what was written before the end; then it is cut

C = TypeVar("C", bound=Connection)


def clock() -> Instant:
    """Both clocks, now."""
    return Instant(time.time_ns() // 1_000_000, time.monotonic_ns() // 1_000_000)


def reset(transport: asyncio.BaseTransport) -> None:
    """Close a TCP connection with a reset: neither what waits nor a port is kept for a peer that is not to be spoken to."""
    raw = transport.get_extra_info("socket")
    if raw is not None:
        end_by_reset(raw)
    # uvloop's transports are no subclass of asyncio's; they have the same methods.
    cast(asyncio.Transport, transport).abort()


def end_by_reset(raw: socket.socket) -> None:
    """Let whoever closes this socket send a reset, and keep nothing of what waits."""
    with contextlib.suppress(OSError):  # it is gone already
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _nobody_listens(_events: list[Event] = []) -> None:  # noqa: B006  nobody changes it
    """What a stream calls once it is over."""


class Stream(asyncio.Protocol, Generic[C]):
    """One TCP connection and the protocol connection that lives on it.

    Args:
        connection: the protocol's side; the stream is the only one to feed it.
        on_events: called with what has happened, in order; it may act on the connection.
        on_closed: called once, when the transport is gone.
        on_writable: called when a peer that was too slow has caught up with its buffer.
        on_unwritable: called when nothing more is to be written: the peer is too slow, or the connection is about to end.
        now: both clocks.
    """

    def __init__(
        self,
        connection: C,
        on_events: Callable[[list[Event]], None],
        on_closed: Callable[[], None],
        on_writable: Callable[[], None] = lambda: None,
        on_unwritable: Callable[[], None] = lambda: None,
        now: Callable[[], Instant] = clock,
    ) -> None:
        self.connection = connection
        self.writable = True
        self.peer = "?"
        self._written = 0
        self._on_events = on_events
        self._on_closed = on_closed
        self._on_writable = on_writable
        self._on_unwritable = on_unwritable
        self._now = now
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The network's side is there; send what the protocol has to say first."""
        # uvloop's transports are no subclass of asyncio's; they have the same methods.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=WRITE_HIGH_WATER)
        address = transport.get_extra_info("peername")
        self.peer = f"{address[0]}:{address[1]}" if address else "?"
        self.flush()

    def data_received(self, data: bytes) -> None:
        """Bytes came in."""
        self.connection.receive_data(data, self._now())
        self.flush()

    def eof_received(self) -> None:
        """The peer writes no more; then neither do we."""
        self.connection.receive_eof(self._now())
        self.flush()

    def pause_writing(self) -> None:
        """The peer reads too slowly: until it has caught up, nothing is read from it either.

        Otherwise a peer that asks and never listens (PING after PING) would fill our memory with answers.
        """
        self.writable = False
        if self._transport is not None and self.open:
            self._transport.pause_reading()
        self._on_unwritable()

    def resume_writing(self) -> None:
        """The peer has caught up."""
        self.writable = True
        if self._transport is not None and self.open:
            self._transport.resume_reading()
        self._on_writable()

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport is gone, for whatever reason. Does nothing the second time, nor where there never was one."""
        if self._transport is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        if not self.connection.ended:
            self.connection.receive_eof(self._now())
            self._hand_on_events()
        self._transport = None
        self._on_closed()
        # They are methods of whoever holds this stream: without them both are freed by their counts, at once.
        self._on_events = self._on_closed = _nobody_listens
        self._on_writable = self._on_unwritable = _nobody_listens

    # For the program around

    @property
    def open(self) -> bool:
        """Whether anything can still be written."""
        return self._transport is not None and not self._transport.is_closing()

    @property
    def buffered(self) -> int:
        """Bytes that wait in the socket's buffer."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    @property
    def drained(self) -> int:
        """Bytes of this connection's own that the socket has taken since the beginning; of shared ones see `shared_write`."""
        return self._written - self.buffered

    def flush(self) -> None:
        """Hand on events, write what the connection has to send, close if it has ended, and set the timer."""
        self._hand_on_events()
        transport, connection = self._transport, self.connection
        if transport is None or transport.is_closing():
            return
        if data := connection.data_to_send():
            transport.write(data)
            self._written += len(data)
        if connection.ended:
            self._close()
        else:
            self._set_timer()

    @property
    def shared_write(self) -> Callable[[bytes], object]:
        """Writes finished frames that thousands of peers share, and does nothing else: there is no time for more.

        Not to be called after `on_unwritable`, before `on_writable` has been. What the connection has to send is flushed
        whenever the caller's turn comes, so frames keep the order of the calls. Whoever calls it counts the bytes.

        Raises:
            LocalError: there is no network's side any more.
        """
        if self._transport is None:
            raise LocalError("a stream without a transport shares nothing")
        return self._transport.write

    def abort(self) -> None:
        """Cut the connection now, without a word; what waits in the buffer is thrown away."""
        if self._transport is not None:
            self._transport.abort()

    def reset(self) -> None:
        """As `abort`, and what the kernel still holds is thrown away too: for a peer that does not take it anyway."""
        if self._transport is not None:
            reset(self._transport)

    # Inside

    def _hand_on_events(self) -> None:
        while events := self.connection.take_events():
            self._on_events(events)

    def _close(self) -> None:
        """Close when everything is written; a peer that does not take it is not waited for without end."""
        assert self._transport is not None  # noqa: S101  flush has asked; tells mypy
        self._transport.close()
        self._on_unwritable()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(LINGER, self.reset)

    def _set_timer(self) -> None:
        """One timer, moved only when it has to ring earlier: most deadlines are pushed back long before they come."""
        deadline = self.connection.next_deadline()
        if deadline is None or (self._timer is not None and self._timer_at <= deadline):
            return
        if self._timer is not None:
            self._timer.cancel()
        delay = max(0, deadline - self._now().elapsed) / 1000
        self._timer = asyncio.get_running_loop().call_later(delay, self._ring)
        self._timer_at = deadline

    def _ring(self) -> None:
        self._timer = None
        self.connection.handle_timeout(self._now())
        self.flush()

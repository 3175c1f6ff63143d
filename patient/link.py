"""One connection to the doctor, from the first attempt at an address to whatever ended it.

Law: takes no decision. It keeps what a connection has come to: established or not, verified or not, ended and how. The
device decides what follows; the protocol is in `shared.protocol`, the bytes are moved by `shared.net.stream`.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Sequence

from patient.verdicts import Ending, Unreachable
from shared.errors import UserError
from shared.net.stream import Stream, clock
from shared.protocol.clock import Instant
from shared.protocol.envelopes import Positions
from shared.protocol.events import (
    Alerted,
    Confirmed,
    Disconnected,
    Event,
    Failed,
    KeysRotated,
    RetryAsked,
    Traced,
)
from shared.protocol.patient_connection import PatientConnection
from shared.protocol.patient_handshake import Hello
from shared.protocol.rotation import Successors
from shared.protocol.transitions import State
from shared.wire.messages import Position, Report
from shared.wire.opcodes import DisconnectReason, Opcode

CONNECT_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 2.0


class Link:
    """One connection. `positions` are its own, and follow the inbox's commits.

    Each connection judges what it receives by its own positions: two connections that read into one inbox, while a
    session is renewed, then both see every message, and neither acknowledges what is not committed. The inbox
    ignores the second copy.

    Args:
        address: host and port, as the user knows them.
        positions: the inbox's, copied.
        on_event: called with every event, in order.
        hello: the greeting that a busy doctor has asked to come again with.
        now: both clocks.

    Attributes:
        retry: the greeting to come again with, where the doctor asked for it on this connection.
        successors: the keys to pin before the next connection, where the doctor has proved that they are its own.
    """

    def __init__(
        self,
        address: str,
        positions: Positions,
        on_event: Callable[[Link, Event], None],
        hello: Hello | None = None,
        now: Callable[[], Instant] = clock,
    ) -> None:
        self.address = address
        self.positions = positions
        self.established = False
        self.verifier_sent = False
        self.ending: Ending = None
        self.hello = hello
        self.retry: Hello | None = None
        self.successors: Successors | None = None
        self.reported: Sequence[Position] = ()  # what its first RECEIPT said
        self._on_event = on_event
        self._now = now
        self._stream: Stream[PatientConnection] | None = None
        self._settled = asyncio.Event()
        self._closed = asyncio.Event()

    async def open(self, connect: Callable[[], PatientConnection]) -> bool:
        """Connect and do the handshake. True: established. False: it has ended, `ending` says how.

        `connect` makes the protocol's side; it is called when the network's side is there, since deadlines start then.
        """

        def protocol() -> Stream[PatientConnection]:
            self._stream = Stream(connect(), self._take, self._lost, now=self._now)
            return self._stream

        host, port = split_address(self.address)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await _connect(protocol, host, port)
        except asyncio.CancelledError:
            self._forsake()
            raise
        except TimeoutError:
            self._forsake()
            self._end(Unreachable(f"no answer within {CONNECT_TIMEOUT_S:g} s"))
        except OSError as error:
            self._end(Unreachable(_cause(error)))
        if self.ending is not None:  # `abort` while there was nothing to cut yet
            self.abort()
        try:
            await self._settled.wait()
        except asyncio.CancelledError:
            self.abort()
            raise
        return self.established

    async def closed_within(self, seconds: float) -> bool:
        """Wait until the transport is gone, at most so long; whether it is."""
        try:
            async with asyncio.timeout(seconds):
                await self._closed.wait()
        except TimeoutError:
            return False
        return True

    @property
    def closed(self) -> bool:
        """Whether the transport is gone, or there never was one."""
        return self._closed.is_set()

    @property
    def in_session(self) -> bool:
        """Whether records can be sent now."""
        return self._stream is not None and self._stream.connection.state is State.ESTABLISHED

    def acknowledge(self, positions: Sequence[Position]) -> None:
        """Send a RECEIPT; only while `in_session`."""
        if self._stream is not None:
            self._stream.connection.acknowledge(positions)
            self._stream.flush()

    def report(self, report: Report) -> None:
        """Send a REPORT; only while `in_session`."""
        if self._stream is not None:
            self._stream.connection.report(report)
            self._stream.flush()

    async def close(self) -> None:
        """Say goodbye and wait until the transport is gone, but not for long."""
        if self._stream is not None and not self.closed:
            self._stream.connection.disconnect(DisconnectReason.CLOSING)
            self._stream.flush()
            if not await self.closed_within(CLOSE_TIMEOUT_S):  # the peer does not take our last bytes
                self.abort()

    def abort(self, ending: Ending = None) -> None:
        """Cut the connection now, or as soon as there is one."""
        self.ending = self.ending or ending
        if self._stream is not None:
            self._stream.abort()

    def _take(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Alerted | Disconnected | Failed):
                self.ending = self.ending or event
            elif isinstance(event, Traced):
                self.verifier_sent = self.verifier_sent or event.opcode == Opcode.SESSION_VERIFIER
            elif isinstance(event, RetryAsked):
                self.retry = event.hello
            elif isinstance(event, KeysRotated):
                self.successors = event.successors
            elif isinstance(event, Confirmed):
                self.established = True
                self._settled.set()
            self._on_event(self, event)

    def _forsake(self) -> None:
        """Connecting was called off. If that fell in the moment in which it had come about, uvloop has closed the transport, and
        tells nobody."""
        if self._stream is not None:
            self._stream.connection_lost(None)

    def _lost(self) -> None:
        self._end(None)

    def _end(self, ending: Ending) -> None:
        self.ending = self.ending or ending
        self._closed.set()
        self._settled.set()


async def _connect(protocol: Callable[[], asyncio.Protocol], host: str, port: int) -> None:
    """Connect to the first address of a host that answers.

    A name is looked up here and not by create_connection: uvloop's, when it is called off meanwhile, leaves the look-up running,
    and a failure of it to nobody but the log. Raises OSError: no address answers.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for number, (*_, address) in enumerate(found, 1):
        try:
            await loop.create_connection(protocol, str(address[0]), port)
        except OSError:
            if number == len(found):
                raise
        else:
            return


def split_address(address: str) -> tuple[str, int]:
    """Host and port of "host:port" or "[v6]:port".

    Raises:
        UserError: it is neither.
    """
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise UserError(f"{address!r} is no address of a doctor; expected host:port")
    return host, int(port)


def _cause(error: OSError) -> str:
    """The same words whatever event loop runs; a failed look-up has a negative number and words of its own."""
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or str(error)

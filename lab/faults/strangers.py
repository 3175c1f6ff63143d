"""Connections by the thousand from as many loopback addresses as wanted, by somebody who does not keep to the protocol.

Law: a stranger holds no key and no memory of what it is sent but its size and, where a script asks for it, the first bytes. When it
lets go, it does so with a reset: a port of ours that waits out its time would be missing for the next one.
"""

from __future__ import annotations

import asyncio
import errno
import resource
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

_BIND_ADDRESS_NO_PORT = (
    24  # linux/in.h: a port is chosen when connecting, so that one address has as many as there are peers
)


@dataclass(frozen=True, slots=True)
class Target:
    """Where strangers connect: a TCP port, or the path of a Unix socket."""

    port: int = 0
    path: str = ""


class Stranger(asyncio.Protocol):
    """One connection.

    Attributes:
        opened, closed: in seconds of the monotonic clock; `closed` None while it is open.
        received: bytes so far.
        over: set when it is closed.
    """

    def __init__(self, on_data: Callable[[Stranger, bytes], None] | None = None) -> None:
        self.opened = 0.0
        self.closed: float | None = None
        self.received = 0
        self.over = asyncio.Event()
        self._on_data = on_data
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It stands."""
        self._transport = cast(asyncio.Transport, transport)
        self.opened = time.monotonic()

    def data_received(self, data: bytes) -> None:
        """Something is said to it."""
        self.received += len(data)
        if self._on_data is not None:
            self._on_data(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over, by whatever hand."""
        self.closed = time.monotonic()
        self._transport = None
        self.over.set()

    @property
    def held(self) -> float:
        """Seconds that it was open, or has been up to now."""
        return (time.monotonic() if self.closed is None else self.closed) - self.opened

    def say(self, data: bytes) -> None:
        """Send something, if it still stands."""
        if self._transport is not None:
            self._transport.write(data)

    def let_go(self) -> None:
        """End it."""
        if self._transport is not None:
            self._transport.abort()


@dataclass(slots=True)
class Crowd:
    """Strangers from some addresses.

    Attributes:
        everyone: who came through.
        unheard: how many did not even connect: the kernel's queue was full, or we had no port or descriptor left.
    """

    target: Target
    sources: Sequence[str] = ("127.0.0.1",)
    everyone: list[Stranger] = field(default_factory=list)
    unheard: int = 0
    _turn: int = 0

    def next_source(self) -> str:
        """The address whose turn it is."""
        self._turn += 1
        return self.sources[self._turn % len(self.sources)]

    async def send(
        self, on_data: Callable[[Stranger, bytes], None] | None = None, source: str | None = None
    ) -> Stranger | None:
        """One more, from an address or the next one; None where it could not connect."""
        source = source or self.next_source()
        loop = asyncio.get_running_loop()
        try:
            connected = await _connected(self.target, source)
            _, stranger = await loop.create_connection(lambda: Stranger(on_data), sock=connected)
        except OSError as error:
            if error.errno == errno.EMFILE:
                raise  # our own limit, and no finding about the doctor
            self.unheard += 1
            return None
        self.everyone.append(stranger)
        return stranger

    @property
    def standing(self) -> int:
        """How many are open now."""
        return sum(stranger.closed is None for stranger in self.everyone)

    def let_go(self) -> None:
        """End all."""
        for stranger in self.everyone:
            stranger.let_go()


async def _connected(target: Target, source: str) -> socket.socket:
    loop = asyncio.get_running_loop()
    connecting = socket.socket(socket.AF_UNIX if target.path else socket.AF_INET, socket.SOCK_STREAM)
    try:
        connecting.setblocking(False)
        if target.path:
            await loop.sock_connect(connecting, target.path)
        else:
            connecting.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connecting.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
            connecting.bind((source, 0))
            await loop.sock_connect(connecting, ("127.0.0.1", target.port))
    except BaseException:
        connecting.close()
        raise
    return connecting


def addresses(count: int) -> list[str]:
    """So many loopback addresses that nobody honest uses, at most 200."""
    return [f"127.0.1.{number}" for number in range(1, count + 1)]


async def at_rate(a_second: float, seconds: float, act: Callable[[], Awaitable[object]]) -> int:
    """Begin something so many times a second, for so long, whatever becomes of it; returns how often it was begun.

    What is late is made up for, so that the rate holds on average; all that was begun is awaited at the end.
    """
    begun, total, start = 0, round(a_second * seconds), time.monotonic()
    async with asyncio.TaskGroup() as tasks:
        while begun < total:
            while begun < min(total, a_second * (time.monotonic() - start)):
                tasks.create_task(_done(act))
                begun += 1
            await asyncio.sleep(0.005)
    return begun


async def _done(act: Callable[[], Awaitable[object]]) -> None:
    await act()


def allow_descriptors() -> int:
    """Take as many file descriptors as this process may have; how many that is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard

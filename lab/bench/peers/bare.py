"""The bare write loop: the same bytes to every connection by uvloop, nothing kept, nothing sealed. The floor under any fan-out.

What is published at once is joined and written at once: a system call for each message and connection would be no floor.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import cast

import uvloop

from lab.bench.peers.listening import HOST

LISTEN_BACKLOG = 1024
GREETING = b"k"


@dataclass(frozen=True, slots=True)
class BareServer:
    """A running loop: tell it how many messages of how many bytes to write to all."""

    pid: int
    port: int
    pipe: Connection

    def publish(self, count: int, size: int) -> None:
        """Write `count` messages of `size` bytes to every connection."""
        self.pipe.send((count, size))


@contextmanager
def server() -> Iterator[BareServer]:
    """A server of its own on loopback."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        port = ours.recv()
        assert process.pid is not None  # noqa: S101  it is started
        yield BareServer(process.pid, port, ours)
    finally:
        process.terminate()
        process.join()


@dataclass(frozen=True, slots=True)
class BareSubscribers:
    """Plain connections. `frame`: bytes of a message for each body length, as the protocol under comparison frames it."""

    port: int
    frame: int
    sockets: list[socket.socket] = field(default_factory=list)

    def connect(self, count: int) -> list[socket.socket]:
        """Connect. The loop greets whom it has taken; a connected socket alone may still wait for that."""
        new = [socket.create_connection((HOST, self.port), 30) for _ in range(count)]
        for each in new:
            each.recv(len(GREETING))
        self.sockets.extend(new)
        return self.sockets

    def round_size(self, sockets: list[socket.socket], messages: int, body: int) -> int:
        """As many bytes as ours are."""
        return messages * self.frame

    def answer(self, number: int, data: memoryview) -> bytes:
        """Nothing is asked for."""
        return b""

    def finish(self) -> None:
        """Nothing."""


class _Listener(asyncio.Protocol):
    def __init__(self, transports: list[asyncio.Transport]) -> None:
        self._transports = transports

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        taken = cast(asyncio.Transport, transport)
        taken.write(GREETING)
        self._transports.append(taken)


def _serve(parent: Connection) -> None:
    """The child process."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    transports: list[asyncio.Transport] = []

    def write() -> None:
        count, size = parent.recv()
        payload = b"x" * (size * count)
        for transport in transports:
            transport.write(payload)

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(lambda: _Listener(transports), HOST, 0, backlog=LISTEN_BACKLOG)
        loop.add_reader(parent.fileno(), write)
        parent.send(listener.sockets[0].getsockname()[1])
        await listener.serve_forever()

    uvloop.run(serve())

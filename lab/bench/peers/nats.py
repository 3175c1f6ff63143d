"""nats-server: the fastest broker of the common ones, at its core without persistence."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lab.bench.peers.listening import HOST, free_port, wait_until_listening

PACKAGE = "nats-server"


@dataclass(frozen=True, slots=True)
class NatsServer:
    """A running server."""

    pid: int
    port: int


@contextmanager
def server() -> Iterator[NatsServer]:
    """A server of its own on loopback.

    Raises:
        FileNotFoundError: it is not installed.
    """
    program = shutil.which("nats-server", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        raise FileNotFoundError(PACKAGE)
    port = free_port()
    process = subprocess.Popen(
        [program, "-a", HOST, "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_until_listening(port, process)
        yield NatsServer(process.pid, port)
    finally:
        process.terminate()
        process.wait()


@dataclass(frozen=True, slots=True)
class NatsSubscribers:
    """Subscribers of one subject."""

    server: NatsServer

    def connect(self, count: int) -> list[socket.socket]:
        """Connect and subscribe."""
        sockets = []
        for _ in range(count):
            connected = session(self.server)
            connected.sendall(b"SUB b 1\r\nPING\r\n")
            connected.recv(100)  # PONG: the subscription is there
            sockets.append(connected)
        return sockets

    def round_size(self, sockets: list[socket.socket], messages: int, body: int) -> int:
        """`MSG b 1 <size>`, the body, and the line's end."""
        return messages * (len(b"MSG b 1 %d\r\n" % body) + body + 2)

    def answer(self, number: int, data: memoryview) -> bytes:
        """Nothing is asked for."""
        return b""

    def finish(self) -> None:
        """Nothing."""


class Publisher:
    """A connection that publishes."""

    def __init__(self, to: NatsServer) -> None:
        self._socket = session(to)

    def publish(self, count: int, body: int) -> None:
        """Hand over so many messages."""
        self._socket.sendall((b"PUB b %d\r\n" % body + b"x" * body + b"\r\n") * count)


def session(to: NatsServer) -> socket.socket:
    """A connected session."""
    connected = socket.create_connection((HOST, to.port), 30)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.recv(4096)  # INFO
    connected.sendall(b'CONNECT {"verbose":false}\r\n')
    return connected

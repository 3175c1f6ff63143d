"""Browsers come in by TLS: what is half done counts, and keeps nobody out."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import uvicorn
import uvloop
from uvicorn.server import ServerState

from doctor.console import certificates, doorway
from doctor.console.connection import ConsoleConnection
from doctor.console.doorway import Doorway
from tests.doctor_bench import BELL, LOG, on_a_loop
from tests.unit.doctor.test_http import answer

ASK = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody"
LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate and its key."""
    return certificates.self_signed(str(tmp_path_factory.mktemp("console")))


class Watched(ConsoleConnection):
    """Rings when it is gone."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        super().connection_lost(exc)
        BELL.ring()


class Entrance:
    """A doorway that is open, and who comes to it."""

    def __init__(self, certificate: tuple[Path, Path]) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        self.trust = ssl.create_default_context(cafile=certificate[0])
        bound = socket.socket()
        bound.bind(("127.0.0.1", 0))
        self.port = bound.getsockname()[1]
        config = uvicorn.Config(answer, log_config=None, lifespan="off")
        config.load()
        self.state = ServerState()
        connection = partial(Watched, config, self.state, {})
        self.door = Doorway(bound, context, connection, lambda: len(self.state.connections))
        self.writers: list[asyncio.StreamWriter] = []

    async def knock(self) -> asyncio.StreamReader:
        """Connect, and say nothing."""
        seen = len(LOG.find("a browser came"))
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        await LOG.until("a browser came", count=seen + 1)
        return reader

    async def ask(self) -> bytes:
        """Come in, ask, and leave."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=self.trust, server_hostname="localhost"
        )
        self.writers.append(writer)
        writer.write(ASK)
        return await reader.readuntil(b"\r\n")


@asynccontextmanager
async def entrance(certificate: tuple[Path, Path]) -> AsyncIterator[Entrance]:
    """Open it, and close it in the end."""
    made = Entrance(certificate)
    made.door.open()
    try:
        yield made
    finally:
        await made.door.close()
        for connection in list(made.state.connections):
            connection.transport.abort()
        for writer in made.writers:
            writer.transport.abort()
        await BELL.until(lambda: not made.state.connections)


async def cut(reader: asyncio.StreamReader) -> bool:
    """Wait until the other side has ended it."""
    with contextlib.suppress(ConnectionResetError):
        return await reader.read() == b""
    return True


@pytest.mark.parametrize("loop", LOOPS)
def test_half_done_handshakes_are_bounded_and_keep_nobody_out(
    certificate: tuple[Path, Path],
    loop: Callable[[], asyncio.AbstractEventLoop],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The oldest one makes room; whoever goes on with its handshake is answered."""
    monkeypatch.setattr(doorway, "HANDSHAKES", 3)

    async def scenario() -> None:
        async with entrance(certificate) as it:
            readers = [await it.knock() for _ in range(3)]
            assert await it.ask() == b"HTTP/1.1 200 OK\r\n"
            assert await cut(readers[0])
            assert it.door.unfinished == 2
            assert len(it.state.connections) == 1
        assert await cut(readers[1])

    on_a_loop(scenario, loop)()


@pytest.mark.parametrize("loop", LOOPS)
def test_all_connections_count_together(
    certificate: tuple[Path, Path],
    loop: Callable[[], asyncio.AbstractEventLoop],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where all places are taken by those who are in, a newcomer is cut before a byte of it is read."""
    monkeypatch.setattr(ConsoleConnection, "most", 2)

    async def scenario() -> None:
        async with entrance(certificate) as it:
            for _ in range(2):
                await it.ask()
            reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
            it.writers.append(writer)
            assert await cut(reader)
            assert (it.door.unfinished, len(it.state.connections)) == (0, 2)

    on_a_loop(scenario, loop)()


@pytest.mark.parametrize("loop", LOOPS)
def test_a_handshake_has_a_deadline_and_what_is_no_tls_is_ended(
    certificate: tuple[Path, Path],
    loop: Callable[[], asyncio.AbstractEventLoop],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And neither leaves anything behind."""
    monkeypatch.setattr(doorway, "TLS_HANDSHAKE", 0.05)

    async def scenario() -> None:
        async with entrance(certificate) as it:
            assert await cut(await it.knock())
            reader, writer = await asyncio.open_connection("127.0.0.1", it.port)
            it.writers.append(writer)
            writer.write(ASK)
            await reader.read()
            await LOG.until("no TLS", count=2)
            await BELL.until(lambda: it.door.unfinished == 0)
            assert await it.ask() == b"HTTP/1.1 200 OK\r\n"

    on_a_loop(scenario, loop)()


@on_a_loop
async def test_without_descriptors_the_doorway_waits_and_goes_on(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal of the kernel's ends nothing."""
    monkeypatch.setattr(doorway, "RETRY", 0.0)
    loop, refusals = asyncio.get_running_loop(), iter([OSError(24, "Too many open files")])
    accept = loop.sock_accept

    async def sometimes(bound: socket.socket) -> tuple[socket.socket, object]:
        for error in refusals:
            raise error
        return await accept(bound)

    monkeypatch.setattr(loop, "sock_accept", sometimes)
    pair = certificates.self_signed(str(tmp_path_factory.mktemp("console")))
    async with entrance(pair) as it:
        assert await it.ask() == b"HTTP/1.1 200 OK\r\n"
        assert LOG.find("not accepted")

"""The API waits for a request so long and no longer."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import uvicorn
from uvicorn.server import ServerState

from doctor import http
from doctor.http import BODY_LIMIT, ApiConnection, when_whole
from tests.doctor_bench import on_a_loop

WHOLE = b"POST / HTTP/1.1\r\nHost: doctor\r\nContent-Length: 4\r\n\r\nbody"
NEVER = 3600.0


async def answer(scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
    """An application that reads a body and says how long it was."""
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message.get("body", b"")), message.get("more_body", False)
    text = str(size).encode()
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(text))]}
    )
    await send({"type": "http.response.body", "body": text})


class Watched(ApiConnection):
    """Says when it is closed."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config, ServerState(), {})
        self.closed = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        super().connection_lost(exc)
        self.closed.set()


class Client:
    """The other end of a connection."""

    def __init__(self, server: Watched, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.closed = server.closed
        self.reader = reader
        self.writer = writer

    async def ask(self, data: bytes) -> bytes:
        """Send something, and read an answer."""
        self.writer.write(data)
        head = await self.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        return await self.reader.readexactly(1)

    async def served(self) -> None:
        """Wait until the server does nothing more for this connection."""
        await asyncio.gather(*self.server.tasks)

    async def cut(self) -> bool:
        """Wait until the other end has closed; whether it did so without a word."""
        try:
            return await self.reader.read() == b""
        except ConnectionResetError:
            return True


@asynccontextmanager
async def connection(app: Any = answer) -> AsyncIterator[Client]:
    """A connection to an application, the one above where nothing else is said."""
    config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_keep_alive=int(NEVER))
    ours, theirs = socket.socketpair()
    loop = asyncio.get_running_loop()
    transport, server = await loop.connect_accepted_socket(lambda: Watched(config), theirs)
    reader, writer = await asyncio.open_connection(sock=ours)
    try:
        yield Client(server, reader, writer)
    finally:
        transport.abort()
        writer.close()


@pytest.mark.parametrize(
    "part", [b"", b"P", WHOLE[:40], WHOLE[:-1]], ids=["nothing", "a byte", "head", "body"]
)
def test_a_request_that_does_not_arrive_whole_is_ended(part: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever of it has come; and its sender learns that nothing was carried out."""
    monkeypatch.setattr(http, "REQUEST_DEADLINE", 0.05)

    async def scenario() -> None:
        async with connection() as client:
            client.writer.write(part)
            head, _, body = (await client.reader.read()).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 408 ")
            assert f"Content-Length: {len(body)}".encode() in head

    on_a_loop(scenario)()


@pytest.mark.parametrize("end", ["deadline", "disconnect"])
def test_of_a_request_that_does_not_arrive_whole_nothing_is_carried_out(
    end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even by an application that looks at no body: it is never called."""
    monkeypatch.setattr(http, "REQUEST_DEADLINE", 0.05 if end == "deadline" else NEVER)
    called = []

    async def order(scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        called.append(scope["path"])
        await answer(scope, receive, send)

    async def scenario() -> None:
        async with connection(order) as client:
            client.writer.write(WHOLE[:-1])
            if end == "deadline":
                assert b"nothing was carried out" in await client.reader.read()
            else:
                await client.writer.drain()
                client.writer.close()
            await client.closed.wait()
            await client.served()
        assert called == []
        async with connection(order) as client:
            assert await client.ask(WHOLE) == b"4"
        assert called == ["/"]

    on_a_loop(scenario)()


@on_a_loop
async def test_of_a_body_that_is_too_long_an_application_sees_so_much_and_no_more() -> None:
    """It is kept as far as it shows that; the rest is read and dropped."""
    sent = [b"x" * 1000] * 1000
    arriving: list[Any] = [{"type": "http.request", "body": part, "more_body": True} for part in sent]
    arriving[-1]["more_body"] = False
    arriving.append({"type": "http.disconnect"})
    seen = []

    async def receive() -> Any:
        return arriving.pop(0)

    async def look(scope: Any, receive: Callable[[], Any], send: Callable[[Any], Any]) -> None:
        seen.extend([await receive(), await receive()])

    await when_whole(look, cast(Any, {}), receive, cast(Any, None))

    assert BODY_LIMIT < len(seen[0]["body"]) <= BODY_LIMIT + 1000
    assert (seen[0]["more_body"], seen[1]["type"]) == (False, "http.disconnect")


def test_a_connection_that_says_nothing_more_is_ended_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has its answer, and has asked nothing since."""
    monkeypatch.setattr(http, "REQUEST_DEADLINE", 0.05)

    async def scenario() -> None:
        async with connection() as client:
            assert await client.ask(WHOLE) == b"4"
            assert await client.cut()

    on_a_loop(scenario)()


@on_a_loop
async def test_a_request_that_came_while_the_doctor_was_held_up_is_carried_out() -> None:
    """The deadline has passed, and the bytes had waited in the socket since before."""
    async with connection() as client:
        client.server._look_again()
        assert await client.ask(WHOLE) == b"4"


@on_a_loop
async def test_bytes_that_drip_in_move_no_deadline() -> None:
    """Only the end of the request does; then as much time as the application wants."""
    async with connection() as client:
        first = client.server._deadline
        assert first is not None
        for place in range(len(WHOLE) - 1):
            client.server.data_received(WHOLE[place : place + 1])
            assert client.server._deadline is first
        client.server.data_received(WHOLE[-1:])

        assert client.server._deadline is None
        assert first.cancelled()
        assert await client.ask(b"") == b"4"


@on_a_loop
async def test_each_request_has_a_deadline_of_its_own() -> None:
    """From the answer before it; one that was sent ahead needs none."""
    async with connection() as client:
        first = client.server._deadline
        assert await client.ask(WHOLE) == b"4"
        second = client.server._deadline
        assert second is not None
        assert second is not first
        assert await client.ask(WHOLE + WHOLE) == b"4"
        assert await client.ask(b"") == b"4"
        third = client.server._deadline
        assert third is not None

        client.writer.close()
        await client.closed.wait()
        assert third.cancelled()

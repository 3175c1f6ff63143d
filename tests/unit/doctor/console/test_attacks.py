"""What a stranger on the console's network, or a former operator, might try; each was once possible."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from doctor.answers import Origin
from doctor.console import connection
from doctor.console.connection import ConsoleConnection
from doctor.console.pages.entrance import safe_target
from doctor.console.server import ConsoleServer
from doctor.console.throttle import FREE
from tests.console_bench import Fields, console, text_of
from tests.doctor_bench import LOG, on_a_loop
from tests.unit.doctor.console.test_server import listening

SCRIPT = b"GET /static/htmx.min.js HTTP/1.1\r\nHost: localhost\r\n\r\n"


def port_of(server: ConsoleServer) -> int:
    """Where it listens."""
    return int(server.address.rstrip("/").rpartition(":")[2])


@on_a_loop
async def test_a_page_left_open_does_not_end_the_login_after_it(tmp_path: Path) -> None:
    """A new password ends the logins before it; what still asks with one of those ends no other."""
    async with console(tmp_path) as desk:
        before = await desk.admin()
        made = await desk.doctor.gateway.commands.reset_password("admin", Origin("test"))
        after = desk.stranger()
        await after.log_in(password=made.password)

        assert (await before.get("/patients/list")).status_code == 303
        assert (await after.get("/")).status_code == 200


@pytest.mark.parametrize("end", ["remove", "reset"])
def test_an_order_that_arrives_slowly_is_not_carried_out_for_a_former_operator(
    tmp_path: Path, end: str
) -> None:
    """Its head came while the operator was one, the end of its form did not."""

    async def scenario() -> None:
        async with console(tmp_path) as desk:
            commands, bea = desk.doctor.gateway.commands, await desk.operator("bea")
            token = Fields((await bea.get("/groups")).text).forms["/groups"]["csrf"]

            async def slowly() -> AsyncIterator[bytes]:
                yield f"csrf={token}&name=".encode()
                if end == "remove":
                    await commands.remove_operator("bea", Origin("test"))
                else:
                    await commands.reset_password("bea", Origin("test"))
                yield b"ward"

            headers = {"Origin": desk.base, "Content-Type": "application/x-www-form-urlencoded"}
            answer = await bea.http.post("/groups", content=slowly(), headers=headers)

            assert answer.headers.get("location") == "/login"
            assert "ward" not in commands.group_names()

    on_a_loop(scenario)()


@on_a_loop
async def test_two_addresses_do_not_find_out_who_is_an_operator(tmp_path: Path) -> None:
    """One makes names that do not exist slow; at the other a name is looked at all the same, whether it exists or not."""
    async with console(tmp_path) as desk:
        for number in range(FREE):
            await desk.stranger("198.51.100.9").log_in(f"nobody-{number}", "wrong")
        answers = [await desk.stranger("198.51.100.10").log_in(name, "wrong") for name in ("admin", "bea")]

        assert ["Name or password is wrong" in text_of(answer) for answer in answers] == [True, True]


@pytest.mark.parametrize("target", ["//[", "http://[", "/\u65e5", "/a\u00e9"])
def test_a_link_that_leads_nowhere_leads_to_the_first_page(tmp_path: Path, target: str) -> None:
    """A login by it is a login; nothing fails of ours, which would fill the log."""

    async def scenario() -> None:
        async with console(tmp_path) as desk:
            browser = desk.stranger()
            page = await browser.http.get("/login", params={"next": target})
            fields = {**Fields(page.text).forms["/login"], "next": target}
            answer = await browser.post("/login", {**fields, "name": "admin", "password": desk.password})
            assert (answer.status_code, answer.headers["location"]) == (303, "/")
            assert safe_target(target) == "/"
        assert LOG.find("request failed") == []

    on_a_loop(scenario)()


@pytest.mark.parametrize(
    "sent",
    [
        SCRIPT + b"G",
        SCRIPT + b"rubbish\r\n\r\n",
        SCRIPT.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
    ],
    ids=["half a request", "no request", "the last request"],
)
def test_who_reads_nothing_holds_no_place_beyond_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    """Whether the connection is ended by half a request or by its own wish: what is not taken is thrown away."""
    monkeypatch.setattr(connection, "READ_DEADLINE", 0.05)
    monkeypatch.setattr("doctor.http.REQUEST_DEADLINE", 0.05)

    async def scenario() -> None:
        held: asyncio.Queue[ConsoleConnection] = asyncio.Queue()
        gone = asyncio.Event()
        made, lost = ConsoleConnection.connection_made, ConsoleConnection.connection_lost

        def note_made(self: ConsoleConnection, transport: asyncio.Transport) -> None:
            made(self, transport)
            held.put_nowait(self)

        def note_lost(self: ConsoleConnection, exc: Exception | None) -> None:
            lost(self, exc)
            gone.set()

        monkeypatch.setattr(ConsoleConnection, "connection_made", note_made)
        monkeypatch.setattr(ConsoleConnection, "connection_lost", note_lost)
        async with listening(tmp_path) as (_, server):
            with socket.socket() as thief:
                thief.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                thief.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(thief, ("127.0.0.1", port_of(server)))
                raw = (await held.get()).transport.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
                await loop.sock_sendall(thief, sent)
                async with asyncio.timeout(5):
                    await gone.wait()

    on_a_loop(scenario)()


@on_a_loop
async def test_connections_beyond_the_limit_take_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger who opens thousands and says nothing leaves the doctor the descriptors that devices need."""
    monkeypatch.setattr(connection, "MOST", 3)
    async with listening(tmp_path) as (_, server):
        opened = [await asyncio.open_connection("127.0.0.1", port_of(server)) for _ in range(4)]
        try:
            with pytest.raises(ConnectionResetError):
                await opened[-1][0].readexactly(1)
            assert len(server.server_state.connections) == 3
        finally:
            for _, writer in opened:
                writer.close()

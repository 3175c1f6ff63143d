"""Where the console listens, and with which certificate."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from uvicorn.server import ServerState

from doctor import answering
from doctor.console import certificates
from doctor.console.connection import ConsoleConnection
from doctor.console.passwords import Hasher
from doctor.console.server import ConsoleServer, create_console
from doctor.settings import console_directory
from shared.errors import UserError
from tests.console_bench import CHEAP, Fields
from tests.doctor_bench import LOG, ME, Doctor, on_a_loop, running, settings_for


@asynccontextmanager
async def listening(directory: Path, **changes: Any) -> AsyncIterator[tuple[Doctor, ConsoleServer]]:
    """A doctor whose console is served."""
    settings = settings_for(directory, console_port=0, **changes)
    async with running(directory) as doctor:
        server = create_console(doctor.gateway, settings)
        assert server is not None
        serving = asyncio.create_task(server.serve())
        await LOG.until("console ready", url=server.address)
        try:
            yield doctor, server
        finally:
            doctor.house.feed.close()
            server.should_exit = True
            await serving


@on_a_loop
async def test_a_stream_reaches_a_browser_and_the_doctor_ends_in_time(tmp_path: Path) -> None:
    """Over a real socket: login, a live stream, and a stop that does not wait for it."""
    async with listening(tmp_path) as (doctor, server):
        commands = doctor.gateway.commands
        commands.hasher = Hasher(CHEAP)
        made = await commands.provide_first_operator()
        assert made is not None
        headers = {"Origin": server.address.rstrip("/")}
        async with httpx.AsyncClient(base_url=server.address, headers=headers) as http:
            hidden = Fields((await http.get("/login")).text).forms["/login"]
            answer = await http.post("/login", data={**hidden, "name": "admin", "password": made.password})
            assert answer.status_code == 303
            async with http.stream("GET", "/live") as stream:
                parts = stream.aiter_text()
                assert (stream.status_code, await anext(parts)) == (200, "retry: 2000\n\n")
                assert stream.headers["content-type"].startswith("text/event-stream")
                assert "server" not in stream.headers
                await commands.create_group("ward", ME)
                assert "event: groups\n" in await anext(parts)
                doctor.house.feed.close()
                assert [part async for part in parts] == []


@on_a_loop
async def test_a_certificate_of_its_own_is_for_this_machine(tmp_path: Path) -> None:
    """It names loopback alone, its key is private, it is kept; the console is reached by TLS only."""
    async with listening(tmp_path, console_certificate="self-signed") as (_, server):
        directory = console_directory(str(tmp_path / "state"))
        path = directory / "certificate.pem"
        context = ssl.create_default_context(cafile=path)
        async with httpx.AsyncClient(verify=context) as http:
            answer = await http.get(f"{server.address}login")
            assert (answer.status_code, server.address[:18]) == (200, "https://127.0.0.1:")
            assert "max-age" in answer.headers["strict-transport-security"]
            with pytest.raises(httpx.TransportError):
                await http.get(server.address.replace("https", "http"))
        assert [each.stat().st_mode & 0o777 for each in (directory, directory / "key.pem")] == [0o700, 0o600]
        before = path.read_bytes()
        certificates.self_signed(str(tmp_path / "state"))
        assert path.read_bytes() == before
        assert server.fingerprint is not None
        assert len(server.fingerprint) == 64


def test_a_certificate_of_its_own_is_made_anew_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it expires, and where the file is no certificate."""
    path, _ = certificates.self_signed(str(tmp_path))
    first = path.read_bytes()
    monkeypatch.setattr(certificates, "RENEWED_BEFORE", certificates.LIFETIME + timedelta(days=1))
    certificates.self_signed(str(tmp_path))
    second = path.read_bytes()
    assert second != first
    monkeypatch.undo()
    path.write_bytes(b"rubbish")
    certificates.self_signed(str(tmp_path))
    assert path.read_bytes() not in (b"rubbish", first, second)


@on_a_loop
async def test_every_address_of_loopback_will_do(tmp_path: Path) -> None:
    """And the console is known under it."""
    async with listening(tmp_path, console_host="127.0.0.7") as (_, server), httpx.AsyncClient() as http:
        assert (await http.get(f"{server.address}login")).status_code == 200


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"console_host": "192.0.2.1"}, "plain HTTP on loopback only"),
        ({"console_host": "0.0.0.0", "console_certificate": "self-signed"}, "on the devices' network too"),
        ({"console_host": "::", "console_certificate": "self-signed"}, "on the devices' network too"),
        ({"console_host": "0", "console_certificate": "self-signed"}, "on the devices' network too"),
        ({"console_host": "::ffff:0.0.0.0", "console_certificate": "self-signed"}, "devices' network too"),
        ({"console_certificate": "c.pem"}, "belong together"),
        ({"console_key": "k.pem"}, "belong together"),
        ({"console_certificate": "/no/c.pem", "console_key": "/no/k.pem"}, "are of no use"),
        ({"console_host": "192.0.2.1", "console_certificate": "self-signed"}, "cannot be taken"),
    ],
)
def test_where_it_may_not_listen_it_says_what_to_do(
    tmp_path: Path, changes: dict[str, str], text: str
) -> None:
    """Before anything is bound."""

    async def scenario() -> None:
        async with running(tmp_path) as doctor:
            with pytest.raises(UserError, match=text):
                create_console(doctor.gateway, settings_for(tmp_path, **{"console_port": 0, **changes}))

    on_a_loop(scenario)()


def test_a_name_that_is_not_this_machines_is_not_called_a_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container it is the name on the console's network: who is not connected to that looks for it at the port in vain."""

    def look_up(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def scenario() -> None:
        async with running(tmp_path) as doctor:
            monkeypatch.setattr(socket, "getaddrinfo", look_up)
            settings = settings_for(
                tmp_path, console_host="console", console_certificate="self-signed", console_port=0
            )
            with pytest.raises(
                UserError, match=r"console_host 'console' is no address of this machine \(Name"
            ):
                create_console(doctor.gateway, settings)

    on_a_loop(scenario)()


@on_a_loop
async def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    """With the setting to change; no port, no console."""
    async with listening(tmp_path) as (doctor, server):
        port = int(server.address.rstrip("/").rpartition(":")[2])
        with pytest.raises(UserError, match=rf"127\.0\.0\.1:{port} cannot be taken .* Set console_port"):
            create_console(doctor.gateway, settings_for(tmp_path, console_port=port))
        assert create_console(doctor.gateway, settings_for(tmp_path)) is None


def test_a_certificate_that_others_can_read_the_key_of_is_refused(tmp_path: Path) -> None:
    """As every key is."""
    certificate, key = certificates.self_signed(str(tmp_path))
    key.chmod(0o644)

    async def scenario() -> None:
        async with running(tmp_path) as doctor:
            changes = {"console_certificate": str(certificate), "console_key": str(key)}
            with pytest.raises(UserError, match="chmod 600"):
                create_console(doctor.gateway, settings_for(tmp_path, console_port=0, **changes))

    on_a_loop(scenario)()


HEAD = "POST /login HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
STRANGE = {
    "no HTTP": "\0\r\n\r\n",
    "a form that breaks off": HEAD + "Content-Length: 100\r\n\r\nname=x",
    "a form in pieces that are none": HEAD + "Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "an upgrade": "GET /login HTTP/1.1\r\nHost: {host}\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
}


@on_a_loop
async def test_no_connection_of_a_strangers_writes_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it sends, and wherever it ends: neither in our log nor in a library's, which no bound of ours holds."""
    async with listening(tmp_path) as (_, server):
        before = len(LOG.lines)
        url = httpx.URL(server.address)
        for text in STRANGE.values():
            reader, writer = await asyncio.open_connection(url.host, url.port)
            writer.write(text.format(host=f"{url.host}:{url.port}").encode())
            writer.write_eof()
            await reader.read()
            writer.close()
    assert [line for line in LOG.lines[before:] if line["level"] != "debug"] == []
    assert caplog.records == []


class Refusing(asyncio.Transport):
    """A browser that takes nothing: whatever is written stays."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = asyncio.Event()

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Neither a socket nor TLS."""
        return default

    def is_closing(self) -> bool:
        """Never by itself."""
        return False

    def close(self) -> None:
        """It waits for the rest to be read, so nothing happens."""

    def abort(self) -> None:
        """The end, whatever waits."""
        self.cut.set()


@pytest.mark.parametrize("end", ["pause_writing", "timeout_keep_alive_handler", "eof_received"])
def test_a_browser_that_reads_nothing_is_cut(monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    """And one that reads again is not."""
    monkeypatch.setattr(answering, "READ_DEADLINE", 0.01)

    async def scenario() -> None:
        config = uvicorn.Config(_nothing, log_config=None, lifespan="off")
        config.load()
        it, transport = ConsoleConnection(config, ServerState(), {}), Refusing()
        it.connection_made(transport)
        it.pause_writing()
        first = it._stalled
        assert first is not None
        it.resume_writing()
        assert first.cancelled()
        getattr(it, end)()
        await transport.cut.wait()
        it.connection_lost(None)
        assert it._stalled is None

    on_a_loop(scenario)()


async def _nothing(scope: Any, receive: Any, send: Any) -> None:
    raise AssertionError("nothing is asked")

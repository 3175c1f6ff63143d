"""The health check: the first half of a real handshake, judged by the doctor's own key."""

from __future__ import annotations

import asyncio
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from doctor import probe as probe_module
from doctor.keyring import load_or_create
from doctor.probe import probe
from shared.errors import StorageError, UserError
from shared.wire import framing, messages
from shared.wire.messages import Alert
from shared.wire.opcodes import AlertCode, Opcode
from tests.doctor_bench import LOG, on_a_loop, running, settings_for

SUITES = ["elgamal-p256-mlkem768", "elgamal-p256", "elgamal-ffdhe3072"]


@contextmanager
def answering(directory: Path, answer: bytes) -> Iterator[int]:
    """Something else listens on the device port; a doctor has run here before."""
    (directory / "state").mkdir(mode=0o700, exist_ok=True)
    load_or_create(directory / "state", frozenset(), secrets.token_bytes)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


@pytest.mark.parametrize("suite", SUITES)
def test_a_doctor_that_answers_passes(tmp_path: Path, suite: str) -> None:
    """In each suite; it leaves no patient, no failure and no key behind."""

    async def scenario() -> None:
        async with running(tmp_path, suites=(suite,), listen_host="0.0.0.0") as doctor:
            keys = sorted((tmp_path / "state" / "keys").iterdir())
            settings = settings_for(
                tmp_path, suites=(suite,), listen_host="0.0.0.0", listen_port=doctor.gateway.port
            )

            await asyncio.to_thread(probe, settings)

            await LOG.until("connection closed")
            assert LOG.find("refused") == []
            assert doctor.gateway.commands.patients() == []
            assert sorted((tmp_path / "state" / "keys").iterdir()) == keys

    on_a_loop(scenario)()


@on_a_loop
async def test_another_doctor_on_the_port_fails(tmp_path: Path) -> None:
    """Its prekey is signed by another key, or under another name."""
    (tmp_path / "ours" / "state").mkdir(parents=True, mode=0o700)
    load_or_create(tmp_path / "ours" / "state", frozenset(), secrets.token_bytes)
    async with running(tmp_path / "theirs") as doctor:
        port = doctor.gateway.port
        for settings, check in [
            (settings_for(tmp_path / "ours", listen_port=port), "V-021"),
            (settings_for(tmp_path / "theirs", listen_port=port, doctor_id="grace"), "V-020"),
        ]:
            with pytest.raises(UserError, match=f"answer does not verify: {check}"):
                await asyncio.to_thread(probe, settings)


def test_where_no_doctor_has_run_nothing_is_made(tmp_path: Path) -> None:
    """Least of all a key: the doctor that starts at this moment makes its own."""
    with pytest.raises(StorageError, match=r"ecdsa-p256\.key cannot be read"):
        probe(settings_for(tmp_path, listen_port=1))

    assert list(tmp_path.iterdir()) == []


def test_a_port_where_nobody_listens_fails(tmp_path: Path) -> None:
    """By name."""
    with (
        answering(tmp_path, b"") as port,
        pytest.raises(UserError, match="closed the connection without an answer"),
    ):
        probe(settings_for(tmp_path, listen_port=port))

    with pytest.raises(UserError, match=f"device port 127.0.0.1:{port} does not answer"):
        probe(settings_for(tmp_path, listen_port=port))


def test_rubbish_and_alerts_fail(tmp_path: Path) -> None:
    """Whatever answers, it is not this doctor."""
    alert = messages.encode(Alert(AlertCode.BUSY, 0, b""))
    for answer, says in [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not answer: V-001"),
        (framing.header(Opcode.ALERT, len(alert)) + alert, "answered with ALERT"),
        (framing.header(Opcode.KEY_EXCHANGE_REPLY, 3) + b"abc", "does not verify: V-004"),
    ]:
        with answering(tmp_path, answer) as port, pytest.raises(UserError, match=says):
            probe(settings_for(tmp_path, listen_port=port))


def test_a_port_that_says_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The container's health check must end."""
    monkeypatch.setattr(probe_module, "TIMEOUT", 0.05)
    load_or_create_in(tmp_path)
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        pytest.raises(UserError, match="does not answer: timed out"),
    ):
        probe(settings_for(tmp_path, listen_port=silent.getsockname()[1]))


def load_or_create_in(directory: Path) -> None:
    """As if a doctor had run."""
    (directory / "state").mkdir(mode=0o700)
    load_or_create(directory / "state", frozenset(), secrets.token_bytes)

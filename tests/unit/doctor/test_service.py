"""`serve`: from start to signal."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import httpx
import pytest

from doctor import gateway as gateway_module
from doctor import service
from doctor.answers import GroupAnswer
from doctor.client import Client
from doctor.settings import SOCKET_NAME, api_directory, console_directory
from shared.errors import UserError
from tests.doctor_bench import LOG, on_a_loop, settings_for, verify_audit


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_good_order(short_dir: Path, number: signal.Signals) -> None:
    """Until then it answers; after it the port, the socket and the lock are free: it can be started again."""

    async def scenario() -> None:
        settings = settings_for(short_dir)
        for _ in range(2):
            LOG.lines.clear()
            serving = asyncio.create_task(service.serve(settings))
            await LOG.until("api ready")

            def ask() -> list[GroupAnswer]:
                with Client(settings.state_dir) as client:
                    return client.get("/v1/groups", list[GroupAnswer])

            assert [group.name for group in await asyncio.to_thread(ask)] == ["everyone"]
            os.kill(os.getpid(), number)
            await serving

    on_a_loop(scenario)()
    assert verify_audit(short_dir).first_bad is None


@on_a_loop
async def test_a_socket_that_a_killed_doctor_left_is_taken_over(short_dir: Path) -> None:
    """Nobody has to remove it by hand."""
    settings = settings_for(short_dir)
    for _ in range(2):
        LOG.lines.clear()
        serving = asyncio.create_task(service.serve(settings))
        await LOG.until("api ready")
        assert (api_directory(settings.state_dir) / SOCKET_NAME).is_socket()
        copy = api_directory(settings.state_dir) / "left"
        copy.unlink(missing_ok=True)
        os.link(api_directory(settings.state_dir) / SOCKET_NAME, copy)
        os.kill(os.getpid(), signal.SIGTERM)
        await serving
        os.replace(copy, api_directory(settings.state_dir) / SOCKET_NAME)


@on_a_loop
async def test_a_state_directory_that_is_too_deep_is_said(tmp_path: Path) -> None:
    """Before a device could connect for nothing; the gateway is closed again."""
    deep = tmp_path / ("d" * 60) / ("e" * 60)

    with pytest.raises(UserError, match="a socket's path has at most 107"):
        await service.serve(settings_for(deep))
    with pytest.raises(UserError, match="a socket's path has at most 107"):
        await service.serve(settings_for(deep))


@on_a_loop
async def test_a_doctor_whose_timers_have_died_ends(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the bug that killed them, so that it is started again."""

    async def broken(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(gateway_module.Gateway, "keep_time", broken)

    with pytest.raises(ZeroDivisionError):
        await service.serve(settings_for(short_dir))


def test_the_first_start_says_how_to_log_in_to_a_terminal_alone(
    short_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A log gets no password; the console answers while the doctor serves, and a second start says nothing of the kind."""
    shown = []
    for terminal in (False, True, True):
        directory = short_dir / str(terminal)

        async def scenario(terminal: bool = terminal, directory: Path = directory) -> None:
            LOG.lines.clear()
            monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
            serving = asyncio.create_task(service.serve(settings_for(directory, console_port=0)))
            line = await LOG.until("console ready")
            async with httpx.AsyncClient() as http:
                assert (await http.get(f"{line['url']}login")).status_code == 200
            os.kill(os.getpid(), signal.SIGTERM)
            await serving

        on_a_loop(scenario)()
        shown.append(capsys.readouterr().err)
    first = (console_directory(settings_for(short_dir / "True").state_dir) / "first-password").read_text()
    assert [first in text for text in shown] == [False, True, False]
    assert shown[0] == ""
    assert not any(first in str(line) for line in LOG.lines)

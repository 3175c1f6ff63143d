"""The bad network as a program: it listens, forwards to the doctor, and ends when it is told to."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from lab.faults.forward import endpoint, forward, main
from shared.errors import UserError

LIMIT = 10.0


async def test_it_forwards_until_it_is_told_to_stop(capsys: pytest.CaptureFixture[str]) -> None:
    """What it says first tells the weather and the port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(4))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        doctor = server.sockets[0].getsockname()[:2]
        running = asyncio.create_task(forward(("127.0.0.1", 0), doctor, "clinic-wifi"))
        said = ""
        async with asyncio.timeout(LIMIT):
            while "listening" not in said:
                await asyncio.sleep(0)
                said += capsys.readouterr().out
            assert said.startswith("clinic-wifi: 10 ms each way")
            reader, writer = await asyncio.open_connection("127.0.0.1", int(said.rpartition(":")[2]))
            writer.write(b"ping")
            assert await reader.readexactly(4) == b"ping"
            writer.close()
            os.kill(os.getpid(), signal.SIGTERM)
            await running


def test_a_wrong_argument_is_one_sentence_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    """Too few, no address, no such weather."""
    assert main(["0.0.0.0:7700"]) == 2
    assert main(["nowhere", "doctor:7700", "rural"]) == 2
    assert main(["127.0.0.1:0", "doctor:7700", "drizzle"]) == 2
    assert "no weather 'drizzle'" in capsys.readouterr().err


def test_an_address_has_a_host_and_a_port() -> None:
    """Names and numbers alike."""
    assert endpoint("doctor:7700") == ("doctor", 7700)
    with pytest.raises(UserError, match="host:port"):
        endpoint("doctor:")

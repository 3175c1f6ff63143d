"""Reading a byte a second, and what the row about it makes of its measurements."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from lab.faults import sluice as sluice_module
from lab.faults.capture import Capture, Way
from lab.faults.row import Scale, Trial
from lab.faults.rows.slow_readers import Case
from lab.faults.sluice import Sluice
from lab.faults.swarm import Swarm
from lab.faults.ward import Room, Ward
from tests.doctor_bench import LIMIT_S

MUCH = 8 * 1024 * 1024  # more than all kernels and buffers on the way hold


class Sizes(Capture):
    """A capture that also notes how much was read at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[Way, list[int]] = {way: [] for way in Way}

    def add(self, connection: int, way: Way, time: float, data: bytes) -> None:
        """Note, and keep."""
        self.sizes[way].append(len(data))
        super().add(connection, way, time, data)


async def test_a_narrow_sluice_leaves_the_sender_with_what_it_has_to_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A byte at a time and nothing read ahead; wide again, everything comes, and what goes up was never held."""
    monkeypatch.setattr(sluice_module, "BYTE_EVERY", 0.001)
    writers: list[asyncio.StreamWriter] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(await reader.readexactly(5))
        writer.write(bytes(MUCH))

    async with asyncio.timeout(LIMIT_S), await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        capture = Sizes()
        sluice = Sluice("127.0.0.1", server.sockets[0].getsockname()[1], capture)
        async with sluice:
            sluice.narrow()
            reader, writer = await asyncio.open_connection("127.0.0.1", sluice.port)
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            assert await reader.readexactly(20) == bytes(20)
            assert max(capture.sizes[Way.TO_PATIENT]) == 1
            assert writers[0].transport.get_write_buffer_size() > 0

            sluice.widen()
            assert await reader.readexactly(MUCH - 20) == bytes(MUCH - 20)
            writers[0].close()
            assert await reader.read() == b""
            writer.close()


async def test_a_sluice_without_a_doctor_closes() -> None:
    """As a dead host does."""
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as server:
        gone = server.sockets[0].getsockname()[1]
    async with asyncio.timeout(LIMIT_S), Sluice("127.0.0.1", gone, Capture()) as sluice:
        reader, writer = await asyncio.open_connection("127.0.0.1", sluice.port)
        assert await reader.read() == b""
        writer.close()


async def test_one_busy_moment_decides_nothing_and_a_slowdown_does(tmp_path: Path) -> None:
    """Medians of blocks are compared; both are figures."""
    ward = Ward(tmp_path)
    room = Room("none", ward.clinic.proxy, Swarm(tmp_path / "patients", "127.0.0.1:9", ward.watch))
    case = Case(Trial(Scale(), 1, tmp_path, lambda done, total: None), ward, room, room)
    case.with_them, case.without = [0.1, 9.0, 0.1], [0.1, 0.1, 0.1]
    case.compare()
    assert case.troubles == []
    case.with_them, case.without = [0.3, 0.3, 0.1], [0.1, 9.0, 0.1]
    case.compare()
    assert case.troubles == ["The others' p99 was 3.00 times the usual; it must be below 2."]
    assert [value for name, value in case.figures if name == "p99_ratio"] == [1.0, 3.0]


@pytest.mark.slow
async def test_without_a_limit_nobody_who_reads_nothing_is_cut(tmp_path: Path) -> None:
    """The row says so: a doctor that waits for ever for its slow readers does not pass."""
    trial = Trial(Scale(patients=2, messages=60, seconds=1), 1, tmp_path, lambda done, total: None)
    async with Ward(tmp_path, settings={"STALLED_READER_S": "3600"}) as ward:
        ward.filler = "x" * 12_000
        sluice = Sluice("127.0.0.1", ward.clinic.port, Capture())
        async with sluice:
            slow, others = await ward.furnish("slow", sluice), await ward.open_room("others")
            await ward.admit(slow, ["slow-1"])
            await ward.admit(others, ["bed-1"])
            case = Case(trial, ward, slow, others)
            sluice.narrow()
            await case.measure(60)
            await case.until_cut(0.5)
            sluice.widen()
            await case.until_caught_up()
    assert case.troubles == ["1 of 1 slow readers were not cut."]

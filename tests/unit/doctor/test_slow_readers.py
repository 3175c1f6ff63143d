"""Devices that take nothing: cut after half a minute, bounded until then, caught up with when they come back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from doctor import slow_readers
from doctor.broadcast_log import SLICE_BYTES
from doctor.house import UNSENT_BYTES
from shared.net.stream import WRITE_HIGH_WATER, clock
from shared.protocol.clock import SECOND, Instant
from shared.wire.framing import AUTHENTICATED_LIMIT
from tests.doctor_bench import EVERYONE, LOG, Device, Doctor, on_a_loop, running

PATIENCE = 30 * SECOND
BODY = "x" * 30_000
BOUND = WRITE_HIGH_WATER + SLICE_BYTES + 2 * AUTHENTICATED_LIMIT


def later(milliseconds: int) -> Instant:
    """A moment from now."""
    now = clock()
    return Instant(now.wall + milliseconds, now.elapsed + milliseconds)


async def deaf(doctor: Doctor, private: bool) -> Device:
    """A device that has stopped reading, and for which more waits than the kernel takes."""
    device = await doctor.device("anna")
    assert device.stream is not None
    assert device.stream._transport is not None
    device.stream._transport.pause_reading()
    session = doctor.session(device)
    sent = 0
    while sent < 4 or session.stream.writable:
        await (doctor.send("anna", BODY) if private else doctor.broadcast(BODY))
        await asyncio.sleep(0)
        sent += 1
        assert session.stream.buffered <= BOUND
    for _ in range(40):  # far more than the bound, had it been queued
        await (doctor.send("anna", BODY) if private else doctor.broadcast(BODY))
    assert session.stream.buffered <= BOUND
    return device


@on_a_loop
async def test_the_kernel_keeps_little_for_who_reads_nothing(tmp_path: Path) -> None:
    """It would take megabytes for each, which no count of ours sees, and hide for as long that nothing is read."""
    async with running(tmp_path) as doctor:
        anna = await deaf(doctor, private=False)
        assert doctor.session(anna).drained < 8 * UNSENT_BYTES
        anna.cut()


@pytest.mark.parametrize("private", [False, True])
def test_who_reads_nothing_is_bounded_then_cut_then_caught_up(tmp_path: Path, private: bool) -> None:
    """Not before half a minute without progress; the doctor is told; nothing is lost, nothing comes twice."""

    @on_a_loop
    async def story() -> None:
        async with running(tmp_path) as doctor:
            bert = await doctor.device("bert")
            anna = await deaf(doctor, private)
            slow_readers.cut(doctor.fanout, later(0), PATIENCE)
            slow_readers.cut(doctor.fanout, later(PATIENCE - 5_000), PATIENCE)
            assert LOG.find("cut: reads nothing") == []

            slow_readers.cut(doctor.fanout, later(PATIENCE + 1), PATIENCE)

            (line,) = LOG.find("cut: reads nothing", patient="anna")
            assert line["pending"] > 0
            (row,) = [row for row in doctor.gateway.commands.patients() if row.patient == "anna"]
            assert "it read nothing for 3" in (row.trouble or "")  # 30 s, or more on a busy machine
            await LOG.until("session ended", patient="anna")
            anna.cut()
            await anna.gone()
            last = await (doctor.send("anna", "last") if private else doctor.broadcast("last"))
            await doctor.reconnect(anna)
            await doctor.delivered(anna, last.number)
            numbers = [shown.number for shown in anna.inbox[anna.own if private else EVERYONE]]
            assert numbers == sorted(set(numbers))
            stored = doctor.reader.execute("SELECT count(*) FROM messages").fetchone()[0]
            assert len(numbers) == stored
            assert bert.closed == 0

    story()


@on_a_loop
async def test_who_takes_a_little_now_and_then_stays(tmp_path: Path) -> None:
    """Progress counts, not speed; and so does a buffer that is empty."""
    async with running(tmp_path) as doctor:
        anna = await deaf(doctor, private=False)
        session = doctor.session(anna)
        assert anna.stream is not None
        assert anna.stream._transport is not None
        slow_readers.cut(doctor.fanout, later(0), PATIENCE)
        before = session.drained

        anna.stream._transport.resume_reading()
        await anna.until(lambda _: session.drained > before, "some progress")
        slow_readers.cut(doctor.fanout, later(PATIENCE * 2), PATIENCE)
        await anna.until(lambda _: not session.stream.buffered, "an empty buffer")
        slow_readers.cut(doctor.fanout, later(PATIENCE * 4), PATIENCE)
        slow_readers.cut(doctor.fanout, later(PATIENCE * 6), PATIENCE)

        assert LOG.find("cut: reads nothing") == []
        assert anna.closed == 0

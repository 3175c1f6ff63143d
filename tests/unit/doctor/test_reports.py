"""What patients report: kept once, sealed, acknowledged when it is on the disk."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from doctor.answers import ReportAnswer
from shared.errors import StorageError, UserError
from shared.protocol.events import ReportsReceipted
from shared.wire.messages import Report, ReportKind
from tests.doctor_bench import LOG, Device, Doctor, on_a_loop, running

HELLO = Report(b"r" * 16, ReportKind.REPLY, 1_000, "I feel better – thank you".encode())


def send(device: Device, report: Report) -> None:
    assert device.stream is not None
    device.stream.connection.report(report)
    device.stream.flush()


def receipted(device: Device) -> list[bytes]:
    events = [event for event in device.events if isinstance(event, ReportsReceipted)]
    return [report_id for event in events for report_id in event.report_ids]


def reported(doctor: Doctor, patient: str) -> list[ReportAnswer]:
    return doctor.gateway.commands.reports(patient)


@on_a_loop
async def test_a_report_is_kept_and_acknowledged(tmp_path: Path) -> None:
    """With both clocks; on the disk it is sealed."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")

        send(anna, HELLO)
        await anna.until(lambda it: receipted(it) == [HELLO.report_id])

        (kept,) = reported(doctor, "anna")
        assert (kept.id, kept.kind, kept.created) == (HELLO.report_id.hex(), "reply", 1_000)
        assert kept.body.encode() == HELLO.body
        assert kept.received > 1_000
        assert HELLO.body not in doctor.reader.execute("SELECT body FROM reports").fetchone()[0]


@on_a_loop
async def test_a_report_that_is_sent_again_is_kept_once(tmp_path: Path) -> None:
    """Its receipt may have been lost, so there is another; the first copy stays."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        send(anna, HELLO)
        send(anna, Report(HELLO.report_id, ReportKind.VITALS, 2_000, b"{}"))

        await anna.until(lambda it: receipted(it) == [HELLO.report_id] * 2)

        (kept,) = reported(doctor, "anna")
        assert kept.kind == "reply"


@on_a_loop
async def test_the_same_id_of_two_patients_is_two_reports(tmp_path: Path) -> None:
    """Nobody can take another's place by guessing an id."""
    async with running(tmp_path) as doctor:
        anna, bert = await doctor.device("anna"), await doctor.device("bert")
        send(anna, HELLO)
        send(bert, HELLO)

        await anna.until(lambda it: receipted(it) == [HELLO.report_id])
        await bert.until(lambda it: receipted(it) == [HELLO.report_id])

        assert len(reported(doctor, "anna")) == len(reported(doctor, "bert")) == 1


@on_a_loop
async def test_a_disk_that_refuses_acknowledges_nothing(tmp_path: Path) -> None:
    """The device keeps the report; sent again, it is kept."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        async with doctor.refusing_disk():
            send(anna, HELLO)
            await LOG.until("report not stored", patient="anna")
        assert receipted(anna) == []

        send(anna, HELLO)

        await anna.until(lambda it: receipted(it) == [HELLO.report_id])


@on_a_loop
async def test_a_device_that_is_gone_meanwhile_is_acknowledged_nothing(tmp_path: Path) -> None:
    """The report is kept all the same."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        async with doctor.held_writer():
            send(anna, HELLO)
            await asyncio.sleep(0)
            session = doctor.session(anna)
            anna.cut()
            await LOG.until("session ended", patient="anna")
        await doctor.settled()

        assert not session.stream.open
        assert receipted(anna) == []


@on_a_loop
async def test_reports_of_nobody_are_refused_in_words(tmp_path: Path) -> None:
    """And so is a body that somebody has changed on the disk."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        send(anna, HELLO)
        await anna.until(lambda it: receipted(it) == [HELLO.report_id])

        with pytest.raises(UserError, match="no patient 'bert'"):
            reported(doctor, "bert")
        await doctor.writer.submit(lambda db: db.execute("UPDATE reports SET body = zeroblob(40)"))
        with pytest.raises(StorageError, match=r"reports\.body"):
            reported(doctor, "anna")


@on_a_loop
async def test_a_damaged_kind_is_named(tmp_path: Path) -> None:
    """Not a traceback, and not another kind."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        send(anna, HELLO)
        await anna.until(lambda it: receipted(it) == [HELLO.report_id])
        await doctor.house.writer.submit(lambda db: db.execute("UPDATE reports SET kind = 9").rowcount)

        with pytest.raises(
            StorageError, match=f"reports.kind of row anna/{HELLO.report_id.hex()} is damaged"
        ):
            reported(doctor, "anna")

"""What patients report: kept once, sealed, acknowledged when it is on the disk."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from doctor import intake
from doctor.answers import ReportAnswer
from doctor.audit import Action
from shared.errors import StorageError, UserError
from shared.protocol.events import Confirmed, ReportsReceipted
from shared.wire.messages import Report, ReportKind
from tests.doctor_bench import LOG, ME, Device, Doctor, on_a_loop, running

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


# Quotas


def numbered(number: int) -> Report:
    return Report(number.to_bytes(16, "big"), ReportKind.VITALS, number, b"{}")


@on_a_loop
async def test_a_full_quota_refuses_what_is_new_and_erases_nothing(tmp_path: Path) -> None:
    """Not acknowledged, logged once, shown to the doctor; what is known is acknowledged; others are not concerned."""
    async with running(tmp_path, reports_per_patient=2) as doctor:
        anna, bert = await doctor.device("anna"), await doctor.device("bert")
        for number in range(5):
            send(anna, numbered(number))
        send(anna, numbered(0))
        send(bert, numbered(4))

        await anna.until(lambda it: len(receipted(it)) == 3)
        await bert.until(lambda it: len(receipted(it)) == 1)

        assert receipted(anna) == [numbered(number).report_id for number in (0, 1, 0)]
        assert len(LOG.find("reports refused", patient="anna", reason="its quota is full")) == 1
        (row,) = [row for row in doctor.gateway.commands.patients() if row.patient == "anna"]
        assert "a report was refused: its quota is full" in (row.trouble or "")
        assert sorted(each.created for each in reported(doctor, "anna")) == [0, 1]


@on_a_loop
async def test_room_is_made_by_a_person(tmp_path: Path) -> None:
    """What was received before a time is erased, audited, and what was refused is kept when it comes again."""
    async with running(tmp_path, reports_per_patient=1) as doctor:
        anna = await doctor.device("anna")
        send(anna, numbered(0))
        await anna.until(lambda it: len(receipted(it)) == 1)
        send(anna, numbered(1))
        await LOG.until("reports refused", patient="anna")
        (kept,) = reported(doctor, "anna")

        nothing = await doctor.gateway.commands.forget_reports("anna", kept.received, ME)
        erased = await doctor.gateway.commands.forget_reports("anna", kept.received + 1, ME)
        send(anna, numbered(1))
        await anna.until(lambda it: len(receipted(it)) == 2)

        assert (nothing.reports, erased.reports) == (0, 1)
        assert [each.created for each in reported(doctor, "anna")] == [1]
        assert doctor.audited(Action.REPORTS_FORGOTTEN) == [("anna", "0 reports"), ("anna", "1 reports")]
        with pytest.raises(UserError, match="no patient 'carl'"):
            await doctor.gateway.commands.forget_reports("carl", 0, ME)


@on_a_loop
async def test_too_many_reports_at_once_are_refused(tmp_path: Path) -> None:
    """The minute's share is taken, the rest is not acknowledged; also over a reconnect, which would be a way round it."""
    async with running(tmp_path, reports_per_minute=3) as doctor:
        anna = await doctor.device("anna")
        for number in range(5):
            send(anna, numbered(number))
        await anna.until(lambda it: len(receipted(it)) == 3)
        await LOG.until("reports refused", patient="anna", reason="too many at once")
        anna.cut()
        await LOG.until("session ended", patient="anna")

        await doctor.reconnect(anna)
        await anna.until(lambda it: it.count(Confirmed) == 2, "its second session")
        send(anna, numbered(3))
        await LOG.until("reports refused", count=2, patient="anna")

        assert len(receipted(anna)) == 3


@on_a_loop
async def test_what_waits_for_the_disk_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device cannot fill the memory while the disk is busy."""
    monkeypatch.setattr(intake, "REPORTS_IN_HAND", 2)
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        async with doctor.held_writer():
            for number in range(5):
                send(anna, numbered(number))
            await LOG.until("reports refused", patient="anna", reason="too many at once")
        await anna.until(lambda it: len(receipted(it)) == 2)
        send(anna, numbered(4))

        await anna.until(lambda it: receipted(it)[-1] == numbered(4).report_id)

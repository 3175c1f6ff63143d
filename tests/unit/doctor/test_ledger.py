"""What happens by itself is in the audit log: in order, also after a disk that refused, and counted where strangers cause it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from doctor import ledger as ledger_module
from doctor.audit import Action
from doctor.ledger import EACH, Ledger
from shared.errors import StorageError
from shared.net.stream import clock
from shared.protocol.clock import Instant
from shared.wire.messages import Report, ReportKind
from tests.doctor_bench import LOG, on_a_loop, running, verify_audit


@on_a_loop
async def test_entries_wait_for_a_disk_that_refuses(tmp_path: Path) -> None:
    """They keep their order; the next call, or the timer, writes them; nothing is written twice."""
    async with running(tmp_path) as doctor:
        ledger = doctor.house.ledger
        async with doctor.refusing_disk():
            for number in range(3):
                ledger.note(Action.REFUSED, "anna", f"{number}")
                await LOG.until("audit entries not stored")
        assert doctor.audited(Action.REFUSED) == []

        ledger.write_waiting()
        ledger.note(Action.REFUSED, "anna", "3")
        await doctor.settled()

        assert doctor.audited(Action.REFUSED) == [("anna", f"{number}") for number in range(4)]


@on_a_loop
async def test_an_epoch_that_began_while_the_disk_refused_is_audited_and_kept_later(tmp_path: Path) -> None:
    """No key is ever in use of which the log does not tell."""
    async with running(tmp_path) as doctor:
        group = doctor.fanout.groups["everyone"]
        async with doctor.refusing_disk():
            doctor.fanout.next_epoch(group)
            await LOG.until("audit entries not stored")
        doctor.house.ledger.write_waiting()
        await doctor.settled()

        number = group.epoch_number
        assert doctor.audited(Action.EPOCH_BEGUN)[-1] == ("everyone", f"epoch {number}, 0 members")
        assert doctor.reader.execute("SELECT epoch FROM groups").fetchall() == [(number,)]


@on_a_loop
async def test_what_goes_beyond_the_bound_is_told_by_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded, and the hole has a size."""
    monkeypatch.setattr(ledger_module, "LIMIT", 3)
    async with running(tmp_path) as doctor:
        async with doctor.refusing_disk():
            for number in range(5):
                doctor.house.ledger.note(Action.REFUSED, "anna", f"{number}")
            await LOG.until("audit entries not stored")
        doctor.house.ledger.write_waiting()
        await doctor.settled()

        assert [detail for _, detail in doctor.audited(Action.REFUSED)] == ["0", "1", "2"]
        assert doctor.audited(Action.ENTRIES_LOST) == [("audit", "2 while the disk refused")]


@on_a_loop
async def test_strangers_are_counted_in_one_entry_a_minute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many knock: the log grows with time, not with them."""
    async with running(tmp_path) as doctor:
        ledger, now = doctor.house.ledger, clock()
        for _ in range(500):
            ledger.count_stranger("V-031", "192.0.2.7")
        ledger.count_stranger("V-010", "192.0.2.8")
        ledger.write_waiting()
        await doctor.settled()
        assert doctor.audited(Action.STRANGERS_REFUSED) == []

        monkeypatch.setattr(ledger_module, "clock", lambda: Instant(now.wall, now.elapsed + EACH))
        ledger.write_waiting()
        ledger.write_waiting()
        await doctor.settled()

        assert doctor.audited(Action.STRANGERS_REFUSED) == [
            ("door", "V-010:1 V-031:500; from 192.0.2.7 (500), 192.0.2.8 (1)")
        ]


@on_a_loop
async def test_of_many_addresses_those_are_named_that_most_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The entry stays short, and so does what is remembered for it, however many addresses there are."""
    monkeypatch.setattr(ledger_module, "ADDRESSES", 4)
    async with running(tmp_path) as doctor:
        ledger = doctor.house.ledger
        for number in range(1, 8):
            for _ in range(number if number < 5 else 9):
                ledger.count_stranger("V-001", f"192.0.2.{number}")
        ledger.sum_up()
        ledger.count_stranger("failed", "192.0.2.9")
        ledger.sum_up()
        await doctor.settled()

        assert [detail for _, detail in doctor.audited(Action.STRANGERS_REFUSED)] == [
            "V-001:37; from 192.0.2.4 (4), 192.0.2.3 (3), 192.0.2.2 (2) and elsewhere (28)",
            "failed:1; from 192.0.2.9 (1)",
        ]


@on_a_loop
async def test_who_knocks_without_a_word_that_fits_is_counted_when_the_doctor_stops(tmp_path: Path) -> None:
    """A real refusal; nothing of the stranger but the check and its address stands in the log."""
    async with running(tmp_path) as doctor:
        reader, writer = await asyncio.open_connection("127.0.0.1", doctor.gateway.port)
        writer.write(b"GET / HTTP/1.1")
        await reader.read()
        writer.close()
        await writer.wait_closed()
    async with running(tmp_path) as doctor:
        assert doctor.audited(Action.STRANGERS_REFUSED) == [("door", "V-001:1; from 127.0.0.1 (1)")]


@on_a_loop
async def test_receipts_are_audited_by_the_message_up_to_which_they_reach(tmp_path: Path) -> None:
    """Once each; a number that is no message's adds nothing."""
    async with running(tmp_path) as doctor:
        anna, bert = await doctor.device("anna"), await doctor.device("bert")
        sent = await doctor.broadcast("take two")
        for device in (anna, bert):
            await doctor.delivered(device, sent.number)
        (stream,) = [stream for stream in doctor.fanout.last if str(stream) == "group:everyone"]
        anna.acknowledge(stream, sent.number)
        await doctor.settled()

        details = "; ".join(detail for _, detail in doctor.audited(Action.RECEIPTS))
        assert details.count(sent.id) == details.count(": ") <= 2
        assert sorted(word for word in details.replace(";", " ").split() if word in ("anna", "bert")) == [
            "anna",
            "bert",
        ]


@on_a_loop
async def test_a_kept_report_is_audited_once(tmp_path: Path) -> None:
    """However often the device sends it."""
    async with running(tmp_path) as doctor:
        await doctor.device("anna")
        report = Report(bytes(16), ReportKind.REPLY, clock().wall, b"better")
        for _ in range(2):
            await doctor.writer.submit(
                lambda db: doctor.house.reports.store(db, "anna", report, clock().wall)
            )

        assert doctor.audited(Action.REPORT_KEPT) == [("anna", f"report {'00' * 16}")]


@on_a_loop
async def test_what_waits_at_the_end_is_written_and_the_last_head_is_signed(tmp_path: Path) -> None:
    """A doctor that stops in good order leaves no entry that could be cut off unseen."""
    async with running(tmp_path) as doctor:
        await doctor.broadcast("x")
        doctor.house.ledger.count_stranger("V-001", "192.0.2.7")
    verdict = verify_audit(tmp_path)
    assert verdict.first_bad is None
    async with running(tmp_path) as doctor:
        assert doctor.audited(Action.STRANGERS_REFUSED) == [("door", "V-001:1; from 192.0.2.7 (1)")]
        assert doctor.reader.execute("SELECT max(sequence) FROM audit").fetchone()[0] > verdict.entries > 0


@on_a_loop
async def test_after_the_end_nothing_is_taken_and_nothing_hangs(tmp_path: Path) -> None:
    """A disk that refuses to the end is not waited for."""
    async with running(tmp_path) as doctor:
        async with doctor.refusing_disk():
            doctor.house.ledger.note(Action.REFUSED, "anna", "lost")
            await doctor.house.ledger.close()
        doctor.house.ledger.note(Action.REFUSED, "anna", "late")
        await doctor.settled()

        assert doctor.audited(Action.REFUSED) == []


@on_a_loop
async def test_a_bug_in_an_entry_is_not_hidden(tmp_path: Path) -> None:
    """Only a disk's refusal is tried again."""
    async with running(tmp_path) as doctor:
        ledger = Ledger(doctor.writer)
        done = doctor.loop.create_future()
        done.set_exception(ZeroDivisionError())
        with pytest.raises(ZeroDivisionError):
            ledger._written(0, 0, done)
        done = doctor.loop.create_future()
        done.set_exception(StorageError("full"))
        ledger._written(0, 0, done)
        await doctor.broadcast("still there")

"""Old bodies leave the disk, byte by byte; what they were part of stays, and who comes late gets the message without its body."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from doctor import retention
from doctor.audit import Action
from doctor.enrolment import HOUR
from doctor.reports import Reports
from doctor.retention import BATCH, Retention, erase_bodies, erase_reports
from shared.errors import StorageError
from shared.net.stream import clock
from shared.storage.sqlite import open_reader
from shared.wire.messages import Report, ReportKind
from tests.doctor_bench import BELL, LOG, Books, Doctor, on_a_loop, running, verify_audit
from tests.protocol_bench import DAY

BODY = "0123456789abcdef" * 1000  # several pages, so that it overflows its own


def on_disk(directory: Path) -> bytes:
    """Everything in the database's files."""
    return b"".join(path.read_bytes() for path in sorted((directory / "state").glob("doctor.db*")))


def keeper(doctor: Doctor, directory: Path, hours: float) -> Retention:
    """A retention of so many hours."""
    return Retention(doctor.writer, directory / "state" / "doctor.db", round(hours * HOUR))


@on_a_loop
async def test_no_byte_of_an_old_body_is_left(tmp_path: Path) -> None:
    """Neither of the text, which never was there, nor of what was sealed: not in the database and not in its log."""
    async with running(tmp_path, message_hours=0.0001) as doctor:
        anna = await doctor.device("anna")
        sent = await doctor.broadcast(BODY)
        await doctor.delivered(anna, sent.number)
        (sealed,) = doctor.reader.execute("SELECT body FROM messages").fetchone()
        parts = [sealed[at : at + 64] for at in range(0, len(sealed) - 64, 1024)]
        assert all(part in on_disk(tmp_path) for part in parts)

        assert await keeper(doctor, tmp_path, 1).apply(clock().wall + 2 * HOUR) == 1

        assert [part for part in parts if part in on_disk(tmp_path)] == []
        assert BODY[:64].encode() not in on_disk(tmp_path)
        assert doctor.states(sent.id) == {"anna": "delivered"}
        assert len(doctor.audited(Action.BODIES_ERASED)) == 1
    assert verify_audit(tmp_path).first_bad is None


@on_a_loop
async def test_who_comes_late_goes_on_through_a_message_that_has_no_body(tmp_path: Path) -> None:
    """The chain of numbers is whole: the erased one is applied and shown to nobody, the next one is shown."""
    async with running(tmp_path, message_hours=0.0001) as doctor:
        anna = await doctor.device("anna")
        anna.cut()
        await anna.gone()
        old = await doctor.broadcast("old")
        await keeper(doctor, tmp_path, 1).apply(clock().wall + 2 * HOUR)
    async with running(tmp_path) as doctor:
        new = await doctor.broadcast("new")
        await doctor.reconnect(anna)
        await doctor.delivered(anna, new.number)

        assert anna.bodies() == [None, b"new"]
        assert doctor.states(old.id) == {"anna": "expired"}


def test_a_body_stays_while_its_message_can_be_asked_for(books: Books) -> None:
    """Whatever its age; and while the retention time lasts, whether or not it has expired."""
    books.enrol("anna")
    long = books.accept("long", lifetime=10 * DAY)
    short = books.accept("short", lifetime=HOUR)
    at = books.now + 2 * DAY

    assert erase_bodies(books.db, at - 3 * DAY, at) == 0
    assert erase_bodies(books.db, at - DAY, at) == 1
    rows = books.db.execute("SELECT number, body IS NULL FROM messages ORDER BY number").fetchall()
    assert rows == [(long.number, 0), (short.number, 1)]
    loaded = books.outbox.load(books.db, long.stream, 0, short.number, at, 10)
    assert [message.body for _, message in loaded] == [b"long", None]


def test_an_erased_body_is_not_asked_of_the_seal(books: Books) -> None:
    """Even where the clock was set back to before the message expired."""
    books.enrol("anna")
    accepted = books.accept("short", lifetime=HOUR)
    before, at = books.now, books.now + 2 * DAY
    erase_bodies(books.db, at, at)

    ((number, message),) = books.outbox.load(books.db, accepted.stream, 0, accepted.number, before, 10)
    assert (number, message.body) == (accepted.number, None)


@on_a_loop
async def test_many_are_erased_in_several_transactions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that no order waits for all of them."""
    monkeypatch.setattr(retention, "BATCH", 2)
    async with running(tmp_path, message_hours=0.0001) as doctor:
        await doctor.device("anna")
        for number in range(5):
            await doctor.broadcast(f"{number}")

        assert await keeper(doctor, tmp_path, 1).apply(clock().wall + 2 * HOUR) == 5
        assert len(doctor.audited(Action.BODIES_ERASED)) == 3
    assert BATCH > 100


@on_a_loop
async def test_a_log_that_a_reader_holds_back_is_emptied_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pages as they were stay in it until then."""
    monkeypatch.setattr("shared.storage.sqlite._BUSY_TIMEOUT_S", 0.01)
    async with running(tmp_path, message_hours=0.0001) as doctor:
        await doctor.device("anna")
        await doctor.broadcast(BODY)
        (sealed,) = doctor.reader.execute("SELECT body FROM messages").fetchone()
        keep, later = keeper(doctor, tmp_path, 1), clock().wall + 2 * HOUR
        with contextlib.closing(open_reader(tmp_path / "state" / "doctor.db")) as other:
            other.execute("BEGIN")
            other.execute("SELECT count(*) FROM messages").fetchone()
            assert await keep.apply(later) == 1
            assert LOG.find("bodies erased", pending=1)
            assert sealed[:64] in on_disk(tmp_path)

        assert await keep.apply(later) == 0
        assert LOG.find("bodies erased", pending=0)
        assert sealed[:64] not in on_disk(tmp_path)


@on_a_loop
async def test_a_disk_that_refuses_is_asked_again(tmp_path: Path) -> None:
    """Nothing is half erased."""
    async with running(tmp_path, message_hours=0.0001) as doctor:
        await doctor.device("anna")
        await doctor.broadcast("old")
        keep, later = keeper(doctor, tmp_path, 1), clock().wall + 2 * HOUR
        async with doctor.refusing_disk():
            with pytest.raises(StorageError):
                await keep.apply(later)

        assert await keep.apply(later) == 1


def test_what_is_to_be_erased_is_found_by_an_index(db: sqlite3.Connection) -> None:
    """Every minute, among however many messages."""
    plan = db.execute(
        "EXPLAIN QUERY PLAN SELECT stream, number FROM messages"
        " WHERE body IS NOT NULL AND created < 1 AND expires < 1 ORDER BY created LIMIT 1"
    ).fetchall()

    assert "messages_with_body" in plan[0][3]


def stored(books: Books, patient_id: str, *received: int) -> Reports:
    """Reports of a patient, one received at each of these times."""
    reports = Reports(books.sealer, 100)
    for number, moment in enumerate(received):
        report = Report(bytes([number]) * 16, ReportKind.REPLY, 0, f"{number}".encode())
        assert reports.store(books.db, patient_id, report, moment)
    return reports


def test_reports_are_erased_by_age_whoever_sent_them(books: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    """In batches; what is younger stays, and the audit log says how many went."""
    monkeypatch.setattr(retention, "BATCH", 2)
    for name in ("anna", "bert"):
        books.enrol(name)
        reports = stored(books, name, 10, 20, 30)

    erased = [erase_reports(books.db, tuple(ReportKind), 25, 99) for _ in range(3)]

    assert erased == [2, 2, 0]
    for name in ("anna", "bert"):
        assert [report.received for report in reports.of_patient(books.db, name, 10)] == [30]
    entries = books.db.execute("SELECT object, detail FROM audit WHERE action = 'reports-forgotten'")
    assert entries.fetchall() == [("reports", "2 received before 25")] * 2


@on_a_loop
async def test_reports_have_no_age_limit_unless_one_is_set(tmp_path: Path) -> None:
    """What was acknowledged is the doctor's alone to erase; with a limit, no byte of it is left."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        assert anna.stream is not None
        anna.stream.connection.report(Report(b"r" * 16, ReportKind.REPLY, 0, BODY.encode()))
        anna.stream.flush()
        await BELL.until(lambda: doctor.gateway.commands.reports("anna"), "the report")
        (sealed,) = doctor.reader.execute("SELECT body FROM reports").fetchone()
        database, later = tmp_path / "state" / "doctor.db", clock().wall + 48 * HOUR

        assert await Retention(doctor.writer, database, HOUR).apply(later) == 0
        assert sealed[:64] in on_disk(tmp_path)
        assert await Retention(doctor.writer, database, HOUR, 24 * HOUR).apply(later) == 1

        assert doctor.gateway.commands.reports("anna") == []
        assert sealed[:64] not in on_disk(tmp_path)

"""Reports leave in order and come to the doctor once, whatever is lost, cut or killed in between."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing

import pytest

from patient import reporting
from patient.device import Device
from patient.notices import Established, ReportKept
from patient.outbox import Outbox, WrittenReport
from patient.reporting import IN_FLIGHT
from shared.storage.sealed import Sealer
from shared.wire.messages import ReportKind
from tests.patient_bench import Bench, session
from tests.small_doctor import SmallDoctor, Visit


async def report(alice: Device, *bodies: bytes) -> list[bytes]:
    """Report texts; their ids."""
    return [await alice.report(ReportKind.REPLY, body) for body in bodies]


def came(visit: Visit) -> list[bytes]:
    """What was reported on one connection, in order."""
    return [each.body for each in visit.reports]


async def kept(bench: Bench, count: int) -> None:
    """Wait until the device knows that the doctor has so many."""
    await bench.heard.until(lambda: len(bench.heard.of(ReportKept)) == count)


async def test_a_report_goes_out_at_once_and_is_told_when_it_is_kept(bench: Bench) -> None:
    """With its id, its kind and its time; the outbox has noted the receipt before anybody is told."""
    async with SmallDoctor() as doctor, bench.in_session(doctor) as alice:
        report_id = await alice.report(ReportKind.VITALS, b'{"pulse": 70}')
        await kept(bench, 1)

        (arrived,) = doctor.last.reports
        assert (arrived.report_id, arrived.kind) == (report_id, ReportKind.VITALS)
        assert bench.heard.of(ReportKept) == [ReportKept(report_id.hex())]
        assert bench.reported() == [(b'{"pulse": 70}', True)]


async def test_what_was_reported_without_a_session_goes_out_with_the_next(bench: Bench) -> None:
    """Before the first one, and after a restart."""
    async with SmallDoctor() as doctor:
        async with bench.device(doctor) as alice:
            await report(alice, b"one", b"two")
        async with bench.in_session(doctor):
            await kept(bench, 2)

        assert came(doctor.last) == [b"one", b"two"]


async def test_a_report_of_another_program_is_noticed(bench: Bench) -> None:
    """`telemed-patient report` writes while the device runs."""
    async with SmallDoctor() as doctor, bench.in_session(doctor) as alice:
        key, random = alice.identity.storage_key, bench.conditions.random
        command = Outbox(bench.home.outbox_file, Sealer(key, random), random)
        await command.write(ReportKind.REPLY, b"from a command", 0)
        await kept(bench, 1)
        await command.write(ReportKind.REPLY, b"and another", 0)
        await command.close()
        await kept(bench, 2)

        assert came(doctor.last) == [b"from a command", b"and another"]


async def test_only_a_few_are_in_flight(bench: Bench) -> None:
    """The next goes out when one has been receipted."""
    async with SmallDoctor() as doctor, bench.device(doctor) as alice:
        doctor.keep_reports = False
        bodies = [b"%d" % number for number in range(IN_FLIGHT + 2)]
        await report(alice, *bodies)
        await session(alice)
        await doctor.until(lambda: len(doctor.last.reports) == IN_FLIGHT)
        doctor.last.receipt(doctor.last.reports[0])
        await doctor.until(lambda: len(doctor.last.reports) == IN_FLIGHT + 1)
        doctor.last.receipt(*doctor.last.reports[1:])
        await doctor.until(lambda: len(doctor.last.reports) == IN_FLIGHT + 2)

        assert came(doctor.last) == bodies


async def test_what_was_not_receipted_is_sent_again_in_the_next_session(bench: Bench) -> None:
    """Under the same id, by which the doctor knows it; what was receipted stays away."""
    async with SmallDoctor() as doctor, bench.in_session(doctor) as alice:
        doctor.keep_reports = False
        await report(alice, b"one", b"two", b"three")
        await doctor.until(lambda: len(doctor.last.reports) == 3)
        first = doctor.last
        first.receipt(first.reports[1])
        await kept(bench, 1)
        doctor.keep_reports = True
        first.stream.abort()
        await session(alice)
        await kept(bench, 3)

        assert came(doctor.last) == [b"one", b"three"]
        assert [each.report_id for each in doctor.last.reports] == [
            first.reports[0].report_id,
            first.reports[2].report_id,
        ]


async def test_a_renewed_session_takes_over(bench: Bench) -> None:
    """While two stand, the newest is used; a receipt on the old one counts all the same."""
    async with SmallDoctor() as doctor, bench.in_session(doctor) as alice:
        doctor.keep_reports = False
        await report(alice, b"one", b"two")
        await doctor.until(lambda: len(doctor.last.reports) == 2)
        await session(alice)
        old, new = doctor.visits
        await doctor.until(lambda: len(new.reports) == 2)
        old.receipt(old.reports[0])
        await kept(bench, 1)
        await report(alice, b"three")
        await doctor.until(lambda: len(new.reports) == 3)

        assert (came(old), came(new)) == ([b"one", b"two"], [b"one", b"two", b"three"])


async def test_without_a_receipt_a_report_is_sent_again_in_the_same_session(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The doctor could not store it, say; its disk is back later."""
    async with SmallDoctor() as doctor, bench.in_session(doctor) as alice:
        doctor.keep_reports = False
        await report(alice, b"one")
        await doctor.until(lambda: doctor.last.reports)
        monkeypatch.setattr(reporting, "REPEAT_AFTER_S", 0)
        doctor.keep_reports = True
        await kept(bench, 1)

        assert {each.report_id for each in doctor.last.reports} == set(doctor.reports)
        assert len(doctor.visits) == 1

    assert "no receipt has come" in capfd.readouterr().err


async def test_a_receipt_that_cannot_be_noted_is_asked_for_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """This device's disk is full: the report stays in flight, is sent again, and receipted again."""
    async with SmallDoctor() as doctor, bench.in_session(doctor) as alice:
        await report(alice, b"one")
        await kept(bench, 1)
        with closing(sqlite3.connect(bench.home.outbox_file)) as connection, connection:
            connection.execute(
                "CREATE TRIGGER full BEFORE UPDATE ON reports BEGIN SELECT RAISE(ROLLBACK, 'disk full'); END"
            )
        monkeypatch.setattr(reporting, "REPEAT_AFTER_S", 0)
        await report(alice, b"two")
        await doctor.until(lambda: came(doctor.last) == [b"one", b"two", b"two"])
        with closing(sqlite3.connect(bench.home.outbox_file)) as connection, connection:
            connection.execute("DROP TRIGGER full")
        await kept(bench, 2)

        assert bench.reported() == [(b"one", True), (b"two", True)]

    assert "report's receipt not noted" in capfd.readouterr().err


async def test_an_outbox_that_cannot_be_read_is_logged_once_and_tried_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Messages go on meanwhile."""
    async with SmallDoctor() as doctor, bench.in_session(doctor) as alice:
        monkeypatch.setattr(reporting, "LOOK_EVERY_S", 0)
        looks, thrice = iter(range(3)), asyncio.Event()
        read = alice._outbox.waiting

        def read_and_count(behind: int, limit: int) -> list[WrittenReport]:
            if next(looks, None) is None:
                thrice.set()
            return read(behind, limit)

        monkeypatch.setattr(alice._outbox, "waiting", read_and_count)
        bench.home.outbox_file.write_bytes(b"no database at all, and long enough to be looked at" * 100)
        bench.home.outbox_file.chmod(0o600)
        doctor.say("hello")
        await doctor.until(lambda: doctor.last.receipts)
        await thrice.wait()
        bench.home.outbox_file.unlink()
        await report(alice, b"one")
        await kept(bench, 1)

    assert capfd.readouterr().err.count("outbox not read") == 1


async def test_a_session_that_ends_takes_nothing_with_it(bench: Bench) -> None:
    """Nobody looks for reports until the next one; then they go out, those written meanwhile as well."""
    async with SmallDoctor() as doctor, bench.device(doctor) as alice:
        link = await session(alice)
        doctor.last.stream.abort()
        await link.closed_within(5)
        await alice.drop(link)
        await report(alice, b"one")
        await session(alice)
        await kept(bench, 1)

        assert len(bench.heard.of(Established)) == 2
        assert came(doctor.last) == [b"one"]


async def test_a_receipt_that_comes_at_the_end_is_noted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device is told to stop while the doctor answers."""
    async with SmallDoctor() as doctor:
        async with bench.in_session(doctor) as alice:
            receipted = asyncio.Event()
            take = alice._reporting.receipted

            def take_and_tell(ids: Sequence[bytes]) -> None:
                take(ids)
                receipted.set()  # nothing is noted yet

            monkeypatch.setattr(alice._reporting, "receipted", take_and_tell)
            await report(alice, b"one")
            await receipted.wait()

        assert bench.reported() == [(b"one", True)]

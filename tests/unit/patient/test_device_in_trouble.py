"""A device whose disk refuses or whose clock is wrong: nothing is lost, the words say what to do, and it heals by itself."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import resource
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import msgspec
import pytest

from patient.device import Device
from patient.exit_codes import ExitCode
from patient.notices import Disconnected, Established, Message, Waiting
from patient.presence import Presence, opened
from patient.text import moment
from patient.verdicts import Reason, Verdict
from shared.errors import StorageError
from shared.net.stream import clock
from shared.protocol.clock import SECOND, Instant
from shared.wire.messages import Position, ReportKind, Stream, TargetKind
from tests.patient_bench import Bench, Pauses, session
from tests.small_doctor import EVERYONE, SmallDoctor, Visit

HOUR = 3600 * SECOND
DAY = 24 * HOUR
MINE = Stream(TargetKind.PATIENT, "alice")
LARGE = "take two " * 2000  # more than fits what is left of a page


@contextmanager
def io_errors(beyond: int) -> Iterator[None]:
    """Let every write fail that makes a file longer than that, as a disk fails that is not full (SQLITE_IOERR)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (beyond, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def limit_pages(alice: Device, pages: int) -> None:
    """Let the inbox's disk be full, or not any more: SQLite refuses in the same way (SQLITE_FULL)."""
    await alice._inbox._writer.submit(lambda db: db.execute(f"PRAGMA max_page_count={pages}"))


async def test_a_full_disk_heals_by_itself(bench: Bench, pauses: Pauses) -> None:
    """The message is neither told nor acknowledged, the session ends, each new one brings it again, and then it stays."""
    async with SmallDoctor() as doctor, bench.device(doctor) as alice:
        await session(alice)
        message = doctor.sign(LARGE.encode())

        def greet(visit: Visit) -> None:
            doctor.send_group_key(visit)
            visit.direct(message)

        doctor.greet = greet
        await limit_pages(alice, 1)
        doctor.last.direct(message)
        link = alice._links[0]
        assert await link.closed_within(5)
        await alice.drop(link)
        presence = Presence(alice, bench.home, bench.settings, bench.heard, bench.conditions)
        keeping = asyncio.ensure_future(presence.keep())
        await bench.heard.until(lambda: len(bench.heard.of(Disconnected)) == 3)
        refused = [visit.receipts for visit in doctor.visits]
        assert bench.heard.of(Message) == []

        await limit_pages(alice, 1_000_000)
        await bench.heard.until(lambda: bench.heard.of(Message))
        await doctor.until(lambda: doctor.last.receipts)
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping

        assert refused == [[]] * len(refused)
        assert {each.reason for each in bench.heard.of(Disconnected)} == {"storage"}
        sentence = bench.heard.of(Disconnected)[0].sentence
        assert sentence.startswith("This device cannot store messages: not accepted: ")
        assert sentence.endswith("full; free some space on that volume and try again")
        assert [each.body for each in bench.heard.of(Message)] == [LARGE]
        assert doctor.last.receipts == [(Position(EVERYONE, 10, []),)]
        assert len(pauses.taken) >= 3


async def test_a_disk_that_fails_heals_by_itself(bench: Bench) -> None:
    """As a full one; the sentence tells where to look."""
    async with SmallDoctor() as doctor, bench.device(doctor) as alice:
        link = await session(alice)
        doctor.say("first")
        await doctor.until(lambda: doctor.last.receipts)
        doctor.last.receipts.clear()
        log = bench.home.inbox_file.with_name("inbox.db-wal")
        with io_errors(log.stat().st_size):
            second = doctor.say(LARGE)
            await link.closed_within(5)
        verdict = alice.verdict(link)
        await alice.drop(link)
        assert doctor.last.receipts == []
        await session(alice)
        assert doctor.last.first == (Position(EVERYONE, 10, []),)
        doctor.last.direct(second)
        await doctor.until(lambda: doctor.last.receipts and doctor.last.receipts[-1][0].last == 20)

        assert (verdict.reason, verdict.code) == (Reason.STORAGE, ExitCode.STORAGE)
        assert "disk I/O error; the disk refuses: look at" in verdict.sentence
        assert bench.stored() == [b"first", LARGE.encode()]


async def test_a_log_on_the_same_full_disk_does_not_keep_the_session_alive(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line that says why cannot be written; the session ends all the same, and the message comes again."""
    async with SmallDoctor() as doctor, bench.device(doctor) as alice:
        link = await session(alice)
        full = os.fdopen(os.open("/dev/full", os.O_WRONLY), "w", buffering=1)
        await limit_pages(alice, 1)
        with monkeypatch.context() as patch:
            patch.setattr("sys.stderr", full)
            doctor.say(LARGE)
            assert await link.closed_within(5)
        with suppress(OSError):
            full.close()

        assert alice.verdict(link).reason is Reason.STORAGE


async def test_reports_wait_until_the_disk_is_back(bench: Bench) -> None:
    """One trouble does not make another: what could be written before goes out, in spite of an inbox that refuses."""
    async with SmallDoctor() as doctor, bench.device(doctor) as alice:
        await alice.report(ReportKind.REPLY, b"before")
        await limit_pages(alice, 1)
        link = await session(alice)
        await doctor.until(lambda: doctor.reports)
        doctor.say(LARGE)
        await link.closed_within(5)
        await alice.drop(link)
        await limit_pages(alice, 1_000_000)
        await alice.report(ReportKind.REPLY, b"after")
        await session(alice)
        await doctor.until(lambda: len(doctor.reports) == 2)

        assert [each.body for each in doctor.reports.values()] == [b"before", b"after"]


async def test_a_device_that_starts_while_its_disk_refuses_waits_for_it(bench: Bench, pauses: Pauses) -> None:
    """It says so, and goes on by itself."""
    async with SmallDoctor() as doctor:
        bench.make(doctor)
        alice = Device(bench.home, bench.home.load(), bench.settings, bench.heard, bench.conditions)
        with ExitStack() as failing:
            failing.enter_context(io_errors(1000))
            pauses.meanwhile = failing.close
            async with opened(alice, bench.settings, bench.heard, bench.conditions):
                await session(alice)

    (waiting,) = bench.heard.of(Waiting)
    assert waiting.sentence.startswith("This device cannot open its inbox yet: ")
    assert "inbox.db" in waiting.sentence
    assert len(pauses.taken) == 1


@pytest.mark.parametrize(("damage", "attempts"), [(True, 0), (False, 1)])
async def test_a_device_whose_inbox_will_not_open_does_not_wait(
    bench: Bench, damage: bool, attempts: int
) -> None:
    """It is damaged, or the permitted attempts have failed."""
    async with SmallDoctor() as doctor:
        bench.make(doctor)
    if damage:
        bench.home.inbox_file.write_bytes(b"no database" * 1000)
        bench.home.inbox_file.chmod(0o600)
    settings = msgspec.structs.replace(bench.settings, attempts=attempts)
    alice = Device(bench.home, bench.home.load(), settings, bench.heard, bench.conditions)
    with io_errors(1000), pytest.raises(StorageError, match=r"inbox\.db: "):
        async with opened(alice, settings, bench.heard, bench.conditions):
            pass

    assert bench.heard.of(Waiting) == []


# Clocks


class Clock:
    """A device's clocks: the wall clock is off by so many milliseconds, the other one is right."""

    def __init__(self, off: int = 0) -> None:
        self.off = off

    def __call__(self) -> Instant:
        """Both."""
        now = clock()
        return Instant(now.wall + self.off, now.elapsed)


def with_clock(bench: Bench, wrong: Clock) -> Bench:
    """A device with such a clock."""
    return dataclasses.replace(bench, conditions=dataclasses.replace(bench.conditions, now=wrong))


@pytest.mark.parametrize("off", [-28 * SECOND, 28 * SECOND])
async def test_a_clock_within_the_window_does(bench: Bench, off: int) -> None:
    """The doctor's window of 30 s is the narrower one."""
    bench = with_clock(bench, Clock(off))
    async with SmallDoctor() as doctor, bench.in_session(doctor):
        doctor.say("hello")
        await bench.heard.until(lambda: bench.heard.of(Message))


@pytest.mark.parametrize("off", [-DAY, -HOUR, -32 * SECOND, 32 * SECOND, HOUR, DAY])
async def test_a_clock_beyond_the_window_is_told_with_both_times(bench: Bench, off: int) -> None:
    """Whichever side notices, and whichever way it is wrong."""
    bench = with_clock(bench, Clock(off))
    async with SmallDoctor() as doctor, bench.device(doctor) as alice:
        before = clock().wall
        verdict = await alice.connect()
        after = clock().wall

        assert isinstance(verdict, Verdict)
        assert (verdict.reason, verdict.code, verdict.final) == (Reason.CLOCK, ExitCode.CLOCK, False)
        times = [word.rstrip(",.") for word in verdict.sentence.split() if word.startswith("20")]
        assert len(times) == 2
        assert moment(before + off) <= times[0] <= moment(after + off)
        # A prekey is up to 5 s old when it is offered, and tells the time of its making.
        assert moment(before - 5 * SECOND) <= times[1] <= moment(after)


@pytest.mark.parametrize("jump", [-DAY, -HOUR, HOUR, 2 * DAY])
async def test_a_clock_that_jumps_in_the_middle_of_a_session_changes_nothing_in_it(
    bench: Bench, jump: int
) -> None:
    """Messages are told and acknowledged, reports leave; the next handshake tells what is wrong."""
    jumping = Clock()
    bench = with_clock(bench, jumping)
    async with SmallDoctor() as doctor, bench.device(doctor) as alice:
        link = await session(alice)
        jumping.off = jump
        doctor.say("to everyone")
        doctor.last.direct(doctor.sign(b"to her", MINE))
        await alice.report(ReportKind.REPLY, b"thank you")
        await doctor.until(lambda: doctor.reports and len(bench.heard.of(Message)) == 2)
        assert link.in_session

        doctor.last.stream.abort()
        await link.closed_within(5)
        await alice.drop(link)
        verdict = await alice.connect()
        assert isinstance(verdict, Verdict)
        assert verdict.reason is Reason.CLOCK
        jumping.off = 0
        await session(alice)

        assert len(bench.heard.of(Established)) == 2
        assert [each.body for each in bench.heard.of(Message)] == ["to everyone", "to her"]

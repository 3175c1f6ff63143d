"""A device applies what its doctor sends, once and in order, and acknowledges what it has committed."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import msgspec
import pytest

from patient.exit_codes import ExitCode
from patient.identity import DeviceHome
from patient.link import Link
from patient.notices import Epoch, Established, Handshake, Message, Refused, ReportKept, SettingIgnored
from patient.settings import PatientSettings
from patient.verdicts import Reason, Verdict
from shared.errors import StorageError
from shared.net import stream as net
from shared.protocol import epochs
from shared.protocol.cookies import CookieJar
from shared.protocol.events import MessageReceived, ResendRequested
from shared.protocol.patient_connection import PING_INTERVAL
from shared.wire import messages
from shared.wire.checks import Check
from shared.wire.messages import Envelope, Position, ReportKind, Stream, TargetKind
from shared.wire.opcodes import DisconnectReason
from tests.patient_bench import Bench, session
from tests.protocol_bench import events_of
from tests.small_doctor import EVERYONE, SmallDoctor, Visit, without_body

MINE = Stream(TargetKind.PATIENT, "alice")


def fill_disk(bench: Bench) -> None:
    """Let no message be stored any more."""
    with closing(sqlite3.connect(bench.home.inbox_file)) as connection, connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON messages BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        )


def free_disk(bench: Bench) -> None:
    """Let messages be stored again."""
    with closing(sqlite3.connect(bench.home.inbox_file)) as connection, connection:
        connection.execute("DROP TRIGGER full")


async def test_a_handshake_is_told_step_by_step(bench: Bench) -> None:
    """Every message with its opcode, size and the checks that it passed; then the session and its epoch."""
    async with SmallDoctor() as doctor, bench.in_session(doctor):
        await bench.heard.until(lambda: bench.heard.of(Epoch))

        steps = [(step.direction, step.message, step.opcode) for step in bench.heard.of(Handshake)]
        assert steps == [
            ("sent", "KEY_EXCHANGE", 10),
            ("received", "KEY_EXCHANGE_REPLY", 11),
            ("sent", "AUTH_REQUEST", 10),
            ("received", "AUTH_RESPONSE", 20),
            ("sent", "SESSION_VERIFIER", 30),
        ]
        assert bench.heard.of(Handshake)[1].checks == ("V-020", "V-021", "V-022", "V-023")
        assert bench.heard.of(Established) == [
            Established("alice", "doctor", "elgamal-p256-mlkem768", doctor.address)
        ]
        assert bench.heard.of(Epoch) == [Epoch("everyone", 1)]


@pytest.mark.parametrize("suite", ["elgamal-p256", "elgamal-ffdhe3072"])
async def test_every_suite_works(bench: Bench, suite: str) -> None:
    """The default is used everywhere else."""
    wanted = msgspec.convert({"suite": suite, "state_dir": bench.settings.state_dir}, PatientSettings)
    bench = dataclasses.replace(bench, settings=wanted)
    async with SmallDoctor() as doctor, bench.in_session(doctor):
        doctor.say("hello")
        await bench.heard.until(lambda: bench.heard.of(Message))

        assert bench.heard.of(Established)[0].suite == suite


async def test_a_suite_that_does_not_fit_the_devices_key_is_not_used_and_that_is_said(
    bench: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    """The key was made for another algorithm: the device goes on with the suite that it enrolled with."""
    wanted = "elgamal-ffdhe3072"
    async with SmallDoctor() as doctor, bench.device(doctor):
        assert bench.heard.of(SettingIgnored) == []
    async with (
        SmallDoctor() as doctor,
        bench.device(doctor, suite=wanted) as alice,
    ):
        (said,) = bench.heard.of(SettingIgnored)
        assert said.setting == "suite"
        assert "is elgamal-ffdhe3072" in said.sentence
        assert "it uses elgamal-p256-mlkem768" in said.sentence
        assert alice.identity.suite == "elgamal-p256-mlkem768"

    assert "setting ignored" in capfd.readouterr().err


async def test_the_first_admission_erases_the_invitation(bench: Bench) -> None:
    """On the disk too; the next session needs none."""
    async with SmallDoctor() as doctor:
        async with bench.in_session(doctor) as alice:
            assert alice.identity.enrolment is None
        async with bench.device(doctor) as again:
            assert again.identity.enrolment is None
            await session(again)


async def test_an_invitation_that_cannot_be_erased_does_no_harm(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full: the session goes on, and the next one tries again."""

    def refuse(home: DeviceHome, identity: object) -> None:
        raise StorageError("disk full")

    async with SmallDoctor() as doctor:
        async with bench.device(doctor) as alice:
            with monkeypatch.context() as patch:
                patch.setattr(DeviceHome, "save", refuse)
                await session(alice)
            assert alice.identity.enrolment is not None
        async with bench.in_session(doctor) as alice:
            assert alice.identity.enrolment is None


async def test_a_broadcast_is_told_stored_and_acknowledged(bench: Bench) -> None:
    """The receipt names the position that the inbox has committed."""
    async with SmallDoctor() as doctor, bench.in_session(doctor):
        doctor.say("take two")
        await doctor.until(lambda: doctor.last.receipts)

        assert [message.body for message in bench.heard.of(Message)] == ["take two"]
        assert doctor.last.receipts == [(Position(EVERYONE, 10, []),)]
        assert bench.stored() == [b"take two"]


async def test_messages_of_one_commit_share_a_receipt(bench: Bench) -> None:
    """A hundred messages in one piece do not make a hundred receipts."""
    async with SmallDoctor() as doctor, bench.in_session(doctor):
        frames = [doctor.seal(doctor.sign(b"%d" % number)) for number in range(100)]
        doctor.last.broadcast(b"".join(frames))
        await doctor.until(lambda: doctor.last.receipts and doctor.last.receipts[-1][0].last == 1000)

        assert len(bench.heard.of(Message)) == 100
        assert len(doctor.last.receipts) < 20


async def test_an_expired_message_is_acknowledged_as_expired_and_not_shown(bench: Bench) -> None:
    """It comes without its body; the stream goes on behind it."""
    async with SmallDoctor() as doctor, bench.in_session(doctor):
        doctor.last.direct(without_body(doctor.sign(b"too late", lifetime=-1)))
        doctor.last.direct(doctor.sign(b"in time"))
        await bench.heard.until(lambda: bench.heard.of(Message))
        await doctor.until(lambda: doctor.last.receipts and doctor.last.receipts[-1][0].last == 20)

        assert [message.body for message in bench.heard.of(Message)] == ["in time"]
        assert [n for receipt in doctor.last.receipts for p in receipt for n in p.expired] == [10]
        assert bench.stored() == [None, b"in time"]


async def test_a_gap_is_dropped_and_healed_by_the_doctor(
    bench: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    """A suppressed broadcast: the next is dropped (V-085), until both come as DIRECT."""
    async with SmallDoctor() as doctor, bench.in_session(doctor):
        suppressed = doctor.sign(b"first")
        second = doctor.say("second")
        doctor.last.direct(suppressed)
        doctor.last.direct(second)
        await doctor.until(lambda: doctor.last.receipts and doctor.last.receipts[-1][0].last == 20)

        assert [message.body for message in bench.heard.of(Message)] == ["first", "second"]

    assert "V-085" in capfd.readouterr().err


async def test_what_came_before_a_restart_is_where_the_next_session_begins(bench: Bench) -> None:
    """The first RECEIPT says how far the inbox is; a message that comes again is neither stored nor told again."""
    async with SmallDoctor() as doctor:
        async with bench.in_session(doctor):
            message = doctor.say("once")
            await doctor.until(lambda: doctor.last.receipts)
        async with bench.in_session(doctor):
            doctor.last.direct(message)
            doctor.last.direct(doctor.sign(b"twice"))
            await doctor.until(lambda: doctor.last.receipts and doctor.last.receipts[-1][0].last == 20)

            assert doctor.last.first == (Position(EVERYONE, 10, []),)
            assert [each.body for each in bench.heard.of(Message)] == ["once", "twice"]


async def test_a_start_number_is_the_position_of_the_next_session(bench: Bench) -> None:
    """The device joined at 500: what was before is none of its business."""
    async with SmallDoctor() as doctor:
        doctor.greet = lambda visit: visit.stream.connection.send_group_key(doctor.epoch, 500)
        async with bench.in_session(doctor):
            await bench.heard.until(lambda: bench.heard.of(Epoch))
        async with bench.in_session(doctor):
            assert doctor.last.first == (Position(EVERYONE, 500, []),)


async def test_what_is_committed_at_the_end_is_still_acknowledged(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that is told to stop settles its inbox, acknowledges, and says goodbye."""
    async with SmallDoctor() as doctor:
        async with bench.in_session(doctor) as alice:
            seen = asyncio.Event()
            store = alice._inbox.store

            def store_and_stop(event: MessageReceived, now: int) -> None:
                store(event, now)
                seen.set()  # nothing is committed yet

            monkeypatch.setattr(alice._inbox, "store", store_and_stop)
            doctor.say("last words")
            await seen.wait()
        await doctor.until(lambda: doctor.last.goodbye)

        assert doctor.last.receipts == [(Position(EVERYONE, 10, []),)]


async def test_a_message_that_cannot_be_stored_ends_the_session_and_comes_again(bench: Bench) -> None:
    """Neither told nor acknowledged; the next session begins from what the disk holds."""
    async with SmallDoctor() as doctor, bench.device(doctor) as alice:
        link = await session(alice)
        fill_disk(bench)
        first, second = doctor.say("first"), doctor.say("second")
        await link.closed_within(5)
        verdict = alice.verdict(link)
        await alice.drop(link)
        assert (verdict.reason, bench.heard.of(Message)) == (Reason.STORAGE, [])
        assert doctor.last.receipts == []

        free_disk(bench)
        await session(alice)
        assert doctor.last.first == ()
        doctor.last.direct(first)
        doctor.last.direct(second)
        await bench.heard.until(lambda: len(bench.heard.of(Message)) == 2)

        assert [message.body for message in bench.heard.of(Message)] == ["first", "second"]


async def test_an_inbox_that_fails_at_the_end_is_logged(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The device still says goodbye."""

    async def refuse() -> None:
        raise StorageError("disk gone")

    async with SmallDoctor() as doctor:
        async with bench.in_session(doctor) as alice:
            monkeypatch.setattr(alice._inbox, "settle", refuse)
        await doctor.until(lambda: doctor.last.goodbye)

    assert "disk gone" in capfd.readouterr().err


async def test_a_second_connection_acknowledges_only_what_is_committed(bench: Bench) -> None:
    """Two connections read into one inbox: each message is told once, and receipts go to the newer one."""
    async with SmallDoctor() as doctor, bench.device(doctor) as alice:
        old = await session(alice)
        await session(alice)
        first, second = doctor.visits
        both = doctor.say("to both")
        await doctor.until(lambda: second.receipts)
        await alice.drop(old)
        await doctor.until(lambda: first.closed)
        second.direct(both)
        second.direct(doctor.sign(b"to the new one"))
        await doctor.until(lambda: second.receipts[-1][0].last == 20)

        assert [message.body for message in bench.heard.of(Message)] == ["to both", "to the new one"]
        assert first.receipts == []


async def test_addresses_are_tried_in_turn(bench: Bench) -> None:
    """The first does not answer, the second is the doctor; a setting overrides the invitation's."""
    async with SmallDoctor() as gone:
        nobody = gone.address
    async with SmallDoctor() as doctor:
        both = (nobody, doctor.address)
        async with bench.in_session(doctor, doctor_addresses=both):
            pass

    assert [refused.code for refused in bench.heard.of(Refused)] == ["unreachable"]
    assert bench.heard.of(Established)[0].address == doctor.address


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["silent first", "impostor first"])
async def test_the_most_telling_verdict_is_kept(bench: Bench, order: tuple[int, int]) -> None:
    """An impostor at one address says more than nobody at the other."""
    async with SmallDoctor() as gone:
        nobody = gone.address
    async with SmallDoctor() as doctor, SmallDoctor() as impostor:
        addresses = (nobody, impostor.address)
        ordered = tuple(addresses[index] for index in order)
        async with bench.device(doctor, doctor_addresses=ordered) as alice:
            verdict = await alice.connect()

        assert isinstance(verdict, Verdict)
        assert verdict.reason is Reason.WRONG_DOCTOR
        assert len(bench.heard.of(Refused)) == 2


async def test_a_final_verdict_asks_no_further_address(bench: Bench) -> None:
    """The doctor itself has spoken."""
    async with SmallDoctor() as doctor:
        doctor.refuse_with = Check.ADMISSION
        twice = (doctor.address, doctor.address)
        async with bench.device(doctor, doctor_addresses=twice) as alice:
            verdict = await alice.connect()

        assert isinstance(verdict, Verdict)
        assert (verdict.reason, len(doctor.visits)) == (Reason.INVITATION_USED, 1)
        assert not alice.may_be_admitted


async def test_a_cut_after_the_verifier_leaves_the_admission_open(bench: Bench) -> None:
    """The doctor may have committed before the link broke."""
    async with SmallDoctor() as doctor:
        doctor.admit, doctor.cut = False, True
        async with bench.device(doctor) as alice:
            verdict = await alice.connect()

        assert isinstance(verdict, Verdict)
        assert (verdict.reason, alice.may_be_admitted) == (Reason.CUT, True)


def goodbye_at_once(reason: DisconnectReason) -> Callable[[Visit], None]:
    """A greeting that ends the session right behind its first record."""

    def greet(visit: Visit) -> None:
        visit.doctor.send_group_key(visit)
        visit.stream.connection.disconnect(reason)

    return greet


async def test_a_session_that_ends_with_its_first_records_is_told_in_order(bench: Bench) -> None:
    """Established and ended in one segment: no receipt is attempted on what is over."""
    async with SmallDoctor() as doctor:
        doctor.greet = goodbye_at_once(DisconnectReason.CLOSING)
        async with bench.device(doctor) as alice:
            link = await session(alice)
            await link.closed_within(5)

            assert alice.verdict(link).reason is Reason.CLOSING


async def test_a_broken_protocol_is_logged_with_its_check(
    bench: Bench, capfd: pytest.CaptureFixture[str]
) -> None:
    """The user reads a sentence, the log says which rule and why."""
    async with SmallDoctor() as doctor, bench.device(doctor) as alice:
        link = await session(alice)
        doctor.last.stream.shared_write(b"\xff")
        await link.closed_within(5)

        assert alice.verdict(link).reason is Reason.PROTOCOL

    assert "V-001" in capfd.readouterr().err


def lose_receipts(link: Link) -> None:
    """From now on no receipt reaches the doctor on this connection."""

    def lose(positions: Sequence[Position]) -> None:
        pass

    link.acknowledge = lose  # type: ignore[method-assign]


async def test_what_expired_is_reported_until_the_doctor_has_it(bench: Bench) -> None:
    """A connection dies before its RECEIPT: the next session's first RECEIPT covers the number, so it must name it."""
    async with SmallDoctor() as doctor:
        async with bench.device(doctor) as alice:
            link = await session(alice)
            lose_receipts(link)
            doctor.last.direct(without_body(doctor.sign(b"too late", lifetime=-60_000)))
            doctor.last.direct(doctor.sign(b"in time"))
            await bench.heard.until(lambda: bench.heard.of(Message))
            doctor.last.stream.abort()
            await link.closed_within(5)
        firsts = []
        async with bench.device(doctor) as alice:
            for _ in range(3):
                link = await session(alice)
                firsts.append(doctor.last.first)
                await alice.drop(link)
        async with bench.in_session(doctor) as alice:
            firsts.append(doctor.last.first)

        told, known = (Position(EVERYONE, 20, [10]),), (Position(EVERYONE, 20, []),)
        assert firsts == [told, told, known, known]  # two sessions have told it


async def test_more_than_a_receipt_of_expired_messages_is_told_in_order(bench: Bench) -> None:
    """No RECEIPT reaches beyond the numbers it names; the ones behind the first wait for the doctor's first record."""
    async with SmallDoctor() as doctor:
        async with bench.device(doctor) as alice:
            link = await session(alice)
            lose_receipts(link)
            for _ in range(1030):
                doctor.last.direct(without_body(doctor.sign(b"", lifetime=-60_000)))
            doctor.last.direct(doctor.sign(b"the end"))
            await bench.heard.until(lambda: bench.heard.of(Message))
        async with bench.in_session(doctor) as alice:
            await doctor.until(lambda: len(doctor.last.receipts) == 2)

            first = (Position(EVERYONE, 10240, list(range(10, 10241, 10))),)
            rest = (Position(EVERYONE, 10310, list(range(10250, 10301, 10))),)
            assert doctor.last.first == first
            assert doctor.last.receipts == [first, rest]


async def test_a_receipt_that_left_on_a_replaced_session_is_sent_again(bench: Bench) -> None:
    """A broadcast comes over the old session during a renewal, behind the new one's first RECEIPT."""
    async with SmallDoctor() as doctor, bench.in_session(doctor) as alice:
        (old,) = doctor.visits
        doctor.greet = lambda visit: None  # the new session waits for its first record
        renewing = asyncio.ensure_future(alice.connect())
        await doctor.until(lambda: len(doctor.visits) == 2 and doctor.last.first is not None)
        new = doctor.last
        assert new.first == ()
        old.broadcast(doctor.seal(doctor.sign(b"in between")))
        await doctor.until(lambda: old.receipts)  # lost: the doctor has replaced that session
        assert new.receipts == []

        doctor.send_group_key(new)
        new.stream.flush()
        await renewing
        await doctor.until(lambda: new.receipts)

        assert new.receipts == [(Position(EVERYONE, 10, []),)]


async def test_a_repetition_is_acknowledged_again(bench: Bench) -> None:
    """The doctor repeats what it has no receipt for; the receipt names again what had expired from there on."""
    async with SmallDoctor() as doctor, bench.in_session(doctor):
        sent = [doctor.sign(b"one"), doctor.sign(b"", lifetime=-60_000), doctor.sign(b"three")]
        for message in sent:
            doctor.last.direct(message)
        await doctor.until(lambda: doctor.last.receipts and doctor.last.receipts[-1][0].last == 30)
        doctor.last.receipts.clear()
        doctor.last.direct(sent[1])
        await doctor.until(lambda: doctor.last.receipts)
        doctor.last.direct(sent[2])
        await doctor.until(lambda: len(doctor.last.receipts) == 2)

        assert doctor.last.receipts == [(Position(EVERYONE, 30, [20]),), (Position(EVERYONE, 30, []),)]
        assert [message.body for message in bench.heard.of(Message)] == ["one", "three"]


async def test_a_renewal_that_a_failed_inbox_overtakes_withholds_nothing(bench: Bench) -> None:
    """The store fails while the new link still connects: that link is not used, and the message comes again."""
    async with SmallDoctor() as doctor, bench.device(doctor) as alice:
        old = await session(alice)
        fill_disk(bench)
        connecting, go_on = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        connect = loop.create_connection

        async def slowly(*args: Any, **options: Any) -> Any:
            connecting.set()
            await go_on.wait()
            return await connect(*args, **options)

        loop.create_connection = slowly  # type: ignore[method-assign]
        renewing = asyncio.ensure_future(alice.connect())
        await connecting.wait()
        message = doctor.say("take two")
        await old.closed_within(5)
        free_disk(bench)
        go_on.set()
        outcome = await renewing
        loop.create_connection = connect  # type: ignore[method-assign]
        assert isinstance(outcome, Verdict)
        assert outcome.reason is Reason.STORAGE

        again = await alice.connect()  # the old session is still there: nothing may read into the inbox
        assert isinstance(again, Verdict)
        assert again.reason is Reason.STORAGE
        await alice.drop(old)
        await session(alice)
        doctor.last.direct(message)
        await bench.heard.until(lambda: bench.heard.of(Message))

        assert [each.body for each in bench.heard.of(Message)] == ["take two"]


async def test_a_catch_up_survives_a_small_clock_difference(bench: Bench) -> None:
    """By the doctor's clock the message has expired, by this device's it has 20 s left."""
    async with SmallDoctor() as doctor, bench.device(doctor) as alice:
        link = await session(alice)
        doctor.last.direct(without_body(doctor.sign(b"late there", lifetime=20_000)))
        doctor.last.direct(doctor.sign(b"in time"))
        await doctor.until(lambda: doctor.last.receipts and doctor.last.receipts[-1][0].last == 20)

        assert not link.closed
        assert [n for receipt in doctor.last.receipts for p in receipt for n in p.expired] == [10]


@pytest.mark.parametrize("reason", [DisconnectReason.RETIRED, DisconnectReason.REVOKED])
async def test_a_final_word_in_the_session_stops_a_renewal(bench: Bench, reason: DisconnectReason) -> None:
    """A retired device that came back by itself would undo what the doctor has just done."""
    async with SmallDoctor() as doctor, bench.device(doctor) as alice:
        old = await session(alice)
        doctor.admit = False
        renewing = asyncio.ensure_future(alice.connect())
        await doctor.until(lambda: len(doctor.visits) == 2 and doctor.last.patient_id)
        doctor.visits[0].stream.connection.disconnect(reason)
        doctor.visits[0].stream.flush()
        outcome = await renewing
        await old.closed_within(5)
        later = await alice.connect()

        assert isinstance(outcome, Verdict)
        code = ExitCode.OK if reason is DisconnectReason.RETIRED else ExitCode.REVOKED
        assert (outcome.code, outcome.final) == (code, True)
        assert later == outcome
        assert len(doctor.visits) == 2


# A doctor under load


async def test_a_busy_doctor_is_brought_its_cookie_at_once(bench: Bench) -> None:
    """One more connection and no backing off: the second greeting is the first with the cookie."""
    async with SmallDoctor() as doctor, bench.device(doctor) as alice:
        cookies = CookieJar(secrets.token_bytes, lambda: True)
        doctor.practice = dataclasses.replace(doctor.practice, cookies=cookies)

        link = await session(alice)

        assert link.established
        messages = [step.message for step in bench.heard.of(Handshake)]
        assert messages[:4] == ["KEY_EXCHANGE", "RETRY", "KEY_EXCHANGE", "KEY_EXCHANGE_REPLY"]
        assert bench.heard.of(Refused) == []


async def test_a_doctor_that_only_ever_asks_for_cookies_is_busy(bench: Bench) -> None:
    """One cookie an attempt; then the device says that the doctor is busy, and comes again later."""
    async with SmallDoctor() as doctor, bench.device(doctor) as alice:
        cookies = CookieJar(secrets.token_bytes, lambda: True)
        doctor.practice = dataclasses.replace(doctor.practice, cookies=cookies)
        cookies.admits = lambda *_: False  # type: ignore[method-assign]

        verdict = await alice.connect()

        assert isinstance(verdict, Verdict)
        assert (verdict.reason, verdict.final) == (Reason.BUSY, False)
        assert [step.message for step in bench.heard.of(Handshake)].count("RETRY") == 2


# Private messages


def private(bench: Bench) -> list[str]:
    """The private messages that were told."""
    return [message.body for message in bench.heard.of(Message) if message.private]


async def test_a_private_message_has_a_stream_of_its_own(bench: Bench) -> None:
    """It is acknowledged in that stream, and told as what it is; a broadcast that was missed is not private."""
    async with SmallDoctor() as doctor, bench.in_session(doctor):
        doctor.last.direct(doctor.sign(b"for you", MINE))
        await doctor.until(lambda: doctor.last.receipts)
        doctor.last.direct(doctor.sign(b"for everyone"))
        await doctor.until(lambda: len(doctor.last.receipts) == 2)

        assert doctor.last.receipts == [(Position(MINE, 10, []),), (Position(EVERYONE, 10, []),)]
        told = [(each.stream, each.direct, each.private) for each in bench.heard.of(Message)]
        assert told == [("patient:alice", True, True), ("group:everyone", True, False)]


async def test_private_messages_go_on_where_they_ended(bench: Bench) -> None:
    """Across a restart: the first RECEIPT names both streams, and a copy is known and acknowledged again."""
    async with SmallDoctor() as doctor:
        async with bench.in_session(doctor):
            first = doctor.sign(b"one", MINE)
            doctor.last.direct(first)
            doctor.say("to everyone")
            await doctor.until(lambda: len(bench.heard.of(Message)) == 2)
        async with bench.in_session(doctor):
            stands = sorted(doctor.last.first or (), key=str)
            assert stands == [Position(EVERYONE, 10, []), Position(MINE, 10, [])]
            doctor.last.receipts.clear()
            doctor.last.direct(first)
            doctor.last.direct(doctor.sign(b"two", MINE))
            await doctor.until(lambda: (Position(MINE, 20, []),) in doctor.last.receipts)

        assert private(bench) == ["one", "two"]


async def test_a_private_stream_starts_where_the_doctor_says(bench: Bench) -> None:
    """At the first enrolment, and again where a retired device has come back: what was in between is not for it."""
    async with SmallDoctor() as doctor, bench.in_session(doctor):
        for body in (b"first", b"second"):
            for _ in range(4):
                start = doctor.sign(b"not for this enrolment", MINE)
            number = messages.decode(Envelope, start.envelope).number
            doctor.last.direct(doctor.sign(body, MINE), number)
        await doctor.until(lambda: len(private(bench)) == 2)

        assert private(bench) == ["first", "second"]
        assert bench.stored() == [b"first", b"second"]


async def test_an_expired_private_message_is_acknowledged_as_such(bench: Bench) -> None:
    """It is not shown; the stream goes on behind it."""
    async with SmallDoctor() as doctor, bench.in_session(doctor):
        doctor.last.direct(without_body(doctor.sign(b"too late", MINE, lifetime=-1)))
        doctor.last.direct(doctor.sign(b"in time", MINE))
        await doctor.until(lambda: doctor.last.receipts and doctor.last.receipts[-1][0].last == 20)

        assert [number for (each,) in doctor.last.receipts for number in each.expired] == [10]
        assert private(bench) == ["in time"]


async def test_a_gap_between_private_messages_ends_the_session_and_is_healed_by_the_next(
    bench: Bench,
) -> None:
    """Records cannot be lost on the way: the doctor has left one out (V-085). The first RECEIPT tells it where to go on."""
    async with SmallDoctor() as doctor, bench.device(doctor) as alice:
        link = await session(alice)
        missing, second = doctor.sign(b"one", MINE), doctor.sign(b"two", MINE)
        doctor.last.direct(second)
        await link.closed_within(5)
        verdict = alice.verdict(link)
        await alice.drop(link)
        await session(alice)
        doctor.last.direct(missing)
        doctor.last.direct(second)
        await doctor.until(lambda: len(private(bench)) == 2)

        assert verdict.reason is Reason.PROTOCOL
        assert "V-085" in verdict.sentence
        assert private(bench) == ["one", "two"]


async def test_a_question_names_the_private_stream_as_well(bench: Bench) -> None:
    """A broadcast whose key is unknown: nobody can say where something is missing."""
    async with SmallDoctor() as doctor, bench.in_session(doctor):
        doctor.last.direct(doctor.sign(b"one", MINE))
        doctor.say("to everyone")
        await doctor.until(lambda: len(bench.heard.of(Message)) == 2)
        unknown = epochs.Epoch.begin("doctor", "everyone", 2, [], [], secrets.token_bytes)
        doctor.last.broadcast(unknown.seal(1, doctor.sign(b"lost")))
        await doctor.until(lambda: events_of(ResendRequested, doctor.last.events))

        (asked,) = events_of(ResendRequested, doctor.last.events)
        stands = sorted(asked.positions, key=str)
        assert (asked.key_id, stands) == (
            unknown.key_id,
            [Position(EVERYONE, 10, []), Position(MINE, 10, [])],
        )


async def test_a_message_is_receipted_for_the_person_once_the_doctor_has_read_the_receipt(
    bench: Bench,
) -> None:
    """By the answer to the next PING."""
    async with SmallDoctor() as doctor, bench.in_session(doctor) as alice:
        doctor.say("hello")
        await doctor.until(lambda: doctor.last.receipts)
        before = bench.receipted()
        link = alice._session()
        assert link is not None
        assert link._stream is not None
        later = net.clock()._replace(elapsed=net.clock().elapsed + PING_INTERVAL)
        link._stream.connection.handle_timeout(later)
        link._stream.flush()
        # The doctor answers in order: when the receipt of a report has come, the PONG before it has.
        await alice.report(ReportKind.REPLY, b"x")
        await bench.heard.until(lambda: bench.heard.of(ReportKept))
        await alice._inbox.settle()
        after = bench.receipted()

    assert (before, after) == ([False], [True])


async def test_a_receipt_that_only_the_first_record_confirms(bench: Bench) -> None:
    """The session ended before a PING: the next one begins with the same receipt."""
    async with SmallDoctor() as doctor:
        async with bench.in_session(doctor):
            doctor.say("hello")
            await doctor.until(lambda: doctor.last.receipts)
        before = bench.receipted()
        async with bench.in_session(doctor):
            pass

    assert (before, bench.receipted()) == ([False], [True])

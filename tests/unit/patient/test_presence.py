"""A device stays with its doctor: it comes back after every end, renews in time, and stops for the doctor's word alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from patient.device import Conditions
from patient.exit_codes import ExitCode
from patient.heartbeat import patient_of
from patient.identity import DeviceHome
from patient.notices import Disconnected, Established, Message, Refused
from patient.presence import RENEW_AFTER_S, Presence
from patient.settings import PatientSettings
from patient.text import moment
from patient.verdicts import Reason, Verdict
from shared.crypto.suites import SuiteId
from shared.errors import StorageError
from shared.net.stream import clock
from shared.protocol.clock import SECOND
from shared.wire.checks import Check
from shared.wire.opcodes import DisconnectReason
from tests.patient_bench import Heard, Pauses, device
from tests.small_doctor import SmallDoctor, Visit

HOUR = 3600 * SECOND


@asynccontextmanager
async def present(
    doctor: SmallDoctor, settings: PatientSettings, heard: Heard, conditions: Conditions, **changes: Any
) -> AsyncIterator[asyncio.Task[Verdict]]:
    """Alice stays with `doctor`; the task ends with her last verdict, or here."""
    async with device(doctor, settings, heard, conditions, **changes) as alice:
        settings = replace_settings(settings, **changes)
        home = DeviceHome(Path(settings.state_dir) / "alice")
        keeping = asyncio.ensure_future(Presence(alice, home, settings, heard, conditions).keep())
        try:
            yield keeping
        finally:
            keeping.cancel()
            with suppress(asyncio.CancelledError):
                await keeping


def replace_settings(settings: PatientSettings, **changes: Any) -> PatientSettings:
    """Settings with changes."""
    return msgspec.structs.replace(settings, **changes)


def end(reason: DisconnectReason) -> Callable[[Visit], None]:
    """A greeting after which the doctor ends the session."""

    def greet(visit: Visit) -> None:
        visit.doctor.send_group_key(visit)
        visit.stream.connection.disconnect(reason)

    return greet


def test_it_comes_back_after_the_doctor_was_away(
    settings: PatientSettings, heard: Heard, conditions: Conditions
) -> None:
    """The doctor stops, is unreachable for a while, and starts again: the device is there by itself."""

    async def main() -> None:
        async with SmallDoctor() as doctor, present(doctor, settings, heard, conditions):
            await heard.until(lambda: heard.of(Established))
            doctor._server.close()
            doctor.last.stream.connection.disconnect(DisconnectReason.CLOSING)
            doctor.last.stream.flush()
            await heard.until(lambda: len(heard.of(Refused)) >= 3)
            again = SmallDoctor(keys=doctor.keys, directory=doctor.directory, port=doctor.port)
            async with again:
                await heard.until(lambda: len(heard.of(Established)) == 2)
                again.say("I am back")
                await heard.until(lambda: heard.of(Message))

        assert [each.reason for each in heard.of(Disconnected)] == ["closing"]
        assert {each.code for each in heard.of(Refused)} == {"unreachable"}

    asyncio.run(main())


def test_a_revocation_told_in_the_session_ends_it(
    settings: PatientSettings, heard: Heard, conditions: Conditions
) -> None:
    """Exit code 7, one sentence, and a mark that keeps replicas from using the identity again."""

    async def main() -> None:
        async with SmallDoctor() as doctor, present(doctor, settings, heard, conditions) as keeping:
            doctor.greet = end(DisconnectReason.REVOKED)
            verdict = await keeping

            assert (verdict.reason, verdict.code) == (Reason.REVOKED, ExitCode.REVOKED)
            assert [(each.code, each.final) for each in heard.of(Refused)] == [("revoked", True)]
            assert [each.reason for each in heard.of(Disconnected)] == ["revoked"]
            assert DeviceHome(Path(settings.state_dir) / "alice").revoked

    asyncio.run(main())


def test_a_revocation_told_by_a_sealed_alert_ends_it(
    settings: PatientSettings, heard: Heard, conditions: Conditions
) -> None:
    """The doctor cut the session without a word; the next handshake tells why."""

    async def main() -> None:
        async with SmallDoctor() as doctor, present(doctor, settings, heard, conditions) as keeping:
            await heard.until(lambda: heard.of(Established))
            doctor.revoke("alice")
            doctor.last.stream.abort()
            verdict = await keeping

            assert verdict.code is ExitCode.REVOKED
            assert [each.reason for each in heard.of(Disconnected)] == ["cut"]

    asyncio.run(main())


def test_a_retired_device_ends_but_may_come_back(
    settings: PatientSettings, heard: Heard, conditions: Conditions
) -> None:
    """Its sentence says how; nothing is marked."""

    async def main() -> None:
        async with SmallDoctor() as doctor, present(doctor, settings, heard, conditions) as keeping:
            doctor.greet = end(DisconnectReason.RETIRED)
            verdict = await keeping

            assert (verdict.reason, verdict.code) == (Reason.RETIRED, ExitCode.OK)
            assert "Start this device again" in verdict.sentence
            assert not DeviceHome(Path(settings.state_dir) / "alice").revoked

    asyncio.run(main())


@pytest.mark.parametrize(
    ("check", "reason"),
    [(Check.ADMISSION, Reason.INVITATION_USED), (Check.INVITATION_VALID, Reason.INVITATION_EXPIRED)],
)
def test_a_sealed_word_on_the_invitation_ends_it(
    settings: PatientSettings, heard: Heard, conditions: Conditions, check: Check, reason: Reason
) -> None:
    """Exit code 3."""

    async def main() -> None:
        async with SmallDoctor() as doctor, present(doctor, settings, heard, conditions) as keeping:
            doctor.refuse_with = check
            verdict = await keeping

            assert (verdict.reason, verdict.code) == (reason, ExitCode.INVITATION)

    asyncio.run(main())


def wrong_key(doctor: SmallDoctor) -> SmallDoctor:
    """Another doctor of the same name."""
    return SmallDoctor()


def clock_ahead(doctor: SmallDoctor) -> SmallDoctor:
    """The same doctor with a clock an hour ahead."""
    twin = SmallDoctor(keys=doctor.keys, directory=doctor.directory)
    twin.skew = HOUR
    return twin


def other_suites(doctor: SmallDoctor) -> SmallDoctor:
    """The same doctor, which allows only another suite."""
    return SmallDoctor(keys=doctor.keys, directory=doctor.directory, suites=[SuiteId.ELGAMAL_P256])


def empty_roster(doctor: SmallDoctor) -> SmallDoctor:
    """The same doctor, which has lost its memory."""
    return SmallDoctor(keys=doctor.keys)


def busy(doctor: SmallDoctor) -> SmallDoctor:
    """The same doctor, which has no time."""
    twin = SmallDoctor(keys=doctor.keys, directory=doctor.directory)
    twin.refuse_with = Check.PREKEY_HELD
    return twin


@pytest.mark.parametrize(
    ("stranger", "code", "words"),
    [
        (wrong_key, ExitCode.WRONG_DOCTOR, "not the doctor 'doctor'"),
        (clock_ahead, ExitCode.CLOCK, "clocks are too far apart"),
        (other_suites, ExitCode.SUITE, "suite elgamal-p256-mlkem768"),
        (empty_roster, ExitCode.INVITATION, "seems to refuse"),
        (busy, ExitCode.UNREACHABLE, "busy"),
    ],
)
def test_a_hint_never_ends_it_but_attempts_do(
    settings: PatientSettings,
    heard: Heard,
    conditions: Conditions,
    stranger: Callable[[SmallDoctor], SmallDoctor],
    code: ExitCode,
    words: str,
) -> None:
    """Three attempts, one sentence each, then the last one's code."""

    async def main() -> None:
        async with SmallDoctor() as doctor, stranger(doctor) as other:
            there = {"doctor_addresses": (other.address,), "attempts": 3}
            async with present(doctor, settings, heard, conditions, **there) as keeping:
                verdict = await keeping

        assert (verdict.code, verdict.final) == (code, False)
        assert words in verdict.sentence
        assert len(heard.of(Refused)) == 3

    asyncio.run(main())


def test_both_clocks_are_told(settings: PatientSettings, heard: Heard, conditions: Conditions) -> None:
    """The doctor's signed time and this device's, an hour apart."""

    async def main() -> str:
        async with SmallDoctor() as doctor, clock_ahead(doctor) as other:
            there = {"doctor_addresses": (other.address,), "attempts": 1}
            async with present(doctor, settings, heard, conditions, **there) as keeping:
                return (await keeping).sentence

    sentence = asyncio.run(main())

    hour = moment(clock().wall + HOUR)[:11]
    assert f"the doctor's {hour}" in sentence
    assert f"this device's shows {moment(clock().wall)[:11]}" in sentence


def test_pauses_grow_while_attempts_fail_and_start_again_after_a_session(
    settings: PatientSettings, heard: Heard, pauses: Pauses
) -> None:
    """With the highest draws: 0.5, 1, 2 s; after a session that nobody broke 0.5 s again."""

    async def main() -> None:
        async with SmallDoctor() as doctor:
            conditions = Conditions(pause=pauses, renewal_after=lambda: 1e6)
            async with device(doctor, settings, heard, conditions, attempts=4) as alice:
                home = DeviceHome(Path(settings.state_dir) / "alice")
                drawn = replace(conditions, random=lambda size: b"\xff" * size)
                presence = Presence(alice, home, replace_settings(settings, attempts=4), heard, drawn)
                doctor.admit, doctor.cut = False, True

                def let_in() -> None:
                    if len(pauses.taken) == 3:
                        doctor.admit = True
                        doctor.greet = end(DisconnectReason.CLOSING)
                    elif len(pauses.taken) > 3:
                        doctor.admit = False

                pauses.meanwhile = let_in
                verdict = await presence.keep()

            assert verdict.reason is Reason.CUT
            assert [round(each, 3) for each in pauses.taken] == [0.5, 1.0, 2.0, 0.5, 1.0, 2.0, 4.0]

    asyncio.run(main())


def test_a_second_copy_makes_both_back_off(
    settings: PatientSettings, heard: Heard, conditions: Conditions
) -> None:
    """Being replaced counts as a failure: two copies do not chase each other without a pause."""

    async def main() -> None:
        async with SmallDoctor() as doctor:
            doctor.greet = end(DisconnectReason.REPLACED)
            async with present(doctor, settings, heard, conditions, attempts=2) as keeping:
                verdict = await keeping

        assert verdict.reason is Reason.REPLACED
        assert "second copy" in verdict.sentence
        assert len(heard.of(Established)) == 2

    asyncio.run(main())


def test_an_inbox_that_cannot_be_read_is_a_failed_attempt(
    settings: PatientSettings, heard: Heard, conditions: Conditions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk may come back; until then the doctor is left alone."""

    async def refuse() -> None:
        raise StorageError("disk gone")

    async def main() -> None:
        async with SmallDoctor() as doctor:
            async with device(doctor, settings, heard, conditions) as alice:
                monkeypatch.setattr(alice._inbox, "reload", refuse)
                home = DeviceHome(Path(settings.state_dir) / "alice")
                twice = replace_settings(settings, attempts=2)
                verdict = await Presence(alice, home, twice, heard, conditions).keep()

            assert (verdict.reason, verdict.code) == (Reason.STORAGE, ExitCode.STORAGE)
            assert len(heard.of(Refused)) == 2
            assert doctor.visits == []

    asyncio.run(main())


def test_the_heartbeat_lives_with_the_session(
    settings: PatientSettings, heard: Heard, conditions: Conditions, tmp_path: Path
) -> None:
    """There while established, gone as soon as the session is."""
    beat = tmp_path / "beat"
    seen: list[str | None] = []

    def renewal_after() -> float:  # asked for when the session has begun
        heard.changed()
        return 1e6

    async def main() -> None:
        async with SmallDoctor() as doctor:
            there = {"heartbeat_file": str(beat)}
            telling = replace(conditions, renewal_after=renewal_after)
            async with present(doctor, settings, heard, telling, **there):
                await heard.until(lambda: heard.of(Established) and beat.exists())
                seen.append(patient_of(beat))
                doctor._server.close()
                doctor.last.stream.abort()
                await heard.until(lambda: heard.of(Refused))
                seen.append(patient_of(beat))

    asyncio.run(main())

    assert seen == ["alice", None]


def once(first: float) -> Callable[[], float]:
    """The first session is renewed after `first` seconds, later ones never."""
    delays: Iterator[float] = iter([first])
    return lambda: next(delays, 1e6)


def test_a_session_is_renewed_without_losing_a_message(
    settings: PatientSettings, heard: Heard, conditions: Conditions
) -> None:
    """A second connection is established before the first one is dropped; messages on both are told once."""

    async def main() -> None:
        async with SmallDoctor() as doctor:
            both: list[Visit] = []

            def greet(visit: Visit) -> None:
                if len(doctor.visits) == 2:  # the new one is not confirmed yet
                    both.extend(doctor.visits)
                    doctor.say("on both")
                doctor.send_group_key(visit)

            doctor.greet = greet
            renewing = replace(conditions, renewal_after=once(0.0))
            async with present(doctor, settings, heard, renewing):
                await doctor.until(lambda: both and both[0].goodbye)
                doctor.last.direct(doctor.sign(b"first", previous=10))
                await heard.until(lambda: len(heard.of(Message)) == 2)

        assert [message.body for message in heard.of(Message)] == ["on both", "first"]
        assert (len(heard.of(Established)), heard.of(Disconnected)) == (2, [])

    asyncio.run(main())


def test_the_doctor_replaces_the_old_session_in_a_renewal(
    settings: PatientSettings, heard: Heard, conditions: Conditions
) -> None:
    """That DISCONNECT is expected: no second copy is suspected."""

    async def main() -> None:
        async with SmallDoctor() as doctor:

            def greet(visit: Visit) -> None:
                if len(doctor.visits) == 2:
                    first = doctor.visits[0].stream
                    first.connection.disconnect(DisconnectReason.REPLACED)
                    first.flush()
                doctor.send_group_key(visit)

            doctor.greet = greet
            async with present(doctor, settings, heard, replace(conditions, renewal_after=once(0.0))):
                await heard.until(lambda: len(heard.of(Established)) == 2)
                await doctor.until(lambda: doctor.visits[0].closed)

        assert heard.of(Disconnected) == []

    asyncio.run(main())


def test_a_renewal_that_fails_leaves_the_old_session_and_is_tried_again(
    settings: PatientSettings, heard: Heard, conditions: Conditions
) -> None:
    """The old session serves on meanwhile."""

    async def main() -> None:
        async with SmallDoctor() as doctor:
            renewing = replace(conditions, renewal_after=once(0.0))

            def greet(visit: Visit) -> None:
                doctor.send_group_key(visit)
                doctor.admit, doctor.cut = False, True

            doctor.greet = greet
            async with device(doctor, settings, heard, renewing) as alice:
                home = DeviceHome(Path(settings.state_dir) / "alice")
                eager = replace(renewing, random=bytes)  # retries at once
                keeping = asyncio.ensure_future(Presence(alice, home, settings, heard, eager).keep())
                await heard.until(lambda: heard.of(Refused))
                doctor.say("still here")
                await heard.until(lambda: heard.of(Message))
                doctor.admit = True
                await heard.until(lambda: len(heard.of(Established)) == 2)
                keeping.cancel()
                with suppress(asyncio.CancelledError):
                    await keeping

        assert heard.of(Disconnected) == []

    asyncio.run(main())


@pytest.mark.parametrize(
    ("told", "reason"),
    [(DisconnectReason.REPLACED, Reason.CUT), (DisconnectReason.REVOKED, Reason.REVOKED)],
)
def test_when_both_connections_of_a_renewal_end(
    settings: PatientSettings,
    heard: Heard,
    conditions: Conditions,
    told: DisconnectReason,
    reason: Reason,
) -> None:
    """A final word on the old one counts; otherwise what became of the new one does, not that it replaced the old."""

    async def main() -> None:
        async with SmallDoctor() as doctor:

            def greet(visit: Visit) -> None:
                if len(doctor.visits) == 1:
                    doctor.send_group_key(visit)
                    return
                first = doctor.visits[0].stream
                first.connection.disconnect(told)
                first.flush()
                asyncio.get_running_loop().call_soon(visit.stream.abort)

            doctor.greet = greet
            renewing = replace(conditions, renewal_after=once(0.0))
            async with present(doctor, settings, heard, renewing):
                await heard.until(lambda: heard.of(Disconnected))

        assert [each.reason for each in heard.of(Disconnected)] == [reason.value]

    asyncio.run(main())


def test_a_final_word_to_the_new_connection_ends_the_old_session(
    settings: PatientSettings, heard: Heard, conditions: Conditions
) -> None:
    """Revoked between two sessions."""

    async def main() -> None:
        async with SmallDoctor() as doctor:

            def greet(visit: Visit) -> None:
                doctor.send_group_key(visit)
                doctor.revoke("alice")

            doctor.greet = greet
            renewing = replace(conditions, renewal_after=once(0.0))
            async with present(doctor, settings, heard, renewing) as keeping:
                verdict = await keeping
                await doctor.until(lambda: doctor.visits[0].goodbye)

        assert verdict.reason is Reason.REVOKED

    asyncio.run(main())


def test_the_moment_of_renewal_is_drawn_between_45_and_55_minutes(
    settings: PatientSettings, heard: Heard
) -> None:
    """So that a thousand devices that started together do not renew together."""

    async def main() -> tuple[float, float]:
        async with SmallDoctor() as doctor, device(doctor, settings, heard, Conditions()) as alice:
            home = DeviceHome(Path(settings.state_dir) / "alice")
            early = Presence(alice, home, settings, heard, Conditions(random=bytes))
            late = Presence(alice, home, settings, heard, Conditions(random=lambda size: b"\xff" * size))
            return early._renewal_after(), late._renewal_after()

    earliest, latest = asyncio.run(main())

    assert RENEW_AFTER_S == (2700.0, 3300.0)
    assert (earliest, round(latest)) == RENEW_AFTER_S

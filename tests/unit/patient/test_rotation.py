"""A device whose doctor has new keys: it pins them once, on its disk, before it says anything to whoever holds them."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from patient.device import Device
from patient.enrolment import identity_for
from patient.identity import DeviceHome, DeviceIdentity
from patient.link import Link
from patient.notices import Established, KeysRotated, Message
from patient.verdicts import Reason, Verdict
from shared.crypto.signatures import Algorithm
from shared.errors import StorageError
from shared.protocol.cookies import CookieJar
from shared.protocol.invitations import to_text
from shared.storage.keyfile import write_private
from tests.patient_bench import Bench, session
from tests.small_doctor import SmallDoctor, replace_practice

ECDSA = Algorithm.ECDSA_P256


async def enrolled(bench: Bench, doctor: SmallDoctor) -> bytes:
    """Alice is on the roster; the key that she has pinned."""
    async with bench.in_session(doctor) as alice:
        return alice.identity.doctor.key(ECDSA)


async def test_new_keys_are_pinned_on_the_disk_before_the_session_under_them(bench: Bench) -> None:
    """Two connections of one attempt; afterwards the proof is ignored, and then not needed."""
    async with SmallDoctor() as doctor:
        before = await enrolled(bench, doctor)
        doctor.rotate()
        visits = len(doctor.visits)
        async with bench.device(doctor) as alice:
            await session(alice)
            pinned = alice.identity.doctor

            assert len(doctor.visits) == visits + 2
            assert doctor.visits[visits].patient_id == "", "the first said nothing of itself"
            assert {key.algorithm: key.public for key in pinned.keys} == {
                algorithm: key.public for algorithm, key in doctor.keys.items()
            }
            assert (pinned.sequence, [key.public for key in pinned.former]) == (1, [before])
            assert bench.home.load().doctor == pinned
            (told,) = bench.heard.of(KeysRotated)
            assert (told.sequence, told.fingerprints) == (1, pinned.fingerprints())
            order = [
                type(notice)
                for notice in bench.heard.notices
                if isinstance(notice, KeysRotated | Established)
            ]
            assert order[-2:] == [KeysRotated, Established]
        visits = len(doctor.visits)
        async with bench.in_session(doctor):
            pass
        doctor.announced = None
        async with bench.in_session(doctor):
            assert len(doctor.visits) == visits + 2


async def test_messages_of_both_keys_are_shown(bench: Bench) -> None:
    """What was signed before comes as DIRECT, what comes after either way."""
    async with SmallDoctor() as doctor:
        await enrolled(bench, doctor)
        before = doctor.sign(b"before")
        doctor.rotate()
        async with bench.in_session(doctor):
            doctor.last.direct(before)
            doctor.last.direct(doctor.sign(b"after"))
            doctor.say("to all")
            await bench.heard.until(lambda: len(bench.heard.of(Message)) == 3)

            assert [message.body for message in bench.heard.of(Message)] == ["before", "after", "to all"]


async def test_a_disk_that_refuses_leaves_the_former_pin(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attempt ends with the disk's word, nothing was said to the new key; the next one does it all."""
    async with SmallDoctor() as doctor:
        before = await enrolled(bench, doctor)
        doctor.rotate()
        async with bench.device(doctor) as alice:

            def refuse(home: DeviceHome, identity: DeviceIdentity) -> None:
                raise StorageError("no room")

            with monkeypatch.context() as patch:
                patch.setattr(DeviceHome, "save", refuse)
                verdict = await alice.connect()
            assert isinstance(verdict, Verdict)
            assert (verdict.reason, verdict.final, "no room" in verdict.sentence) == (
                Reason.STORAGE,
                False,
                True,
            )
            assert alice.identity.doctor.key(ECDSA) == bench.home.load().doctor.key(ECDSA) == before

            await session(alice)
            assert bench.home.load().doctor.sequence == 1


async def test_a_crash_on_either_side_of_the_write_finds_a_pin_that_works(bench: Bench) -> None:
    """With the former pin it learns once more, with the new one it needs nothing."""
    async with SmallDoctor() as doctor:
        await enrolled(bench, doctor)
        former = bench.home.load()
        doctor.rotate()
        async with bench.in_session(doctor):
            new = bench.home.load()
        for left in (former, new, former):
            bench.home.save(left)
            async with bench.in_session(doctor) as alice:
                assert alice.identity.doctor == new.doctor


@pytest.mark.parametrize("flaw", ["missing", "forged", "lower", "another doctor", "another key"])
async def test_what_does_not_prove_the_new_keys_changes_no_pin(bench: Bench, flaw: str) -> None:
    """The device says whose key it is not, tries again later, and its file is what it was, byte for byte."""
    async with SmallDoctor() as doctor:
        await enrolled(bench, doctor)
        doctor.rotate()
        async with bench.in_session(doctor):
            pass
        if flaw == "another key":
            doctor.keys.update(SmallDoctor().keys)
        doctor.rotate(1 if flaw == "lower" else 2, "another" if flaw == "another doctor" else None)
        assert doctor.announced is not None
        if flaw == "missing":
            doctor.announced = None
        elif flaw == "forged":
            signatures = [os.urandom(len(each)) for each in doctor.announced.signatures]
            doctor.announced = type(doctor.announced)(doctor.announced.statement, signatures)
        before = bench.home.identity_file.read_bytes()
        async with bench.device(doctor) as alice:
            verdict = await alice.connect()

        assert isinstance(verdict, Verdict)
        assert (verdict.reason, verdict.final) == (Reason.WRONG_DOCTOR, False)
        assert "changed its keys while this device was away, enrol again" in verdict.sentence
        assert bench.home.identity_file.read_bytes() == before


async def test_a_newcomer_with_an_older_invitation_pins_the_new_keys_first(bench: Bench) -> None:
    """Where the doctor still honours the invitation, it is enrolled under the new keys."""
    async with SmallDoctor() as doctor:
        bench.make(doctor)
        doctor.rotate()
        async with bench.in_session(doctor) as alice:
            assert alice.identity.enrolment is None
            assert alice.identity.doctor.sequence == 1


async def test_a_device_that_did_not_note_its_admission_reads_what_the_former_key_signed(
    bench: Bench, tmp_path: Path
) -> None:
    """Killed in between, it finds the invitation that followed the rotation in the fleet's file, and is owed older messages."""
    file = tmp_path / "fleet"
    settings = msgspec.structs.replace(bench.settings, invitation_file=str(file))
    async with SmallDoctor() as doctor:
        bench.make(doctor)
        pending = bench.home.load()
        async with bench.in_session(doctor):
            pass
        bench.home.save(pending)
        before = doctor.sign(b"before")
        doctor.rotate()
        write_private(file, to_text(doctor.invite()).encode())
        identity = await identity_for(bench.home, None, settings, bench.heard, bench.conditions)
        async with bench.in_session(doctor):
            doctor.last.direct(before)
            doctor.last.direct(doctor.sign(b"after"))
            await bench.heard.until(lambda: len(bench.heard.of(Message)) == 2)

    assert [message.body for message in bench.heard.of(Message)] == ["before", "after"]
    assert [key.public for key in identity.doctor.former] == [pending.doctor.key(ECDSA)]


async def test_a_busy_doctor_asks_for_a_cookie_before_either_connection(bench: Bench) -> None:
    """Four connections in one attempt."""
    async with SmallDoctor() as doctor:
        await enrolled(bench, doctor)
        doctor.rotate()
        replace_practice(doctor, cookies=CookieJar(os.urandom, lambda: True))
        visits = len(doctor.visits)
        async with bench.in_session(doctor) as alice:
            assert len(doctor.visits) == visits + 4
            assert alice.identity.doctor.sequence == 1


async def test_a_renewal_learns_the_keys_while_the_old_session_serves_on(bench: Bench) -> None:
    """Should a doctor leave a session standing, it ends with its own keys and readers."""
    async with SmallDoctor() as doctor, bench.in_session(doctor) as alice:
        doctor.rotate()
        successor = await alice.connect()
        assert isinstance(successor, Link)
        assert _sequence(alice) == 1


def _sequence(alice: Device) -> int:
    return alice.identity.doctor.sequence

"""The doctor gives itself new keys: a running gateway, devices of the real protocol, and what a crash or a backup makes of it."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from pathlib import Path

import pytest

from doctor import keyring, rotations
from doctor.audit import Action
from doctor.idempotency import Origin
from doctor.journal import JOURNAL_FILE, Journal
from doctor.keyring import load
from doctor.stores import DATABASE_FILE, open_stores
from shared.crypto.signatures import Algorithm, fingerprint
from shared.crypto.suites import SUITES, SuiteId
from shared.errors import StorageError, UserError
from shared.net.stream import clock
from shared.protocol import invitations
from shared.protocol.clock import Instant
from shared.protocol.events import Failed, KeysRotated
from shared.protocol.prekeys import Prekey, PrekeyRing
from shared.storage.keyfile import read_private
from shared.wire.checks import Check
from shared.wire.opcodes import AlertCode, DisconnectReason
from tests.doctor_bench import (
    EVERYONE,
    LOG,
    ME,
    Device,
    Doctor,
    learn,
    on_a_loop,
    running,
    settings_for,
    verify_audit,
)
from tests.protocol_bench import events_of

ALL_SUITES = [suite.name for suite in SUITES.values()]


def key_of(doctor: Doctor) -> str:
    """The fingerprint of the doctor's present P-256 key."""
    return doctor.gateway.commands.rotation().keys["ecdsa_p256"]


def private_keys(directory: Path) -> set[str]:
    """The files of signing keys."""
    return {path.name for path in (directory / "state" / "keys").glob("*.key")} - {"storage.key"}


@on_a_loop
async def test_a_rotation_from_its_order_to_the_last_confirmation(tmp_path: Path) -> None:
    """Sessions end at once; who comes back learns, confirms by its session, and reads what is signed with the new key."""
    async with running(tmp_path) as doctor:
        anna, bob = await doctor.device("anna"), await doctor.device("bob")
        before = key_of(doctor)
        began = await doctor.gateway.commands.rotate_keys(ME)

        assert (began.sequence, began.complete, began.missing) == (1, False, ["anna", "bob"])
        assert key_of(doctor) != before
        assert private_keys(tmp_path) == {"ecdsa-p256.1.key"}, "the former is gone from the disk"
        await learn(doctor, anna)
        assert anna.disconnects == [DisconnectReason.CLOSING]
        assert len([event for event in anna.events if isinstance(event, KeysRotated)]) == 1
        assert doctor.gateway.commands.rotation().missing == ["bob"]

        said = await doctor.broadcast("after")
        await doctor.delivered(anna, said.number)
        await learn(doctor, bob)
        await doctor.delivered(bob, said.number)
        found = doctor.gateway.commands.rotation()
        assert (found.sequence, found.complete, found.missing) == (1, True, [])
        assert doctor.audited(Action.ROTATION_COMPLETE) == [("1", "")]
        assert doctor.house.keys.announced is None, "nothing is shown any more"
    assert verify_audit(tmp_path).first_bad is None


@on_a_loop
async def test_a_message_from_before_is_delivered_after_under_its_old_key(tmp_path: Path) -> None:
    """It was signed once, and stays so: the device takes it as DIRECT, older than the rotation."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        anna.cut()
        await anna.gone()
        await doctor.settled()
        await doctor.broadcast("before")
        await doctor.gateway.commands.rotate_keys(ME)
        after = await doctor.broadcast("after")
        await learn(doctor, anna)
        await doctor.delivered(anna, after.number)

        assert [(shown.body, shown.direct) for shown in anna.inbox[EVERYONE]] == [
            (b"before", True),
            (b"after", True),
        ]


@on_a_loop
async def test_no_second_rotation_before_the_first_is_complete(tmp_path: Path) -> None:
    """It says who is missing; retiring one and revoking another completes it, and then the next may come."""
    async with running(tmp_path) as doctor:
        commands = doctor.gateway.commands
        for name in ("anna", "bob"):
            (await doctor.device(name)).cut()
        await commands.rotate_keys(ME)
        key = key_of(doctor)

        with pytest.raises(
            UserError, match=r"Rotation 1 is not complete: anna, bob did not connect.*retire or revoke"
        ):
            await commands.rotate_keys(ME)
        await commands.retire("anna", ME)
        with pytest.raises(UserError, match="complete: bob did not"):
            await commands.rotate_keys(ME)
        assert key_of(doctor) == key, "a refusal changes nothing"
        await commands.revoke("bob", ME)
        assert commands.rotation().complete

        assert (await commands.rotate_keys(ME)).sequence == 2
        assert commands.rotation().complete, "nobody is left who would have to confirm"
    assert verify_audit(tmp_path).first_bad is None


@on_a_loop
async def test_a_repeated_order_gets_the_first_answer(tmp_path: Path) -> None:
    """And rotates nothing."""
    async with running(tmp_path) as doctor:
        origin = Origin("test", "key-1")
        first = await doctor.gateway.commands.rotate_keys(origin)
        key = key_of(doctor)

        assert await doctor.gateway.commands.rotate_keys(origin) == first
        assert key_of(doctor) == key == first.keys["ecdsa_p256"]


@on_a_loop
async def test_a_device_that_missed_the_rotation_is_told_nothing_it_could_use(tmp_path: Path) -> None:
    """Retired meanwhile, it comes back after the end of the rotation: the new key is a stranger's to it (V-021)."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        await doctor.gateway.commands.retire("anna", ME)
        await anna.gone()
        await doctor.gateway.commands.rotate_keys(ME)
        await doctor.connect(anna)
        await anna.gone()

        assert [failed.check for failed in events_of(Failed, anna.events)] == [Check.PREKEY_SIGNATURE]


@on_a_loop
async def test_open_invitations_are_void_and_say_so(tmp_path: Path) -> None:
    """They name the former keys. A newcomer learns the new ones all the same, and is told authentically that it needs another."""
    async with running(tmp_path) as doctor:
        await doctor.device("anna")  # keeps the rotation open
        carol = Device(await doctor.invite("carol"))
        answer = await doctor.gateway.commands.rotate_keys(ME)
        await doctor.connect(carol)
        await carol.gone()
        await doctor.connect(carol)
        await carol.gone()

        assert answer.voided == ["carol"]
        (told,) = carol.alerts
        assert (told.code, told.authentic) == (AlertCode.INVITATION_USED, True)
        assert doctor.audited(Action.INVITATIONS_VOIDED) == [("rotation", "1 open ones")]
        invitation = await doctor.invite("carol")
        (key,) = [each for each in invitation.doctor_keys if each.algorithm is Algorithm.ECDSA_P256]
        assert fingerprint(key.algorithm, key.public) == key_of(doctor)


@on_a_loop
async def test_a_fleets_invitation_gets_a_successor_where_replicas_find_it(tmp_path: Path) -> None:
    """With the new keys and the same groups; who enrols by it has nothing to confirm."""
    file = tmp_path / "fleet"
    async with running(tmp_path, provisioning_file=str(file)) as doctor:
        before = invitations.from_text(read_private(file).decode())
        answer = await doctor.gateway.commands.rotate_keys(ME)
        after = invitations.from_text(read_private(file).decode())

        assert answer.voided == ["a fleet"]
        assert (after.groups, after.expires, after.uses) == (before.groups, before.expires, before.uses)
        assert after.invitation_id != before.invitation_id
        fleet = Device(after)
        await doctor.connect(fleet)
        await doctor.attached(fleet, "everyone")
        assert doctor.gateway.commands.rotation().complete


@on_a_loop
async def test_the_successor_admits_no_more_devices_than_were_left(tmp_path: Path) -> None:
    """Or each rotation would give the fleet its places anew."""
    file = tmp_path / "fleet"
    async with running(tmp_path, provisioning_file=str(file), fleet_uses=2) as doctor:
        one = Device(invitations.from_text(read_private(file).decode()))
        await doctor.connect(one)
        await doctor.attached(one, "everyone")
        await doctor.gateway.commands.rotate_keys(ME)

        assert invitations.from_text(read_private(file).decode()).uses == 1


@on_a_loop
@pytest.mark.parametrize("times", [0, 1, 2])
async def test_revoking_a_fleet_device_voids_what_rotations_made_of_its_invitation(
    tmp_path: Path, times: int
) -> None:
    """It reads the file in which the fleet's invitation stands. One that an operator makes later is none of these."""
    file = tmp_path / "fleet"
    async with running(tmp_path, provisioning_file=str(file)) as doctor:
        one, two = (Device(invitations.from_text(read_private(file).decode())) for _ in range(2))
        for device in (one, two):
            await doctor.connect(device)
            await doctor.attached(device, "everyone")
        for _ in range(times):
            await doctor.gateway.commands.rotate_keys(ME)
            await learn(doctor, one)
            await learn(doctor, two)
        present = invitations.from_text(read_private(file).decode()).invitation_id
        await doctor.gateway.commands.revoke(one.patient_id, ME)
        assert _uses_left(doctor, present) == 0

        made = await doctor.invite(None)
        await doctor.gateway.commands.revoke(two.patient_id, ME)
        assert _uses_left(doctor, made.invitation_id) == made.uses
    assert verify_audit(tmp_path).first_bad is None


def _uses_left(doctor: Doctor, invitation_id: bytes) -> int:
    """As the handshake knows it, and as it is stored."""
    held = doctor.house.roster.invitation(invitation_id)
    assert held is not None
    row = doctor.reader.execute(
        "SELECT uses_left FROM invitations WHERE invitation_id = ?", (invitation_id,)
    ).fetchone()
    assert row == (held.uses_left,)
    return held.uses_left


@on_a_loop
async def test_every_key_of_the_doctor_is_new_in_every_suite(tmp_path: Path) -> None:
    """A device of suite 1 learns the key of its handshake and that of the envelopes at once."""
    async with running(tmp_path, suites=ALL_SUITES) as doctor:
        classic = await doctor.device("classic", suite=SUITES[SuiteId.ELGAMAL_FFDHE3072])
        before = doctor.gateway.commands.rotation().keys
        answer = await doctor.gateway.commands.rotate_keys(ME)
        await learn(doctor, classic)
        said = await doctor.broadcast("after")
        await doctor.delivered(classic, said.number)

        assert set(answer.keys) == {"ecdsa_p256", "schnorr_ffdhe3072"}
        assert not set(answer.keys.values()) & set(before.values())
        assert private_keys(tmp_path) == {"ecdsa-p256.1.key", "schnorr-ffdhe3072.1.key"}
        assert doctor.gateway.commands.rotation().complete


@on_a_loop
async def test_a_rotation_outlives_a_restart(tmp_path: Path) -> None:
    """Open, it is shown again; the keys are those of before the restart."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        await doctor.gateway.commands.rotate_keys(ME)
        key = key_of(doctor)
        await anna.gone()
    async with running(tmp_path) as doctor:
        assert key_of(doctor) == key
        assert doctor.gateway.commands.rotation().missing == ["anna"]
        await learn(doctor, anna)
        assert doctor.gateway.commands.rotation().complete
    assert verify_audit(tmp_path).first_bad is None


@on_a_loop
async def test_a_crash_between_the_keys_and_the_database_is_mended_at_the_start(tmp_path: Path) -> None:
    """The files decide: the database follows, everyone who is active has to confirm, and the open invitations are void."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        await doctor.invite("carol")
    keys = load(tmp_path / "state")
    keyring.rotate(tmp_path / "state", keys, "doctor", clock().wall, secrets.token_bytes)
    async with running(tmp_path) as doctor:
        assert doctor.gateway.commands.rotation().missing == ["anna"]
        assert [subject for subject, _ in doctor.audited(Action.KEYS_ROTATED)] == ["1"]
        assert doctor.audited(Action.INVITATIONS_VOIDED) == [("rotation", "1 open ones")]
        await learn(doctor, anna)
    assert verify_audit(tmp_path).first_bad is None


@on_a_loop
async def test_a_disk_without_room_for_a_key_leaves_the_former(tmp_path: Path) -> None:
    """Nothing has happened: the session goes on."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        key = key_of(doctor)
        async with doctor.disk_without_room():
            with pytest.raises(StorageError):
                await doctor.gateway.commands.rotate_keys(ME)
        said = await doctor.broadcast("as ever")
        await doctor.delivered(anna, said.number)

        assert (key_of(doctor), doctor.gateway.commands.rotation().sequence) == (key, 0)


@on_a_loop
async def test_a_disk_that_refuses_the_database_alone_leaves_one_rotation_to_be_noted(tmp_path: Path) -> None:
    """The keys are new, the order failed, sessions end all the same; the order again notes that, and rotates no second time."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        note = rotations.note

        def refuse(*_: object) -> None:
            raise StorageError("not accepted: the disk is full")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rotations, "note", refuse)
            with pytest.raises(StorageError, match="the disk is full"):
                await doctor.gateway.commands.rotate_keys(ME)
        assert rotations.note is note
        await anna.gone()
        key = key_of(doctor)
        answer = await doctor.gateway.commands.rotate_keys(ME)

        assert (answer.sequence, answer.missing, key_of(doctor)) == (1, ["anna"], key)
        await learn(doctor, anna)
        assert doctor.gateway.commands.rotation().complete


@on_a_loop
async def test_a_backup_from_before_brings_no_old_key_back(tmp_path: Path) -> None:
    """The restored database waits for its operator, and follows the keys: whoever is on its roster confirms anew."""
    backup = tmp_path / "backup"
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        await doctor.settled()
        backup.write_bytes(
            b"".join([part async for part in (await doctor.gateway.commands.back_up(ME)).chunks()])
        )
        await doctor.gateway.commands.rotate_keys(ME)
        await learn(doctor, anna)
        key = key_of(doctor)
    for left in (tmp_path / "state").glob(f"{DATABASE_FILE}*"):
        left.unlink()
    shutil.copy(backup, tmp_path / "state" / DATABASE_FILE)
    (tmp_path / "state" / DATABASE_FILE).chmod(0o600)
    async with running(tmp_path) as doctor:
        assert doctor.gateway.commands.restore_state().confirmed is False
        assert key_of(doctor) == key
        await doctor.gateway.commands.confirm_restore(ME)
        assert doctor.gateway.commands.rotation().missing == ["anna"]
        await anna.gone()
        await doctor.connect(anna)
        await doctor.attached(anna, "everyone")
        assert doctor.gateway.commands.rotation().complete
    assert verify_audit(tmp_path).first_bad is None


@on_a_loop
async def test_an_old_copy_of_everything_but_the_journal_is_refused(tmp_path: Path) -> None:
    """Old database and old keys fit each other; what stands on the audit volume knows better."""
    async with running(tmp_path) as doctor:
        await doctor.settled()
    shutil.copytree(tmp_path / "state", tmp_path / "copy")
    async with running(tmp_path) as doctor:
        await doctor.gateway.commands.rotate_keys(ME)
    shutil.rmtree(tmp_path / "state")
    (tmp_path / "copy").rename(tmp_path / "state")

    with pytest.raises(UserError, match=r"from before rotation 1.*newest copy of keys/"):
        async with open_stores(settings_for(tmp_path)):
            pass
    assert private_keys(tmp_path) == {"ecdsa-p256.key"}, "nothing was taken away"


@on_a_loop
async def test_old_keys_beside_a_new_database_are_refused(tmp_path: Path) -> None:
    """As any other key that is not the one that patients have pinned."""
    async with running(tmp_path):
        shutil.copytree(tmp_path / "state" / "keys", tmp_path / "copy")
    async with running(tmp_path) as doctor:
        await doctor.gateway.commands.rotate_keys(ME)
    shutil.rmtree(tmp_path / "state" / "keys")
    (tmp_path / "copy").rename(tmp_path / "state" / "keys")

    with pytest.raises(UserError, match=r"not the one with which this database was used.*rotations\.json"):
        async with open_stores(settings_for(tmp_path)):
            pass


@on_a_loop
async def test_the_journal_notes_a_rotation_and_no_restore_voids_it(tmp_path: Path) -> None:
    """A patient of that name has nothing to do with it."""
    async with running(tmp_path) as doctor:
        await doctor.gateway.commands.rotate_keys(ME)
        await doctor.settled()
        (line,) = [
            each
            for each in Journal(tmp_path / "audit", load(tmp_path / "state").storage).read()
            if each.action == Action.KEYS_ROTATED.value
        ]
        assert (line.subject, line.key, line.group) == ("1", "", "")
        assert (tmp_path / "audit" / JOURNAL_FILE).exists()


@on_a_loop
async def test_who_returns_across_the_rotation_is_told_to_come_again_and_learns_the_keys(
    tmp_path: Path,
) -> None:
    """Retired when it began, so nobody waits for it; what it has proved to the former key puts nobody on the roster."""
    async with running(tmp_path) as doctor:
        (await doctor.device("bob")).cut()
        anna = await doctor.device("anna")
        await doctor.gateway.commands.retire("anna", ME)
        await anna.gone()
        async with doctor.held_writer():
            order = doctor.loop.create_task(doctor.gateway.commands.rotate_keys(ME))
            await doctor.connect(anna)
            await LOG.until("verified", count=2, patient="anna")
        assert (await order).missing == ["bob"]
        await anna.gone()
        (told,) = anna.alerts
        assert told.code is AlertCode.BUSY
        assert doctor.gateway.commands.rotation().missing == ["bob"]

        await learn(doctor, anna)
        assert doctor.gateway.commands.rotation().missing == ["bob"]


@on_a_loop
async def test_who_returns_across_a_rotation_that_is_complete_is_not_on_the_roster(tmp_path: Path) -> None:
    """It has missed the rotation: active, it would be a member that nothing reaches, and that nobody is told of."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        await doctor.gateway.commands.retire("anna", ME)
        await anna.gone()
        async with doctor.held_writer():
            order = doctor.loop.create_task(doctor.gateway.commands.rotate_keys(ME))
            await doctor.connect(anna)
            await LOG.until("verified", count=2, patient="anna")
        assert (await order).complete
        await anna.gone()

        assert [row.state for row in doctor.gateway.commands.patients()] == ["retired"]
        assert (await doctor.gateway.commands.rotate_keys(ME)).sequence == 2


@on_a_loop
async def test_a_reply_that_is_made_in_the_moment_of_the_rotation_contradicts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer's thread changes the keys behind its prekey: it has no proof beside it then, and the device is told to come again."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        anna.cut()
        await anna.gone()
        await doctor.settled()
        offer = PrekeyRing.offer

        def and_then_the_keys_change(ring: PrekeyRing, suite: SuiteId, now: Instant) -> Prekey:
            found = offer(ring, suite, now)
            keyring.rotate(tmp_path / "state", doctor.house.keys, "doctor", now.wall, secrets.token_bytes)
            return found

        with monkeypatch.context() as patch:
            patch.setattr(PrekeyRing, "offer", and_then_the_keys_change)
            await doctor.connect(anna)
            await anna.gone()

        assert events_of(Failed, anna.events) == []
        assert [told.code for told in anna.alerts] == [AlertCode.BUSY]
        await learn(doctor, anna)


@on_a_loop
@pytest.mark.parametrize("first", ["the rotation", "the admission"])
async def test_who_proves_itself_across_the_rotation_has_no_session(tmp_path: Path, first: str) -> None:
    """Both were on their way, and come in one batch: it has confirmed nothing, and comes back."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        anna.cut()
        await anna.gone()
        await doctor.settled()
        async with doctor.held_writer():
            if first == "the admission":
                await doctor.connect(anna)
                await LOG.until("verified", count=2, patient="anna")
            order = doctor.loop.create_task(doctor.gateway.commands.rotate_keys(ME))
            await asyncio.sleep(0)  # it is submitted
            if first == "the rotation":
                await doctor.connect(anna)
                await LOG.until("verified", count=2, patient="anna")
        await order
        await anna.gone()

        assert doctor.gateway.commands.rotation().missing == ["anna"]
        assert "anna" not in doctor.fanout.sessions
        await learn(doctor, anna)
        assert doctor.gateway.commands.rotation().complete

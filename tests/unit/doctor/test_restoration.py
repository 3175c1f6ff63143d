"""A database that is an older state of itself: noticed, held back, confirmed, and gone on with."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from doctor import answers, groups, heads, restoration
from doctor.audit import Action
from doctor.heads import HEADS_FILE
from doctor.idempotency import Origin
from doctor.journal import JOURNAL_FILE
from doctor.orders import BroadcastOrder, GroupOrder, InviteOrder, MessageOrder
from doctor.restoration import Unconfirmed
from shared.errors import StorageError, UserError
from shared.wire.opcodes import AlertCode
from tests.doctor_bench import LOG, ME, Device, Doctor, on_a_loop, running, verify_audit


def copy_database(directory: Path, to: Path) -> None:
    """What somebody keeps who copies the file of a stopped doctor."""
    shutil.copy2(directory / "state" / "doctor.db", to)


def put_back(directory: Path, copy: Path) -> None:
    """What somebody does who copies it back."""
    for path in (directory / "state").glob("doctor.db-*"):
        path.unlink()
    shutil.copy2(copy, directory / "state" / "doctor.db")


async def confirm(doctor: Doctor) -> answers.RestoreAnswer:
    """The operator's word."""
    return await doctor.gateway.commands.confirm_restore(Origin("operator"))


class Story:
    """A doctor with anna and eve; a copy is made; then bert enrols, eve is revoked and messages are delivered."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.copy = directory / "copy.db"
        self.devices: dict[str, Device] = {}

    async def tell(self) -> None:
        """Up to the moment at which the old copy is put back."""
        async with running(self.directory) as doctor:
            self.devices["anna"] = await doctor.device(
                "anna",
            )
            self.devices["eve"] = await doctor.device("eve")
            kept = await doctor.broadcast("before")
            await doctor.delivered(self.devices["anna"], kept.number)
            self.devices["anna"].cut()
            await self.devices["anna"].gone()
            self.owed = await doctor.broadcast("owed since before the copy")
            self.open = await doctor.invite("carl")
        copy_database(self.directory, self.copy)
        async with running(self.directory) as doctor:
            await doctor.reconnect(self.devices["eve"])
            self.devices["bert"] = await doctor.device("bert")
            lost = await doctor.broadcast("lost")
            await doctor.delivered(self.devices["bert"], lost.number)
            self.lost = lost.number
            await doctor.gateway.commands.revoke("eve", ME)
            doctor.gateway.witness.sign()
        put_back(self.directory, self.copy)


@on_a_loop
async def test_an_old_copy_is_noticed_and_nothing_is_accepted_admitted_or_delivered(tmp_path: Path) -> None:
    """Until the operator says so; a device is told that the doctor is busy, and nothing that would make it give up."""
    story = Story(tmp_path)
    await story.tell()

    async with running(tmp_path) as doctor:
        commands = doctor.gateway.commands
        assert not doctor.gateway.ready
        refused: list[Callable[[], object]] = [
            lambda: commands.broadcast(BroadcastOrder("x"), ME),
            lambda: commands.send("anna", MessageOrder("x"), ME),
            lambda: commands.invite(InviteOrder("dora"), ME),
            lambda: commands.create_group(GroupOrder("ward").name, ME),
            lambda: commands.add_member("everyone", "anna", ME),
            lambda: commands.remove_member("everyone", "anna", ME),
            lambda: commands.retire("anna", ME),
        ]
        for order in refused:
            with pytest.raises(Unconfirmed, match="confirm-restore"):
                await order()  # type: ignore[misc]
        anna = story.devices["anna"]
        await doctor.connect(anna)
        await anna.gone()

        assert [(alert.code, alert.authentic) for alert in anna.alerts] == [(AlertCode.BUSY, False)]
        assert LOG.find("refused", check="V-011")
        assert doctor.fanout.sessions == {}
        state = commands.restore_state()
        assert (state.confirmed, state.revoked, state.enrolled, state.voided) == (False, ["eve"], ["bert"], 1)
        assert state.newest > state.base
        assert {row.patient: row.state for row in commands.patients()} == {"anna": "away", "eve": "revoked"}
    verdict = verify_audit(tmp_path)
    assert verdict.reason is not None
    assert "the log was" in verdict.reason


@on_a_loop
async def test_a_confirmed_restore_goes_on_above_everything_that_was_issued(tmp_path: Path) -> None:
    """Who holds numbers of the lost time is let in, gets what it was owed and what comes, and nothing twice."""
    story = Story(tmp_path)
    await story.tell()
    anna, eve, bert = (story.devices[name] for name in ("anna", "eve", "bert"))
    async with running(tmp_path) as doctor:
        answer = await confirm(doctor)

        assert doctor.gateway.ready
        (everyone,) = [gap for gap in answer.gaps if gap.stream == "group:everyone"]
        assert everyone.after == story.owed.number
        assert everyone.floor > story.lost
        await doctor.reconnect(anna)
        told = await doctor.broadcast("after")
        await doctor.delivered(anna, told.number)
        assert anna.bodies() == [b"before", b"owed since before the copy", b"after"]
        assert doctor.states(story.owed.id)["anna"] == "delivered"
        for outsider in (eve, bert):
            await doctor.connect(outsider)
            await outsider.gone()
        assert eve.alerts[-1].code is AlertCode.REVOKED
        assert (bert.alerts[-1].code, bert.alerts[-1].authentic) == (AlertCode.REFUSED, False)
        carl = Device(story.open)
        await doctor.connect(carl)
        await carl.gone()
        assert carl.alerts[-1].code is AlertCode.REFUSED
    verdict = verify_audit(tmp_path)
    assert (verdict.first_bad, len(verdict.events)) == (None, 1)
    assert f"restore to entry {answer.base}" in verdict.events[0]


@on_a_loop
async def test_a_device_that_is_ahead_of_the_restored_database_is_not_thrown_out(tmp_path: Path) -> None:
    """It stands at numbers, and in streams, that the database has never heard of: V-090 knows of the burned number."""
    copy = tmp_path / "copy.db"
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        await doctor.gateway.commands.create_group("old", ME)
        await doctor.gateway.commands.add_member("old", "anna", ME)
        await doctor.gateway.commands.remove_member("old", "anna", ME)
        anna.cut()
    copy_database(tmp_path, copy)
    async with running(tmp_path) as doctor:
        commands = doctor.gateway.commands
        await commands.create_group("new", ME)
        await commands.add_member("new", "anna", ME)
        await commands.add_member("old", "anna", ME)
        await doctor.connect(anna)
        await doctor.attached(anna, "everyone", "new", "old")
        for group in ("everyone", "new", "old"):
            lost = await doctor.broadcast(f"lost to {group}", group)
            await doctor.delivered(anna, lost.number)
        private = await commands.send("anna", MessageOrder("lost to anna"), ME)
        await doctor.delivered(anna, private.number)
        doctor.gateway.witness.sign()
    put_back(tmp_path, copy)

    async with running(tmp_path) as doctor:
        await confirm(doctor)
        commands = doctor.gateway.commands
        await doctor.reconnect(anna)
        await commands.create_group("new", ME)
        await commands.add_member("new", "anna", ME)
        await doctor.attached(anna, "everyone", "new")
        for group in ("everyone", "new"):
            told = await doctor.broadcast(f"told to {group}", group)
            await doctor.delivered(anna, told.number)
        private = await commands.send("anna", MessageOrder("told to anna"), ME)
        await doctor.delivered(anna, private.number)

        assert anna.bodies("everyone") == [b"lost to everyone", b"told to everyone"]
        assert anna.bodies("new") == [b"lost to new", b"told to new"]
        assert doctor.audited(Action.RECEIPT_IMPOSSIBLE) == []


@on_a_loop
async def test_v090_stays_a_defence_after_a_confirmed_restore(tmp_path: Path) -> None:
    """Above the burned number nothing was issued, then or now."""
    story = Story(tmp_path)
    await story.tell()
    async with running(tmp_path) as doctor:
        answer = await confirm(doctor)
        anna = story.devices["anna"]
        await doctor.reconnect(anna)
        (stream,) = [stream for stream in doctor.fanout.last if str(stream) == "group:everyone"]

        anna.acknowledge(stream, answer.gaps[0].floor + 1)
        await anna.gone()

        assert LOG.find("refused", check="V-090", patient="anna")


@on_a_loop
async def test_a_restart_before_the_word_changes_nothing(tmp_path: Path) -> None:
    """What was done again is done once; the mark stays."""
    story = Story(tmp_path)
    await story.tell()
    states = []
    for _ in range(2):
        async with running(tmp_path) as doctor:
            states.append(doctor.gateway.commands.restore_state())
            assert doctor.audited(Action.REVOKED) == [("eve", "groups everyone")]
            assert len(doctor.audited(Action.RESTORE_FOUND)) == 1
            assert len(doctor.audited(Action.INVITATIONS_VOIDED)) == 1

    assert states[0] == states[1]


@on_a_loop
async def test_a_patient_that_the_restored_roster_never_knew_stays_revoked(tmp_path: Path) -> None:
    """Enrolled and revoked in the time that is lost: its id and its key are tombstones all the same."""
    copy = tmp_path / "copy.db"
    async with running(tmp_path):
        pass
    copy_database(tmp_path, copy)
    async with running(tmp_path) as doctor:
        eve = await doctor.device("eve")
        await doctor.gateway.commands.revoke("eve", ME)
    put_back(tmp_path, copy)
    async with running(tmp_path) as doctor:
        await confirm(doctor)
        with pytest.raises(UserError, match="taken by a patient that is revoked"):
            await doctor.invite("eve")
        await doctor.connect(eve)
        await eve.gone()

        assert eve.alerts[-1].code is AlertCode.REVOKED


@on_a_loop
async def test_a_crash_between_the_confirmation_and_the_heads_file_is_mended_at_the_start(
    tmp_path: Path,
) -> None:
    """The database says that it was confirmed; the files outside it follow."""
    story = Story(tmp_path)
    await story.tell()
    audit_dir = tmp_path / "audit"
    async with running(tmp_path) as doctor:
        before = (audit_dir / HEADS_FILE).read_bytes(), (audit_dir / JOURNAL_FILE).read_bytes()
        await confirm(doctor)
    (audit_dir / HEADS_FILE).write_bytes(before[0])
    (audit_dir / JOURNAL_FILE).write_bytes(before[1])

    async with running(tmp_path) as doctor:
        assert doctor.gateway.ready
    async with running(tmp_path) as doctor:
        assert doctor.gateway.ready
    verdict = verify_audit(tmp_path)
    assert (verdict.first_bad, len(verdict.events)) == (None, 1)


@on_a_loop
async def test_a_second_restore_after_a_confirmed_one_is_noticed_as_well(tmp_path: Path) -> None:
    """The voided past hides nothing that comes later."""
    story = Story(tmp_path)
    await story.tell()
    async with running(tmp_path) as doctor:
        await confirm(doctor)
    put_back(tmp_path, story.copy)

    async with running(tmp_path) as doctor:
        assert not doctor.gateway.ready
        await confirm(doctor)
    verdict = verify_audit(tmp_path)
    assert verdict.first_bad is None


@on_a_loop
async def test_who_was_revoked_stays_revoked_however_often_the_old_copy_comes_back(tmp_path: Path) -> None:
    """Confirming voids the lost entries, and the copy lacks those that did them again: a revocation is never forgotten for it."""
    story = Story(tmp_path)
    await story.tell()
    for _ in range(3):
        async with running(tmp_path) as doctor:
            waiting = doctor.gateway.commands.restore_state()
            assert (waiting.revoked, waiting.enrolled) == (["eve"], ["bert"])
            assert {row.patient: row.state for row in doctor.gateway.commands.patients()}["eve"] == "revoked"
            await confirm(doctor)
        async with running(tmp_path) as doctor:
            assert doctor.gateway.ready
        put_back(tmp_path, story.copy)


async def wards(directory: Path) -> dict[str, Device]:
    """Anna and eve, and two wards that both are in."""
    async with running(directory) as doctor:
        devices = {name: await doctor.device(name) for name in ("anna", "eve")}
        for ward in ("ward-a", "ward-b"):
            await doctor.gateway.commands.create_group(ward, ME)
            for name in devices:
                await doctor.gateway.commands.add_member(ward, name, ME)
    return devices


def members(doctor: Doctor) -> dict[str, tuple[str, ...]]:
    """Who is in which ward."""
    rows = groups.list_groups(doctor.reader)
    return {row.name: row.members for row in rows if row.name != groups.EVERYONE}


@on_a_loop
async def test_who_was_removed_from_a_group_stays_out_of_it_however_often_the_old_copy_comes_back(
    tmp_path: Path,
) -> None:
    """And reads nothing that the group is told from then on; the operator sees it before the word."""
    devices = await wards(tmp_path)
    copy_database(tmp_path, copy := tmp_path / "copy.db")
    async with running(tmp_path) as doctor:
        await doctor.gateway.commands.remove_member("ward-a", "eve", ME)
    for _ in range(3):
        put_back(tmp_path, copy)
        async with running(tmp_path) as doctor:
            waiting = doctor.gateway.commands.restore_state()
            assert [(each.group, each.patient) for each in waiting.removed] == [("ward-a", "eve")]
            assert members(doctor) == {"ward-a": ("anna",), "ward-b": ("anna", "eve")}
            await confirm(doctor)
            for device in devices.values():
                await doctor.reconnect(device)
            told = await doctor.broadcast("to the ward", group="ward-a")
            both = await doctor.broadcast("to both", group="ward-b")
            await doctor.delivered(devices["anna"], told.number)
            await doctor.delivered(devices["eve"], both.number)
            assert devices["eve"].bodies("ward-a") == []
            assert set(doctor.states(told.id)) == {"anna"}


@on_a_loop
async def test_a_removal_that_was_taken_back_is_not_done_again(tmp_path: Path) -> None:
    """Also where it was taken back on the restored database: the last word on a member of a group counts."""
    await wards(tmp_path)
    copy_database(tmp_path, copy := tmp_path / "copy.db")
    async with running(tmp_path) as doctor:
        for name in ("anna", "eve"):
            await doctor.gateway.commands.remove_member("ward-a", name, ME)
        await doctor.gateway.commands.add_member("ward-a", "anna", ME)
    put_back(tmp_path, copy)
    async with running(tmp_path) as doctor:
        assert members(doctor)["ward-a"] == ("anna",)
        await confirm(doctor)
        await doctor.gateway.commands.add_member("ward-a", "eve", ME)
    put_back(tmp_path, copy)

    async with running(tmp_path) as doctor:
        assert doctor.gateway.commands.restore_state().removed == []
        assert members(doctor)["ward-a"] == ("anna", "eve")


@on_a_loop
async def test_a_key_that_was_revoked_under_another_id_is_expelled_under_the_restored_one(
    tmp_path: Path,
) -> None:
    """Lost with a restore and invited anew as somebody else, then revoked; then a copy comes back that knows the key by its first id."""
    first, second = tmp_path / "first.db", tmp_path / "second.db"
    async with running(tmp_path):
        pass
    copy_database(tmp_path, first)
    async with running(tmp_path) as doctor:
        device = await doctor.device("eve")
    copy_database(tmp_path, second)
    put_back(tmp_path, first)
    async with running(tmp_path) as doctor:
        await confirm(doctor)
        mallory = Device(await doctor.invite("mallory"), key=device.key)
        await doctor.connect(mallory)
        await doctor.attached(mallory)
        await doctor.gateway.commands.revoke("mallory", ME)
    put_back(tmp_path, second)

    async with running(tmp_path) as doctor:
        assert {row.patient: row.state for row in doctor.gateway.commands.patients()} == {"eve": "revoked"}
        await confirm(doctor)


@on_a_loop
async def test_heads_alone_show_an_old_copy(tmp_path: Path) -> None:
    """Nothing was revoked or enrolled since; the signed end of the log names an entry that is not there."""
    copy = tmp_path / "copy.db"
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        anna.cut()
    copy_database(tmp_path, copy)
    async with running(tmp_path) as doctor:
        await doctor.broadcast("lost")
    put_back(tmp_path, copy)

    async with running(tmp_path) as doctor:
        assert not doctor.gateway.ready
        assert "signed audit head names entry" in doctor.gateway.commands.restore_state().cause


@on_a_loop
async def test_a_forged_head_does_not_start_a_restore(tmp_path: Path) -> None:
    """Whoever can write to the audit volume cannot make the doctor burn numbers; the file is named."""
    async with running(tmp_path):
        pass
    path = tmp_path / "audit" / HEADS_FILE
    head = heads.newest(tmp_path / "audit")
    assert head is not None
    path.write_bytes(path.read_bytes().replace(b'"sequence":', b'"sequence":9'))

    with pytest.raises(StorageError, match=f"{HEADS_FILE}: the last line is not signed by this doctor"):
        async with running(tmp_path):
            raise AssertionError("it started")


@on_a_loop
async def test_a_forged_head_between_true_ones_says_nothing_of_what_a_restore_has_lost(
    tmp_path: Path,
) -> None:
    """Not from where on, which would void true heads as well; and not until when, which the operator's clock would never reach."""
    story = Story(tmp_path)
    await story.tell()
    path = tmp_path / "audit" / HEADS_FILE
    *earlier, newest = path.read_bytes().splitlines(keepends=True)
    true = heads.read(tmp_path / "audit")[-1]
    forged = [
        msgspec.structs.replace(true, base=0),
        msgspec.structs.replace(true, sequence=1, hash="00" * 32, time=2**62),
    ]
    path.write_bytes(b"".join((*earlier, *(msgspec.json.encode(each) + b"\n" for each in forged), newest)))

    async with running(tmp_path) as doctor:
        waiting = doctor.gateway.commands.restore_state()
        assert (waiting.newest, waiting.revoked) == (true.sequence, ["eve"])
        assert 1 < waiting.base < true.sequence
        assert (await confirm(doctor)).confirmed


@on_a_loop
async def test_void_lines_that_are_written_once_more_start_no_restore(tmp_path: Path) -> None:
    """Whoever can write to the audit volume has these, genuine as they are; a healthy doctor must not void its invitations for them."""
    story = Story(tmp_path)
    await story.tell()
    audit_dir = tmp_path / "audit"
    void = {name: (audit_dir / name).read_bytes() for name in (HEADS_FILE, JOURNAL_FILE)}
    async with running(tmp_path) as doctor:
        await confirm(doctor)
    for name, lines in void.items():
        with (audit_dir / name).open("ab") as file:
            file.write(lines)

        async with running(tmp_path) as doctor:
            assert doctor.gateway.ready, name


@on_a_loop
async def test_a_clock_behind_the_lost_time_must_be_set_first(tmp_path: Path) -> None:
    """Numbers are taken from it: the burned one must be above all that were issued."""
    story = Story(tmp_path)
    await story.tell()
    async with running(tmp_path) as doctor:
        stores, restored = doctor.gateway._stores, doctor.gateway._stores.restoration
        mark = restored.pending
        assert mark is not None
        early = restored.lost.newest_time - 5_000

        with pytest.raises(UserError, match=r"clock is 5 s behind"):
            await doctor.writer.submit(
                lambda db: restoration.confirm(db, stores.sealer, mark, restored.lost, early, "operator")
            )


@on_a_loop
async def test_confirming_twice_is_refused_and_repeating_the_order_is_not(tmp_path: Path) -> None:
    """One Idempotency-Key has one answer; another order finds nothing to confirm."""
    story = Story(tmp_path)
    await story.tell()
    async with running(tmp_path) as doctor:
        commands = doctor.gateway.commands
        first = await commands.confirm_restore(Origin("operator", "key"))
        assert await commands.confirm_restore(Origin("operator", "key")) == first
        with pytest.raises(UserError, match="No restored database waits"):
            await confirm(doctor)
        with pytest.raises(UserError, match="No restored database waits"):
            commands.restore_state()


@on_a_loop
async def test_of_two_who_confirm_at_once_one_is_refused(tmp_path: Path) -> None:
    """Both orders share a transaction, and the first has taken no effect yet but on the disk."""
    story = Story(tmp_path)
    await story.tell()
    async with running(tmp_path) as doctor:
        one, other = await asyncio.gather(confirm(doctor), confirm(doctor), return_exceptions=True)

        assert isinstance(one, answers.RestoreAnswer)
        assert isinstance(other, UserError)
        assert len(doctor.audited(Action.RESTORED)) == 1


@on_a_loop
async def test_a_revocation_is_possible_before_the_word(tmp_path: Path) -> None:
    """Who is not to come back can be expelled while the roster is being looked at."""
    story = Story(tmp_path)
    await story.tell()
    async with running(tmp_path) as doctor:
        await doctor.gateway.commands.revoke("anna", ME)
        await confirm(doctor)
    async with running(tmp_path) as doctor:
        assert doctor.gateway.ready
        assert {row.patient: row.state for row in doctor.gateway.commands.patients()} == {
            "anna": "revoked",
            "eve": "revoked",
        }
    assert verify_audit(tmp_path).first_bad is None


@on_a_loop
async def test_a_confirmation_that_cannot_be_signed_at_once_stands_and_is_signed_later(
    tmp_path: Path,
) -> None:
    """The heads file refuses: the restore is confirmed in the database all the same, and no head is written before its line."""
    story = Story(tmp_path)
    await story.tell()
    path, aside = tmp_path / "audit" / HEADS_FILE, tmp_path / "aside"
    async with running(tmp_path) as doctor:
        path.rename(aside)
        path.mkdir()
        assert (await confirm(doctor)).confirmed
        assert LOG.find("confirmation not signed yet")
        with pytest.raises(StorageError):
            doctor.gateway.witness.sign()
        path.rmdir()
        aside.rename(path)
        doctor.gateway.witness.sign()
        assert not doctor.gateway._stores.restoration.line_due
    verdict = verify_audit(tmp_path)
    assert (verdict.first_bad, len(verdict.events)) == (None, 1)

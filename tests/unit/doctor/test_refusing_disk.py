"""Disks that refuse: at every place where the doctor writes, what was asked for has not happened, and it happens when there is room."""

from __future__ import annotations

import errno
import os
import secrets
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from doctor import heads, keyring, witness
from doctor.answers import BroadcastAnswer
from doctor.audit import Action
from doctor.heads import HEADS_FILE
from doctor.idempotency import Origin
from doctor.orders import BroadcastOrder, InviteOrder, MessageOrder
from shared.crypto.suites import SUITES
from shared.errors import StorageError
from shared.net.stream import clock
from shared.storage import sqlite
from shared.wire.messages import Report, ReportKind
from tests.doctor_bench import BELL, EVERYONE, LOG, ME, Device, Doctor, on_a_loop, running, verify_audit


@asynccontextmanager
async def refused_commits(doctor: Doctor) -> AsyncIterator[None]:
    """Inside the block every transaction runs to its end and is refused there: as by an fsync that fails."""

    def deny(action: int, first: str | None, *_: object) -> int:
        commit = action == sqlite3.SQLITE_TRANSACTION and first == "COMMIT"
        return sqlite3.SQLITE_DENY if commit else sqlite3.SQLITE_OK

    with pytest.raises(StorageError):
        await doctor.writer.submit(lambda db: db.set_authorizer(deny))
    yield
    await doctor.writer.submit(lambda db: db.set_authorizer(None))


@asynccontextmanager
async def full_disk(doctor: Doctor) -> AsyncIterator[None]:
    """Inside the block the database cannot grow by a page; SQLite says so as it does of a full volume."""

    def limit(db: sqlite3.Connection, pages: int) -> None:
        db.execute(f"PRAGMA max_page_count = {pages}").fetchone()

    pages = doctor.reader.execute("PRAGMA page_count").fetchone()[0]
    await doctor.writer.submit(lambda db: limit(db, pages))
    yield
    await doctor.writer.submit(lambda db: limit(db, 2**30))


def in_memory(doctor: Doctor) -> object:
    """What runs, as far as an order can change it."""
    fanout = doctor.fanout
    return (
        dict(fanout.last),
        {
            name: (set(group.members), group.epoch_number, group.sequence)
            for name, group in fanout.groups.items()
        },
        {name: sorted(map(str, session.attachments)) for name, session in fanout.sessions.items()},
        repr(sorted(vars(doctor.house.roster).items())),
    )


def on_disk(doctor: Doctor) -> object:
    """Every row of every table."""
    tables = doctor.reader.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name"
    ).fetchall()
    return {name: doctor.reader.execute(f"SELECT * FROM {name}").fetchall() for (name,) in tables}


async def fill(doctor: Doctor) -> None:
    """Send until nothing is accepted any more; what was accepted last is in the answers then."""
    while True:
        FILLED.append(await doctor.broadcast("x" * 30_000))


FILLED: list[BroadcastAnswer] = []

ORDERS: dict[str, Callable[[Doctor], Awaitable[object]]] = {
    "broadcast": lambda doctor: doctor.gateway.commands.broadcast(BroadcastOrder("x"), ME),
    "send": lambda doctor: doctor.gateway.commands.send("anna", MessageOrder("x"), ME),
    "invite": lambda doctor: doctor.gateway.commands.invite(InviteOrder("bert"), ME),
    "invite a fleet": lambda doctor: doctor.gateway.commands.invite(InviteOrder(), ME),
    "create a group": lambda doctor: doctor.gateway.commands.create_group("attic", ME),
    "add a member": lambda doctor: doctor.gateway.commands.add_member("ward", "anna", ME),
    "revoke": lambda doctor: doctor.gateway.commands.revoke("anna", ME),
    "retire": lambda doctor: doctor.gateway.commands.retire("anna", ME),
    "forget reports": lambda doctor: doctor.gateway.commands.forget_reports("anna", 2**50, ME),
}


@pytest.mark.parametrize("name", ORDERS)
def test_an_order_whose_commit_fails_has_not_happened(tmp_path: Path, name: str) -> None:
    """Neither on the disk nor in what runs; the same order is carried out when the disk takes it, without a restart."""

    @on_a_loop
    async def scenario() -> None:
        async with running(tmp_path) as doctor:
            anna = await doctor.device("anna")
            await doctor.gateway.commands.create_group("ward", ME)
            await doctor.settled()
            before = in_memory(doctor), on_disk(doctor)
            async with refused_commits(doctor):
                with pytest.raises(StorageError, match="not accepted"):
                    await ORDERS[name](doctor)
            assert (in_memory(doctor), on_disk(doctor)) == before
            assert anna.disconnects == []

            await ORDERS[name](doctor)
            assert in_memory(doctor) != before[0] or on_disk(doctor) != before[1]
        assert verify_audit(tmp_path).first_bad is None

    scenario()


@on_a_loop
async def test_a_full_volume_takes_no_message_and_loses_none(tmp_path: Path) -> None:
    """What was accepted is delivered; what was not has no number; the next one gets it."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        FILLED[:] = [await doctor.broadcast("before")]
        async with full_disk(doctor):
            with pytest.raises(StorageError, match="full; free some space on that volume and try again"):
                await fill(doctor)
            last = doctor.fanout.last[EVERYONE]
        told = await doctor.broadcast("after")
        await doctor.delivered(anna, told.number)

        assert last == FILLED[-1].number
        assert anna.bodies()[0] == b"before"
        assert anna.bodies()[-1] == b"after"
        numbers = [row[0] for row in doctor.reader.execute("SELECT number FROM messages ORDER BY number")]
        assert [shown.number for shown in anna.inbox[EVERYONE]] == numbers
    assert verify_audit(tmp_path).first_bad is None


@on_a_loop
async def test_who_cannot_be_admitted_now_is_admitted_later(tmp_path: Path) -> None:
    """An enrolment whose commit fails has used nothing up: the very same device comes again."""
    async with running(tmp_path) as doctor:
        anna = Device(await doctor.invite("anna"))
        async with refused_commits(doctor):
            await doctor.connect(anna)
            await anna.gone()
            assert LOG.find("admission not stored")
            assert doctor.house.roster.member("anna") is None
            assert anna.alerts == []
        await doctor.reconnect(anna)

        assert [name for name, _ in doctor.audited(Action.ENROLLED)] == ["anna"]


@on_a_loop
async def test_receipts_and_reports_wait_for_the_disk(tmp_path: Path) -> None:
    """A receipt is kept in memory, a report at its device; neither is told to be stored."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        anna.acknowledges = False
        sent = await doctor.broadcast("take two")
        await anna.until(lambda device: device.bodies())
        report = Report(secrets.token_bytes(16), ReportKind.REPLY, clock().wall, b"better")
        assert anna.stream is not None
        async with refused_commits(doctor):
            anna.acknowledge(EVERYONE, sent.number)
            await LOG.until("receipts not stored")
            anna.stream.connection.report(report)
            anna.stream.flush()
            await LOG.until("report not stored", patient="anna")
        assert doctor.states(sent.id) == {"anna": "sent"}
        doctor.house.receipts.write_waiting()
        await doctor.delivered(anna, sent.number)
        assert doctor.gateway.commands.reports("anna") == []

        anna.stream.connection.report(report)
        anna.stream.flush()
        await BELL.until(lambda: doctor.gateway.commands.reports("anna"), "the report")


@on_a_loop
async def test_a_heads_file_that_cannot_be_written_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The timer goes on; the next head covers everything before."""
    monkeypatch.setattr(witness, "INTERVAL", 0.01)
    audit_dir = tmp_path / "audit"
    async with running(tmp_path) as doctor:
        await LOG.until("audit head exported")
        (audit_dir / HEADS_FILE).rename(audit_dir / "aside")
        (audit_dir / HEADS_FILE).mkdir()
        await doctor.broadcast("x")
        await LOG.until("timer failed")
        (audit_dir / HEADS_FILE).rmdir()
        count = len(LOG.find("audit head exported"))
        await LOG.until("audit head exported", count=count + 1)
    assert verify_audit(tmp_path).first_bad is None
    newest = heads.newest(audit_dir)
    assert newest is not None
    assert newest.sequence == verify_audit(tmp_path).entries


@on_a_loop
async def test_a_restore_is_confirmed_whole_or_not_at_all(tmp_path: Path) -> None:
    """A commit that fails leaves the doctor waiting for its operator, who can say it again."""
    async with running(tmp_path):
        pass
    copy = (tmp_path / "state" / "doctor.db").read_bytes()
    async with running(tmp_path) as doctor:
        await doctor.device("anna")
    (tmp_path / "state" / "doctor.db").write_bytes(copy)
    async with running(tmp_path) as doctor:
        await doctor.settled()
        before = in_memory(doctor), on_disk(doctor)
        async with refused_commits(doctor):
            with pytest.raises(StorageError, match="not accepted"):
                await doctor.gateway.commands.confirm_restore(ME)
        assert (in_memory(doctor), on_disk(doctor)) == before
        assert doctor.gateway.commands.restore_state().enrolled == ["anna"]

        assert (await doctor.gateway.commands.confirm_restore(Origin("operator"))).confirmed


def test_keys_are_made_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a first start on a full volume; with room, the next start makes what is missing and keeps what is there."""
    real, state = os.fsync, tmp_path / "state"
    fates: list[bool] = []

    def full(descriptor: int) -> None:
        if not fates.pop(0):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        for succeed in (0, 1, 0, 1, 0):
            fates[:] = [True] * succeed + [False]
            with pytest.raises(StorageError, match="No space left on device"):
                keyring.load_or_create(state, frozenset(SUITES), os.urandom)
            assert fates == []
    keys = keyring.load_or_create(state, frozenset(SUITES), os.urandom)

    assert keyring.load(state).public == keys.public
    assert {path.name for path in (state / "keys").iterdir()} == {
        "ecdsa-p256.key",
        "schnorr-ffdhe3072.key",
        "storage.key",
    }


def test_a_volume_without_room_for_the_copy_is_not_migrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database stays of the version it was, and opens when there is room."""
    path = tmp_path / "doctor.db"
    scripts = [
        "CREATE TABLE first (a) STRICT;".replace("(a)", "(a TEXT)"),
        "CREATE TABLE second (b TEXT) STRICT;",
    ]
    sqlite.open_database(path, scripts[:1]).close()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(sqlite, "_copy_into", full)
        with pytest.raises(StorageError, match="No space left on device"):
            sqlite.open_database(path, scripts)
    db = sqlite.open_database(path, scripts)
    assert db.execute("PRAGMA user_version").fetchone() == (2,)
    db.close()

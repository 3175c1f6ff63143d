"""The inbox applies a message exactly once, tells only what is committed, and never skips a failed one."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from patient import inbox, stored
from patient.inbox import Inbox
from patient.stored import StoredMessage
from shared.errors import StorageError
from shared.protocol.events import MessageReceived
from shared.storage import checksums
from shared.storage.sealed import Sealer
from shared.wire.messages import Envelope, Position, Stream, TargetKind

EVERYONE = Stream(TargetKind.GROUP, "everyone")
MINE = Stream(TargetKind.PATIENT, "alice")
SEALER = Sealer(bytes(32), os.urandom)
NOW = 1_800_000_000_000


def received(
    number: int, body: bytes | None = b"take two", stream: Stream = EVERYONE, direct: bool = False
) -> MessageReceived:
    """A verified message."""
    envelope = Envelope("doctor", "", stream, "", number, number - 1, NOW - 5, NOW + 5, 1, bytes(32))
    return MessageReceived(envelope, body, direct)


class Watched:
    """An inbox and what it told."""

    def __init__(self, path: Path) -> None:
        self.applied: list[StoredMessage] = []
        self.failed: list[BaseException] = []
        self.inbox = Inbox(path, SEALER, self.applied.append, self.failed.append)

    @property
    def numbers(self) -> list[int]:
        """The numbers applied."""
        return [message.number for message in self.applied]


def using(path: Path, work: Callable[[Watched], Awaitable[None] | None]) -> Watched:
    """Open the inbox, do something, wait until all is settled, close it."""

    async def main() -> Watched:
        watched = Watched(path)
        async with watched.inbox:
            result = work(watched)
            if result is not None:
                await result
            await watched.inbox.settle()
        return watched

    return asyncio.run(main())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is."""
    return tmp_path / "inbox.db"


def test_a_message_is_stored_and_told_once(path: Path) -> None:
    """The second copy, from another connection, changes nothing."""

    def twice(watched: Watched) -> None:
        watched.inbox.store(received(7), NOW)
        watched.inbox.store(received(7), NOW + 1)

    watched = using(path, twice)

    expected = StoredMessage(EVERYONE, 7, NOW - 5, NOW, False, b"take two")
    assert watched.applied == [expected]
    assert stored.read(path, SEALER) == [expected]


def test_a_message_is_applied_once_across_restarts(path: Path) -> None:
    """What the doctor sends again after a restart is known."""
    using(path, lambda watched: watched.inbox.store(received(7), NOW))

    again = using(path, lambda watched: watched.inbox.store(received(7), NOW))

    assert again.applied == []
    assert again.inbox.position(EVERYONE) == 7


def test_nothing_is_told_before_the_commit(path: Path) -> None:
    """An acknowledgement of `on_applied` is an acknowledgement of what is on the disk."""

    async def work(watched: Watched) -> None:
        watched.inbox.store(received(7), NOW)
        assert (watched.applied, watched.inbox.position(EVERYONE)) == ([], 0)
        await watched.inbox.settle()
        assert watched.numbers == [7]
        assert len(stored.read(path, SEALER)) == 1

    using(path, work)


def test_an_expired_message_is_a_number_without_a_body(path: Path) -> None:
    """It moves the position and has nothing to show."""
    watched = using(path, lambda watched: watched.inbox.store(received(7, None), NOW))

    assert [message.body for message in stored.read(path, SEALER)] == [None]
    assert watched.inbox.position(EVERYONE) == 7


def test_streams_have_positions_of_their_own(path: Path) -> None:
    """A private message does not move the group's position."""

    def work(watched: Watched) -> None:
        watched.inbox.store(received(7), NOW)
        watched.inbox.store(received(3, stream=MINE, direct=True), NOW)

    positions = using(path, work).inbox.positions()

    assert (positions[EVERYONE], positions[MINE]) == (7, 3)


def test_a_start_number_raises_the_position_and_nothing_lowers_it(path: Path) -> None:
    """The position is max(own, start), and it survives a restart."""

    def work(watched: Watched) -> None:
        watched.inbox.begin(EVERYONE, 5)
        watched.inbox.begin(EVERYONE, 3)
        watched.inbox.store(received(4), NOW)

    watched = using(path, work)

    assert watched.applied == []
    assert using(path, lambda _: None).inbox.position(EVERYONE) == 5


def test_positions_are_copies(path: Path) -> None:
    """A connection that runs ahead of the commits does not move the inbox."""
    box = using(path, lambda watched: watched.inbox.store(received(7), NOW)).inbox

    box.positions().raise_to(EVERYONE, 99)

    assert box.position(EVERYONE) == 7


def test_bodies_rest_sealed(path: Path) -> None:
    """The text is nowhere in the files."""
    using(path, lambda watched: watched.inbox.store(received(7, b"canary in the inbox"), NOW))
    files = b"".join(each.read_bytes() for each in path.parent.iterdir())

    assert b"canary" not in files


def test_a_body_that_was_moved_does_not_open(path: Path) -> None:
    """A body opens only in its own row."""
    using(path, lambda watched: watched.inbox.store(received(7), NOW))
    with closing(sqlite3.connect(path)) as connection, connection:
        checksums.install(connection)
        connection.execute("UPDATE messages SET number = 8")

    with pytest.raises(StorageError, match=r"messages\.body"):
        stored.read(path, SEALER)


def test_nothing_behind_a_failed_message_is_stored(path: Path) -> None:
    """The disk refuses one message and takes the next: then the next is refused too, and both come again."""

    async def work(watched: Watched) -> None:
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(
                "CREATE TRIGGER full BEFORE INSERT ON messages WHEN NEW.number = 8 "
                "BEGIN SELECT RAISE(ABORT, 'disk full'); END"
            )
        for number in (7, 8, 9):
            watched.inbox.store(received(number), NOW)
        await watched.inbox.settle()
        watched.inbox.store(received(10), NOW)
        await watched.inbox.settle()
        assert watched.numbers == [7]
        states = [watched.inbox.failed]
        assert [type(error) for error in watched.failed] == [
            sqlite3.IntegrityError,
            StorageError,
            StorageError,
        ]

        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute("DROP TRIGGER full")
        await watched.inbox.reload()
        states.append(watched.inbox.failed)
        assert states == [True, False]
        for number in (8, 9, 10):
            watched.inbox.store(received(number), NOW)

    watched = using(path, work)

    assert watched.numbers == [7, 8, 9, 10]


def test_an_inbox_that_was_never_written_is_empty(path: Path) -> None:
    """A device that has not run yet has no database; one that was killed while it made it has no tables."""
    never = stored.read(path, SEALER)
    path.touch(0o600)

    assert (never, stored.read(path, SEALER)) == ([], [])


def test_a_foreign_database_is_an_error_that_names_it(path: Path) -> None:
    """Something else stands at the place."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE other (x)")
    path.chmod(0o600)

    with pytest.raises(StorageError, match=r"inbox\.db cannot be read"):
        stored.read(path, SEALER)


def test_an_inbox_that_cannot_be_read_is_not_opened(path: Path) -> None:
    """It opens, but its positions are gone: the writer is closed again and the error is raised."""
    using(path, lambda _: None)
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE positions")

    with pytest.raises(StorageError, match="is no inbox: no such table"):
        using(path, lambda _: None)


def test_no_repr_shows_a_body() -> None:
    """A patient's data has no place in a log."""
    assert "take two" not in repr(StoredMessage(EVERYONE, 1, 0, 0, False, b"take two"))


def test_expired_numbers_are_kept_until_the_doctor_has_them(path: Path) -> None:
    """Across restarts; those behind what it has are still to be told."""

    def expire(watched: Watched) -> None:
        for number in (7, 8, 9):
            watched.inbox.store(received(number, None), NOW)
        watched.inbox.store(received(10), NOW)

    def told(watched: Watched) -> None:
        assert watched.inbox.expired() == {EVERYONE: [7, 8, 9]}
        watched.inbox.note_receipted([Position(EVERYONE, 8, [7, 8])])
        assert watched.inbox.expired() == {EVERYONE: [9]}
        watched.inbox.note_receipted([Position(EVERYONE, 7, [7])])  # nothing moves back

    assert using(path, expire).inbox.expired() == {EVERYONE: [7, 8, 9]}
    using(path, told)
    assert using(path, lambda _: None).inbox.expired() == {EVERYONE: [9]}


def test_a_stream_in_which_nothing_expired_has_a_position_only(path: Path) -> None:
    """It is told all the same: where the device stands in it."""
    watched = using(path, lambda watched: watched.inbox.store(received(7), NOW))

    assert watched.inbox.expired() == {EVERYONE: []}


def test_what_the_doctor_has_and_cannot_be_noted_is_told_again(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is logged, and no failure of the inbox: no message is missing."""

    async def work(watched: Watched) -> None:
        watched.inbox.store(received(7, None), NOW)
        await watched.inbox.settle()
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(
                "CREATE TRIGGER full BEFORE UPDATE ON positions BEGIN SELECT RAISE(ABORT, 'disk full'); END"
            )
        watched.inbox.note_receipted([Position(EVERYONE, 7, [7])])

    watched = using(path, work)

    assert (watched.failed, watched.inbox.failed) == ([], False)
    assert "disk full" in capfd.readouterr().err
    assert using(path, lambda _: None).inbox.expired() == {EVERYONE: [7]}


def test_what_the_doctor_has_heard_of_is_said_beside_the_message(path: Path) -> None:
    """Each stream on its own; nothing takes it back, and a restart keeps it."""

    def work(watched: Watched) -> None:
        for number in (7, 8):
            watched.inbox.store(received(number), NOW)
        watched.inbox.store(received(3, stream=MINE, direct=True), NOW)
        watched.inbox.note_heard({EVERYONE: 7, MINE: 0})
        watched.inbox.note_heard({EVERYONE: 5})

    using(path, work)

    found = {(each.stream, each.number): each.receipted for each in stored.read(path, SEALER)}
    assert found == {(EVERYONE, 7): True, (EVERYONE, 8): False, (MINE, 3): False}


def test_a_confirmation_that_cannot_be_stored_harms_nothing(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing that is sent depends on it; the next one covers it."""

    async def work(watched: Watched) -> None:
        watched.inbox.store(received(7), NOW)
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(
                "CREATE TRIGGER full BEFORE INSERT ON heard BEGIN SELECT RAISE(ABORT, 'disk full'); END"
            )
        watched.inbox.note_heard({EVERYONE: 7})
        await watched.inbox.settle()
        watched.inbox.store(received(8), NOW)

    watched = using(path, work)

    assert (watched.failed, watched.numbers) == ([], [7, 8])
    assert "disk full" in capfd.readouterr().err


def test_who_reads_an_earlier_releases_inbox_is_told_of_no_receipt(path: Path) -> None:
    """Reading changes no schema: the device that runs next does."""
    using(path, lambda it: it.inbox.store(received(7), NOW))
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE heard")
        connection.execute("PRAGMA user_version = 1")

    assert [each.receipted for each in stored.read(path, SEALER)] == [False]
    using(path, lambda it: it.inbox.note_heard({EVERYONE: 7}))
    assert [each.receipted for each in stored.read(path, SEALER)] == [True]


def test_a_damaged_kind_of_stream_is_named(path: Path) -> None:
    """Where positions are read at the start, and where the messages are shown."""
    using(path, lambda it: it.inbox.store(received(1), NOW))
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        checksums.install(db)
        db.execute("UPDATE positions SET kind = 7")
        db.execute("UPDATE messages SET kind = 7")

    with pytest.raises(StorageError, match="kind of row everyone is damaged"):
        using(path, lambda it: None)
    with pytest.raises(StorageError, match="kind of row everyone is damaged"):
        stored.read(path, SEALER)


@pytest.mark.parametrize("change", ["positions SET last = last + 1", "messages SET received = 5"])
def test_a_row_that_was_damaged_is_named(path: Path, change: str) -> None:
    """A number is a number: only the row's checksum can tell, at the start and where the messages are shown."""
    using(path, lambda it: it.inbox.store(received(1), NOW))
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA trusted_schema=ON")
        db.create_function("row_checksum", -1, lambda *_: b"8 bytes.", deterministic=True)
        db.execute(f"UPDATE {change}")

    with pytest.raises(StorageError, match=f"a row of {change.split()[0]} is damaged"):
        using(path, lambda it: None)
    with pytest.raises(StorageError, match="is damaged"):
        stored.read(path, SEALER)


REBUILT = """
CREATE TABLE rebuilt (
    kind INTEGER NOT NULL,
    name TEXT NOT NULL,
    last INTEGER NOT NULL,
    receipted INTEGER NOT NULL DEFAULT 0,
    seen INTEGER NOT NULL DEFAULT 0,
    checksum BLOB GENERATED ALWAYS AS (row_checksum(kind, name, last, receipted, seen)) STORED,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;
INSERT INTO rebuilt (kind, name, last, receipted) SELECT kind, name, last, receipted FROM positions;
DROP TABLE positions;
ALTER TABLE rebuilt RENAME TO positions;
"""  # what a coming version may do: one column more, under a new checksum


def test_an_inbox_of_an_earlier_version_goes_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its messages and positions are there, and their checksums are the new table's."""
    using(path, lambda it: it.inbox.store(received(1), NOW))
    monkeypatch.setattr(inbox, "_MIGRATIONS", (*inbox._MIGRATIONS, REBUILT))

    watched = using(path, lambda it: it.inbox.store(received(2), NOW))

    assert watched.numbers == [2]
    assert [message.body for message in stored.read(path, SEALER)] == [b"take two", b"take two"]
    assert (path.parent / f"{path.name}.before-v3").exists()

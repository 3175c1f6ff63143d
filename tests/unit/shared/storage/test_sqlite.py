"""Opening, migrating and reading a database, and the writer's promise to its callers."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.errors import LocalError, StorageError, UserError
from shared.storage.sqlite import checkpoint, open_database, open_reader
from shared.storage.writer import Writer

MIGRATIONS = ["CREATE TABLE t (n INTEGER PRIMARY KEY, b BLOB) STRICT;"]


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def insert(connection: sqlite3.Connection) -> int:
    row = connection.execute("INSERT INTO t (b) VALUES (zeroblob(1000))").lastrowid
    assert row is not None
    return row


def rows(path: Path) -> int:
    with contextlib.closing(open_reader(path)) as reader:
        return int(reader.execute("SELECT count(*) FROM t").fetchone()[0])


@pytest.fixture(name="path")
def path_of_a_new_database(tmp_path: Path) -> Path:
    """Where a database may be made."""
    return tmp_path / "doctor.db"


# opening


def test_who_reads_everything_once_keeps_few_pages(path: Path) -> None:
    """A thread of the doctor would keep the megabytes that each verification of the audit log reads."""
    open_database(path, MIGRATIONS).close()
    for once, kept in ((True, -128), (False, -2000)):
        with contextlib.closing(open_reader(path, once)) as reader:
            assert reader.execute("PRAGMA cache_size").fetchone() == (kept,)


def test_the_durable_settings_are_in_force(path: Path) -> None:
    """Read back from the connection, not from what was asked for."""
    with contextlib.closing(open_database(path, MIGRATIONS)) as connection:
        found = {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "secure_delete", "foreign_keys", "busy_timeout")
        }
        assert connection.isolation_level is None

    assert found == {
        "journal_mode": "wal",
        "synchronous": 2,
        "secure_delete": 1,
        "foreign_keys": 1,
        "busy_timeout": 5000,
    }


def test_a_file_system_without_a_write_ahead_log_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A setting that does not take is an error: a database in memory knows no WAL, as some network volumes do not."""
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *_, **__: connect(":memory:", isolation_level=None))

    with pytest.raises(StorageError, match=r"doctor\.db: journal_mode stays 'memory' instead of WAL"):
        open_database(path, MIGRATIONS)


def test_database_and_log_files_belong_to_their_owner_alone(path: Path) -> None:
    """SQLite gives its log files the mode of the database, which we made before it."""
    before = os.umask(0)
    try:
        with contextlib.closing(open_database(path, MIGRATIONS)) as connection:
            insert(connection)
            modes = {each.name: mode_of(each) for each in path.parent.iterdir()}
    finally:
        os.umask(before)

    assert modes == {"doctor.db": 0o600, "doctor.db-wal": 0o600, "doctor.db-shm": 0o600}


def test_a_database_that_others_can_read_is_refused(path: Path) -> None:
    """With the command that mends it; for readers too."""
    open_database(path, MIGRATIONS).close()
    path.chmod(0o640)

    with pytest.raises(UserError, match=f"mode 0640: .* chmod 600 {path}"):
        open_database(path, MIGRATIONS)
    with pytest.raises(UserError, match=f"mode 0640: .* chmod 600 {path}"):
        open_reader(path)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    """It is the caller's to make, private."""
    with pytest.raises(StorageError, match=r"missing/doctor\.db cannot be opened: No such file or directory"):
        open_database(tmp_path / "missing" / "doctor.db", MIGRATIONS)


def test_a_file_that_is_no_database_is_named(path: Path) -> None:
    """For readers too."""
    path.write_bytes(b"no database" * 100)
    path.chmod(0o600)

    with pytest.raises(StorageError, match=r"doctor\.db: file is not a database"):
        open_database(path, MIGRATIONS)
    with pytest.raises(StorageError, match=r"doctor\.db: file is not a database"):
        open_reader(path)


def test_a_damaged_database_is_named_at_the_opening(path: Path) -> None:
    """Zeros over the table's first page: quick_check finds them before anybody relies on a row."""
    with contextlib.closing(open_database(path, MIGRATIONS)) as connection:
        for _ in range(20):
            insert(connection)
        page_size = connection.execute("PRAGMA page_size").fetchone()[0]
        root = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 't'").fetchone()[0]
    with path.open("r+b") as file:
        file.seek((root - 1) * page_size)
        file.write(bytes(page_size))

    with pytest.raises(
        StorageError, match=r"doctor\.db: the database is damaged \(.*\); restore it from a backup"
    ):
        open_database(path, MIGRATIONS)


def test_a_newer_schema_is_refused_by_name(path: Path) -> None:
    """And the file is as it was."""
    open_database(path, [*MIGRATIONS, "CREATE TABLE later (n INTEGER) STRICT;"]).close()

    with pytest.raises(StorageError, match=r"doctor\.db: the schema has version 2, this program knows 1"):
        open_database(path, MIGRATIONS)


def test_an_upgrade_keeps_a_private_copy_of_what_was_there(path: Path) -> None:
    """One file that opens by itself; a copy that an earlier, broken attempt left is replaced."""
    with contextlib.closing(open_database(path, MIGRATIONS)) as connection:
        insert(connection)
    (path.parent / "doctor.db.before-v2.partial").write_bytes(b"half a copy")
    open_database(path, [*MIGRATIONS, "DELETE FROM t;"]).close()
    copy = path.parent / "doctor.db.before-v2"

    assert (rows(path), rows(copy)) == (0, 1)
    assert mode_of(copy) == 0o600
    assert sorted(each.name for each in path.parent.iterdir()) == ["doctor.db", "doctor.db.before-v2"]


def test_a_new_database_is_not_copied(path: Path) -> None:
    """There is nothing to lose."""
    open_database(path, MIGRATIONS).close()

    assert list(path.parent.iterdir()) == [path]


# reading


def test_a_reader_sees_commits_while_the_writer_is_at_work_and_cannot_write(path: Path) -> None:
    """WAL: an open transaction neither shows nor blocks."""
    with contextlib.closing(open_database(path, MIGRATIONS)) as connection:
        insert(connection)
        connection.execute("BEGIN IMMEDIATE")
        insert(connection)
        with contextlib.closing(open_reader(path)) as reader:
            seen = reader.execute("SELECT count(*) FROM t").fetchone()
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                insert(reader)
        connection.execute("COMMIT")

    assert seen == (1,)


def test_a_reader_of_a_missing_database_makes_none(path: Path) -> None:
    """The name is in the message."""
    with pytest.raises(StorageError, match=r"doctor\.db cannot be read: No such file"):
        open_reader(path)

    assert not path.exists()


def test_erased_bytes_are_gone_from_the_disk_after_a_checkpoint(path: Path) -> None:
    """secure_delete overwrites the row, the checkpoint carries that into the file and empties the log."""
    canary = b"canary" * 100
    with contextlib.closing(open_database(path, MIGRATIONS)) as connection:
        connection.execute("INSERT INTO t (b) VALUES (?)", (canary,))
        assert canary in (path.parent / "doctor.db-wal").read_bytes()
        checkpoint(path)
        assert canary in path.read_bytes()
        connection.execute("DELETE FROM t")

        assert checkpoint(path)
        assert all(canary not in each.read_bytes() for each in path.parent.iterdir())


def test_a_checkpoint_that_a_reader_holds_back_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller tries again later; nothing is lost."""
    monkeypatch.setattr("shared.storage.sqlite._BUSY_TIMEOUT_S", 0.0)
    with contextlib.closing(open_database(path, MIGRATIONS)) as connection:
        insert(connection)
        with contextlib.closing(open_reader(path)) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM t").fetchone()
            insert(connection)
            assert not checkpoint(path)
        assert checkpoint(path)


# writing


def test_what_was_submitted_is_there_when_submit_returns(path: Path) -> None:
    """On the disk, for anybody who opens the file."""

    async def scenario() -> tuple[int, int]:
        async with Writer(path, MIGRATIONS) as writer:
            return await writer.submit(insert), rows(path)

    assert asyncio.run(scenario()) == (1, 1)


def test_callers_get_their_answers_in_commit_order_each_after_its_on_commit(path: Path) -> None:
    """Also over several batches: the loop hears of messages, joins and leaves in the order of the database."""
    heard: list[tuple[str, int]] = []

    async def caller(writer: Writer) -> None:
        heard.append(("answer", await writer.submit(insert, lambda row: heard.append(("commit", row)))))

    async def scenario() -> None:
        async with Writer(path, MIGRATIONS) as writer:
            await asyncio.gather(*(caller(writer) for _ in range(600)))

    asyncio.run(scenario())
    commits = [row for kind, row in heard if kind == "commit"]
    answers = [row for kind, row in heard if kind == "answer"]

    assert commits == answers == list(range(1, 601))
    assert all(heard.index(("commit", row)) < heard.index(("answer", row)) for row in commits)


def test_callers_at_the_same_time_share_commits(path: Path) -> None:
    """64 callers in 10 rounds are 640 jobs, and not many more commits than rounds."""
    statements: list[str] = []

    async def caller(writer: Writer) -> None:
        for _ in range(10):
            await writer.submit(insert)

    async def scenario() -> None:
        async with Writer(path, MIGRATIONS) as writer:
            await writer.submit(lambda connection: connection.set_trace_callback(statements.append))
            await asyncio.gather(*(caller(writer) for _ in range(64)))

    asyncio.run(scenario())

    assert rows(path) == 640
    assert 10 <= statements.count("COMMIT") <= 40


def test_a_job_that_fails_fails_alone(path: Path) -> None:
    """Its caller gets its exception; on_commit is for committed jobs only."""
    committed: list[object] = []

    def refuse(connection: sqlite3.Connection) -> int:
        insert(connection)
        raise UserError("no such group")

    async def scenario() -> list[object]:
        async with Writer(path, MIGRATIONS) as writer:
            jobs = [writer.submit_nowait(work, committed.append) for work in (insert, refuse, insert)]
            return list(await asyncio.gather(*jobs, return_exceptions=True))

    first, second, third = asyncio.run(scenario())

    assert (first, third) == (1, 2)
    assert isinstance(second, UserError)
    assert committed == [1, 2]
    assert rows(path) == 2


def test_a_cancelled_caller_leaves_its_job_to_be_committed(path: Path) -> None:
    """on_commit runs all the same: the memory of the program follows the database, not the caller."""
    committed: list[int] = []
    entered, go_on = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection) -> int:
        entered.set()
        go_on.wait()
        return insert(connection)

    async def scenario() -> None:
        async with Writer(path, MIGRATIONS) as writer:
            waiting = asyncio.create_task(writer.submit(slow, committed.append))
            await asyncio.to_thread(entered.wait)
            behind = asyncio.create_task(writer.submit(insert, committed.append))
            await asyncio.sleep(0)
            for task in (waiting, behind):
                task.cancel()
            await asyncio.gather(waiting, behind, return_exceptions=True)
            assert waiting.cancelled()
            assert behind.cancelled()
            go_on.set()

    asyncio.run(scenario())

    assert committed == [1, 2]
    assert rows(path) == 2


def test_an_error_of_on_commit_is_reported_and_holds_nobody_up(path: Path) -> None:
    """The job is durable, so its caller hears the truth; the loop's handler hears of the bug."""
    reported: list[object] = []

    def broken(row: int) -> None:
        raise ValueError(f"bug at {row}")

    async def scenario() -> list[int]:
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: reported.append(context["exception"])
        )
        async with Writer(path, MIGRATIONS) as writer:
            return list(
                await asyncio.gather(writer.submit_nowait(insert, broken), writer.submit_nowait(insert))
            )

    assert asyncio.run(scenario()) == [1, 2]
    assert [str(error) for error in reported] == ["bug at 1"]


def test_closing_settles_what_was_submitted_before(path: Path) -> None:
    """Also what has not left the loop yet; a second close is nothing."""

    async def scenario() -> list[int]:
        writer = Writer(path, MIGRATIONS)
        await writer.start()
        jobs = [writer.submit_nowait(insert) for _ in range(300)]
        await writer.close()
        await writer.close()
        assert all(job.done() for job in jobs)
        return [job.result() for job in jobs]

    assert asyncio.run(scenario()) == list(range(1, 301))
    assert sorted(each.name for each in path.parent.iterdir()) == ["doctor.db"]


def test_a_closed_writer_accepts_nothing(path: Path) -> None:
    """Neither does one that was never started."""

    async def scenario() -> None:
        async with Writer(path, MIGRATIONS) as writer:
            pass
        for each in (writer, Writer(path, MIGRATIONS)):
            with pytest.raises(LocalError, match="is not open"):
                await each.submit(insert)

    asyncio.run(scenario())


def test_a_database_that_does_not_open_is_refused_at_the_start(path: Path) -> None:
    """With the error of the opening, and nothing left running."""
    path.touch(0o600)
    path.chmod(0o644)

    async def scenario() -> None:
        with pytest.raises(UserError, match="chmod 600"):
            async with Writer(path, MIGRATIONS):
                raise AssertionError("must not get here")

    asyncio.run(scenario())

    assert not [each for each in threading.enumerate() if str(path) in each.name]


def test_a_loop_that_is_gone_costs_the_answer_not_the_rows(path: Path) -> None:
    """The program's loop was closed without closing the writer: the thread still commits, and does not fail."""
    entered, go_on = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection) -> int:
        entered.set()
        go_on.wait()
        return insert(connection)

    async def abandoned() -> threading.Thread:
        writer = Writer(path, MIGRATIONS)
        await writer.start()
        writer.submit_nowait(slow)
        await asyncio.to_thread(entered.wait)
        assert writer._thread is not None
        return writer._thread

    thread = asyncio.run(abandoned())
    go_on.set()
    thread.stop()  # type: ignore[attr-defined]
    thread.join()

    assert rows(path) == 1


# a disk that refuses


@pytest.fixture(name="small_disk")
def small_file_system(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB, mounted for the test."""
    mount_point = tmp_path / "small"
    mount_point.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs", mount_point],
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a tmpfs: {mounted.stderr.strip()}")
    yield mount_point
    subprocess.run(["umount", mount_point], check=True)


async def write_until_refused(writer: Writer) -> tuple[int, StorageError]:
    accepted = 0
    while True:
        try:
            await writer.submit(insert)
        except StorageError as error:
            return accepted, error
        accepted += 1


def test_on_a_full_disk_nothing_is_accepted_or_lost_and_it_heals(small_disk: Path) -> None:
    """Every refusal says so, what was accepted before is there, and freed space is all it takes to go on."""
    path = small_disk / "doctor.db"
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(300_000))

    async def scenario() -> tuple[int, StorageError]:
        async with Writer(path, MIGRATIONS) as writer:
            accepted, error = await write_until_refused(writer)
            many = await asyncio.gather(*(writer.submit(insert) for _ in range(50)), return_exceptions=True)
            assert {type(each) for each in many} == {StorageError}
            assert rows(path) == accepted
            ballast.unlink()
            return accepted + len(await asyncio.gather(*(writer.submit(insert) for _ in range(50)))), error

    accepted, error = asyncio.run(scenario())

    assert str(error) == (
        f"not accepted: {path}: database or disk is full; free some space on that volume and try again"
    )
    assert rows(path) == accepted
    with contextlib.closing(open_reader(path)) as reader:
        assert reader.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_an_input_output_error_refuses_until_it_is_gone(path: Path) -> None:
    """A limit on file sizes makes the kernel refuse every write to the log, as a failing disk does."""
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)

    async def scenario() -> tuple[int, StorageError]:
        async with Writer(path, MIGRATIONS) as writer:
            await writer.submit(insert)
            log = path.with_name("doctor.db-wal").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (log, unlimited[1]))
            try:
                accepted, error = await write_until_refused(writer)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
            assert rows(path) == 1 + accepted
            await writer.submit(insert)
            return 2 + accepted, error

    accepted, error = asyncio.run(scenario())

    assert str(error).startswith(f"not accepted: {path}: disk I/O error")
    assert rows(path) == accepted


def test_a_database_that_another_program_holds_refuses_until_it_lets_go(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the busy timeout, so that no caller waits for ever; the message says what is the matter."""
    monkeypatch.setattr("shared.storage.sqlite._BUSY_TIMEOUT_S", 0.0)

    async def scenario() -> int:
        async with Writer(path, MIGRATIONS) as writer:
            with contextlib.closing(open_database(path, MIGRATIONS)) as other:
                other.execute("BEGIN IMMEDIATE")
                with pytest.raises(
                    StorageError, match="database is locked; another program holds the database"
                ):
                    await writer.submit(insert)
                other.execute("ROLLBACK")
            return await writer.submit(insert)

    assert asyncio.run(scenario()) == 1


def test_a_copy_that_does_not_fit_stops_the_upgrade(small_disk: Path) -> None:
    """No migration without a way back; the database is as it was, and no half copy takes up space."""
    path = small_disk / "doctor.db"
    with contextlib.closing(open_database(path, MIGRATIONS)) as connection:
        connection.execute("INSERT INTO t (b) VALUES (zeroblob(300000))")
    (small_disk / "ballast").write_bytes(bytes(500_000))

    with pytest.raises(StorageError, match=r"doctor\.db: (database or disk is full|disk I/O error)"):
        open_database(path, [*MIGRATIONS, "DELETE FROM t;"])

    assert sorted(each.name for each in small_disk.iterdir()) == ["ballast", "doctor.db"]
    assert rows(path) == 1


def test_a_read_only_volume_is_refused_at_the_start(small_disk: Path) -> None:
    """A new database and an existing one: the program does not come up to refuse every message later."""
    path = small_disk / "doctor.db"
    open_database(path, MIGRATIONS).close()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)

    with pytest.raises(StorageError, match=r"new\.db cannot be created: Read-only file system"):
        open_database(small_disk / "new.db", MIGRATIONS)
    with pytest.raises(StorageError, match=r"doctor\.db: "):
        open_database(path, MIGRATIONS)


WRITE_UNTIL_KILLED = """
import asyncio, pathlib, sys
from shared.storage.writer import Writer

async def caller(writer):
    while True:
        row = await writer.submit(lambda c: c.execute("INSERT INTO t (b) VALUES (zeroblob(1000))").lastrowid)
        print(row, flush=True)

async def main():
    async with Writer(pathlib.Path(sys.argv[1]), [sys.argv[2]]) as writer:
        await asyncio.gather(*(caller(writer) for _ in range(16)))

asyncio.run(main())
"""


@pytest.mark.parametrize("heard", [1, 17, 200, 1000])
def test_what_was_accepted_survives_kill_9(path: Path, heard: int) -> None:
    """Killed at an arbitrary moment between accepting and committing: every row whose submit returned is there."""
    program = subprocess.Popen(
        [sys.executable, "-c", WRITE_UNTIL_KILLED, path, MIGRATIONS[0]], stdout=subprocess.PIPE, text=True
    )
    with program:
        assert program.stdout is not None
        accepted = [int(program.stdout.readline()) for _ in range(heard)]
        program.kill()
        accepted += [int(line) for line in program.stdout if line.endswith("\n")]
    with contextlib.closing(open_database(path, MIGRATIONS)) as connection:
        present = {row[0] for row in connection.execute("SELECT n FROM t")}

    assert set(accepted) <= present

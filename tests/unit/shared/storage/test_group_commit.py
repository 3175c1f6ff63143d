"""The writer's thread and its batches: who shares a commit, and who fails with whom. No event loop here."""

from __future__ import annotations

import contextlib
import errno
import queue
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shared.errors import StorageError, UserError
from shared.storage.group_commit import MAX_BATCH, CommitThread, Job, commit_batch, may_pass, refusal

NAME = "run/test.db"


class FailingConnection(sqlite3.Connection):
    """A real connection whose COMMIT and ROLLBACK fail as often as told, as on a disk that gives errors."""

    failures: dict[str, int]

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if self.failures.get(sql, 0):
            self.failures[sql] -= 1
            raise sqlite3.OperationalError("disk I/O error")
        return super().execute(sql, parameters)


@pytest.fixture(name="database")
def database_with_a_table() -> Iterator[FailingConnection]:
    """A database in memory with one table of unique numbers."""
    connection = sqlite3.connect(":memory:", isolation_level=None, factory=FailingConnection)
    connection.failures = {}
    with contextlib.closing(connection):
        connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY) STRICT")
        yield connection


def job(work: Callable[[sqlite3.Connection], object]) -> Job[object]:
    return Job(work, lambda _: None)


def insert(number: int) -> Job[object]:
    return job(lambda connection: connection.execute("INSERT INTO t VALUES (?)", (number,)).lastrowid)


def raising(error: BaseException) -> Job[object]:
    def work(connection: sqlite3.Connection) -> object:
        connection.execute("INSERT INTO t VALUES (1000)")
        raise error

    return job(work)


def numbers(connection: sqlite3.Connection) -> list[int]:
    return [row[0] for row in connection.execute("SELECT n FROM t ORDER BY n")]


def test_a_batch_commits_together_and_hands_each_job_its_value(database: FailingConnection) -> None:
    """Later jobs see what earlier ones wrote."""
    count = job(lambda connection: connection.execute("SELECT count(*) FROM t").fetchone()[0])
    jobs = [insert(1), insert(2), count]
    commit_batch(database, jobs, NAME)

    assert [(each.value, each.error) for each in jobs] == [(1, None), (2, None), (2, None)]
    assert numbers(database) == [1, 2]
    assert not database.in_transaction


@pytest.mark.parametrize("error", [UserError("no such group"), KeyError("bug"), SystemExit(3)])
def test_a_job_that_raises_is_rolled_back_alone(database: FailingConnection, error: BaseException) -> None:
    """Its caller gets the very exception, the others are committed."""
    jobs = [insert(1), raising(error), insert(2)]
    commit_batch(database, jobs, NAME)

    assert [each.error for each in jobs] == [None, error, None]
    assert numbers(database) == [1, 2]


def test_a_broken_constraint_is_the_jobs_own_error(database: FailingConnection) -> None:
    """An IntegrityError is an answer, not a fault of the disk."""
    jobs = [insert(1), insert(1), insert(2)]
    commit_batch(database, jobs, NAME)

    assert isinstance(jobs[1].error, sqlite3.IntegrityError)
    assert numbers(database) == [1, 2]


def test_stop_iteration_becomes_an_error_that_a_future_can_carry(database: FailingConnection) -> None:
    """`next()` on an empty cursor must not leave its caller waiting for ever."""
    empty = job(lambda connection: next(connection.execute("SELECT n FROM t")))
    commit_batch(database, [empty], NAME)

    assert isinstance(empty.error, RuntimeError)
    assert isinstance(empty.error.__cause__, StopIteration)


def test_a_failed_commit_fails_every_job_and_stores_nothing(database: FailingConnection) -> None:
    """Each caller gets an error of its own, also the job that had failed by itself."""
    database.failures = {"COMMIT": 1}
    jobs = [insert(1), raising(UserError("refused")), insert(2)]
    commit_batch(database, jobs, NAME)

    assert [str(each.error) for each in jobs] == [f"not accepted: {NAME}: disk I/O error"] * 3
    assert all(isinstance(each.error, StorageError) for each in jobs)
    assert len({id(each.error) for each in jobs}) == 3
    assert numbers(database) == []
    assert not database.in_transaction


def test_the_batch_after_a_failed_commit_is_committed(database: FailingConnection) -> None:
    """Nothing of the failed one comes along, and its numbers are free again."""
    database.failures = {"COMMIT": 1}
    commit_batch(database, [insert(1)], NAME)
    again = insert(1)
    commit_batch(database, [again], NAME)

    assert (again.value, again.error) == (1, None)


def test_a_batch_that_could_not_even_be_rolled_back_is_rolled_back_by_the_next(
    database: FailingConnection,
) -> None:
    """Otherwise no transaction could ever begin again on this connection."""
    database.failures = {"COMMIT": 1, "ROLLBACK": 1}
    commit_batch(database, [insert(1)], NAME)
    assert database.in_transaction
    commit_batch(database, [insert(2)], NAME)

    assert numbers(database) == [2]


def test_a_full_database_inside_a_job_is_a_storage_error_with_advice(database: FailingConnection) -> None:
    """SQLITE_FULL inside one job: said as what it is, and the database stays usable."""
    database.execute("CREATE TABLE big (b BLOB) STRICT")
    pages = database.execute("PRAGMA page_count").fetchone()[0]
    database.execute(f"PRAGMA max_page_count={pages + 2}")
    big = job(lambda connection: connection.execute("INSERT INTO big VALUES (zeroblob(100000))"))
    jobs = [insert(1), big]
    commit_batch(database, jobs, NAME)

    assert isinstance(jobs[1].error, StorageError)
    assert "database or disk is full; free some space" in str(jobs[1].error)
    after = insert(3)
    commit_batch(database, [after], NAME)
    assert after.error is None


def test_a_read_only_database_inside_a_job_is_a_storage_error_of_that_job(
    database: FailingConnection,
) -> None:
    """The transaction still stands, so the jobs before it are committed."""

    def write_read_only(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA query_only=ON")
        try:
            connection.execute("INSERT INTO t VALUES (2)")
        finally:
            connection.execute("PRAGMA query_only=OFF")

    jobs = [insert(1), job(write_read_only)]
    commit_batch(database, jobs, NAME)

    assert isinstance(jobs[1].error, StorageError)
    assert "readonly database; make the file and its volume writable" in str(jobs[1].error)
    assert numbers(database) == [1]


def test_when_sqlite_gives_up_the_transaction_every_job_fails(database: FailingConnection) -> None:
    """ON CONFLICT ROLLBACK ends the whole transaction, as some faults of the disk do; no later job may run outside one."""
    doubled = job(lambda connection: connection.execute("INSERT OR ROLLBACK INTO t VALUES (1)"))
    jobs = [insert(1), doubled, insert(2)]
    commit_batch(database, jobs, NAME)

    assert all(str(each.error).startswith(f"not accepted: {NAME}: UNIQUE") for each in jobs)
    assert numbers(database) == []


def test_a_job_does_not_show_its_value(database: FailingConnection) -> None:
    """The event loop's debug log prints callbacks with their arguments."""
    secret = job(lambda _: "hunter2")
    commit_batch(database, [secret], NAME)

    assert secret.value == "hunter2"
    assert "hunter2" not in repr(secret)


def threaded(connect: Callable[[], sqlite3.Connection]) -> tuple[CommitThread, queue.Queue[object]]:
    """A started thread, and the queue that gets what it reports: the opening, then the batches."""
    reports: queue.Queue[object] = queue.Queue()
    thread = CommitThread(connect, reports.put, reports.put, NAME)
    thread.start()
    return thread, reports


def in_memory() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.execute("CREATE TABLE t (n INTEGER PRIMARY KEY) STRICT")
    return connection


def test_what_is_queued_together_shares_bounded_batches_in_order() -> None:
    """600 jobs, whether they come at once or one by one, are at most 256 to a commit."""
    thread, reports = threaded(in_memory)
    jobs = [insert(number) for number in range(600)]
    thread.enqueue(jobs[:599])
    thread.enqueue(jobs[599:])
    thread.stop()
    thread.join()
    opened, *batches = [reports.get_nowait() for _ in range(reports.qsize())]

    assert opened is None
    assert all(isinstance(batch, list) and 0 < len(batch) <= MAX_BATCH for batch in batches)
    assert [each for batch in batches if isinstance(batch, list) for each in batch] == jobs
    assert len(batches) in (3, 4)
    assert all(each.error is None for each in jobs)


def test_a_thread_that_cannot_open_reports_it_and_ends() -> None:
    """Whoever waits for the opening gets the exception itself."""
    error = StorageError("damaged")

    def refuse() -> sqlite3.Connection:
        raise error

    thread, reports = threaded(refuse)
    thread.join()

    assert reports.get_nowait() is error


def test_stopping_an_idle_thread_ends_it() -> None:
    """No job ever came."""
    thread, reports = threaded(in_memory)
    thread.stop()
    thread.join()

    assert reports.get_nowait() is None
    assert reports.empty()


def _cause(code: int) -> StorageError:
    """What a caller gets of an error of SQLite with that code."""
    error = sqlite3.OperationalError("as the disk wants it")
    error.sqlite_errorcode = code
    return refusal(error, "x.db")


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (_cause(sqlite3.SQLITE_FULL), True),
        (_cause(sqlite3.SQLITE_IOERR_WRITE), True),
        (_cause(sqlite3.SQLITE_READONLY), True),
        (_cause(sqlite3.SQLITE_CORRUPT), False),
        (_cause(sqlite3.SQLITE_NOTADB), False),
        (StorageError("a newer schema"), False),
    ],
)
def test_a_disk_that_refuses_may_be_back_and_one_that_holds_rubbish_is_not(
    error: StorageError, passes: bool
) -> None:
    """Who waits for the first would wait for the second without end."""
    wrapped = StorageError("where it happened")
    wrapped.__cause__ = error

    assert (may_pass(error), may_pass(wrapped)) == (passes, passes)


@pytest.mark.parametrize(
    ("number", "passes"), [(errno.ENOSPC, True), (errno.EROFS, True), (errno.ENOENT, False)]
)
def test_the_same_holds_for_the_file_system(number: int, passes: bool) -> None:
    """Where a file cannot be made at all."""
    error = StorageError("cannot be created")
    error.__cause__ = OSError(number, "as it wants it")

    assert may_pass(error) is passes

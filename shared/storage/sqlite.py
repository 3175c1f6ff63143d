"""The only place that opens a database: how it is opened, migrated, written and read.

Law: stands alone; knows no message, patient or key. Every database is opened with the same durable settings,
which are read back, because a promise that rests on `synchronous=FULL` is worth nothing if the setting did
not take. Writes go through the one `Writer`; reads take a connection from `open_reader`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from shared.errors import LocalError, StorageError
from shared.storage import cells, checksums, schema, wal
from shared.storage.group_commit import CommitThread, Job, advice
from shared.storage.keyfile import require_private_file, sync_directory
from shared.storage.taking_turns import one_at_a_time

T = TypeVar("T")

_BUSY_TIMEOUT_S = 5.0
# name, value to set, value read back
_DURABLE = (
    ("journal_mode", "WAL", "wal"),
    ("synchronous", "FULL", 2),
    ("secure_delete", "ON", 1),
    ("foreign_keys", "ON", 1),
)


def open_database(path: Path, migrations: Sequence[str]) -> sqlite3.Connection:
    """Open or create the database for writing, check it, and bring it to the newest schema.

    WAL with synchronous=FULL: what is committed survives a kill and a power loss. The connection has no
    implicit transactions (`isolation_level=None`).

    Args:
        path: the file; created with mode 0600. Its directory must exist.
        migrations: `migrations[i]` is the SQL script that brings schema version i to i + 1; only ever
            appended to. Each runs in one transaction. Before the first one the existing database is copied to
            `<name>.before-v<N>`, N being the version to come.

    Raises:
        UserError: the file's mode, owner or kind is refused; says what to run.
        StorageError: it cannot be created or opened, is damaged, has a newer schema, or a migration failed
            (the schema is then that of the last migration that succeeded).
    """
    with one_at_a_time(path):
        _create_private(path)
        require_private_file(path)
        with _naming(path):
            wal.require_whole(path)  # before SQLite forgets what is behind a damage in it
            return _open_for_writing(path, migrations)


def _open_for_writing(path: Path, migrations: Sequence[str]) -> sqlite3.Connection:
    connection = _connect(path)
    try:
        _check(connection)
        _set_durable(connection)
        pending = schema.pending(connection, migrations)
        if pending and schema.has_tables(connection):
            _copy(connection, path.with_name(f"{path.name}.before-v{len(migrations)}"))
        schema.migrate(connection, migrations, pending)
        checksums.verify(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that reads what is committed, beside the writer, and refuses every write.

    The caller closes it, and uses it on the thread that opened it.

    Raises:
        UserError: the file's mode, owner or kind is refused.
        StorageError: it does not exist or cannot be opened.
    """
    require_private_file(path)
    with one_at_a_time(path), _naming(path):
        connection = _connect(path)
        try:
            connection.execute("PRAGMA query_only=ON")
            connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()  # is it a database at all?
        except sqlite3.Error:
            connection.close()
            raise
    return connection


def back_up(path: Path, target: Path) -> None:
    """Copy what is committed now into a new file, beside whoever reads and writes, whole, checked and synced.

    The copy is one file that needs no log beside it. Blocks: call it from a thread of its own.

    Raises:
        StorageError: `target` exists, the disk refused, or the copy does not pass SQLite's own check; then there is no copy.
    """
    with contextlib.closing(open_reader(path)) as connection, _naming(target):
        _create_new(target)
        try:
            _copy_into(connection, target, check=True)
        except BaseException:
            target.unlink(missing_ok=True)  # a full disk must not stay full because of us
            raise


def checkpoint(path: Path) -> bool:
    """Move the log into the database file and empty it, so that erased rows leave the disk.

    May wait for readers and the writer: call it from a thread of its own. False: a reader held it back.

    Raises:
        StorageError: the disk refused.
    """
    with _naming(path), contextlib.closing(_connect(path)) as connection:
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy


class Writer:
    """The one writer of a database, for an asyncio program: many callers, one thread, shared commits.

    `async with Writer(path, migrations) as writer: await writer.submit(job)`. All methods belong to the event
    loop's thread; jobs run on the writer's.

    Args:
        path, migrations: as of `open_database`.
        committed: called on the writer's thread after each commit, before anybody is told of it; see `CommitThread`.
    """

    def __init__(
        self,
        path: Path,
        migrations: Sequence[str],
        committed: Callable[[sqlite3.Connection], None] | None = None,
    ) -> None:
        self._path = path
        self._migrations = migrations
        self._committed = committed
        self._waiting: list[Job[object]] = []
        self._thread: CommitThread | None = None

    async def start(self) -> None:
        """Open the database; raises what `open_database` raises."""
        self._loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = self._loop.create_future()

        def report(error: BaseException | None) -> None:
            self._on_loop(partial(_resolve, opened, None, error))

        thread = CommitThread(
            partial(open_database, self._path, self._migrations),
            report,
            self._deliver,
            str(self._path),
            self._committed,
        )
        thread.start()
        self._thread = thread
        try:
            await opened
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Settle everything submitted, then close the connection. May be called twice."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._flush_to(thread)
        thread.stop()
        await asyncio.to_thread(thread.join)

    async def __aenter__(self) -> Writer:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def submit(
        self, work: Callable[[sqlite3.Connection], T], on_commit: Callable[[T], None] | None = None
    ) -> T:
        """Run `work` in a transaction and return its result once that is on the disk.

        A caller that is cancelled while it waits gets no answer, but the job is still committed and
        `on_commit` runs.

        Args:
            work: runs on the writer's thread, in a savepoint of its own; see `group_commit.Job` for what it
                may do.
            on_commit: called on the loop with the result, in commit order over all jobs, before any caller
                that committed later gets its answer. An error it raises goes to the loop's exception handler:
                the job is durable all the same.

        Raises:
            StorageError: nothing was stored (disk full, read-only, I/O error).
            LocalError: the writer is not open.
            Whatever `work` raised; then its own changes alone are rolled back.
        """
        return await self.submit_nowait(work, on_commit)

    def submit_nowait(
        self, work: Callable[[sqlite3.Connection], T], on_commit: Callable[[T], None] | None = None
    ) -> asyncio.Future[T]:
        """As `submit`, without waiting: jobs are committed in the order of these calls."""
        if self._thread is None:
            raise LocalError(f"the writer of {self._path} is not open")
        future: asyncio.Future[T] = self._loop.create_future()
        self._waiting.append(Job(work, partial(_settle, self._loop, future, on_commit)))
        if len(self._waiting) == 1:
            # One turn of the loop later: callers woken by the same commit then share the next one.
            self._loop.call_soon(self._flush_to, self._thread)
        return future

    def _flush_to(self, thread: CommitThread) -> None:
        if self._waiting:
            thread.enqueue(self._waiting)
            self._waiting = []

    def _deliver(self, jobs: Sequence[Job[object]]) -> None:
        # One call for the whole batch: nothing else of the loop runs between two jobs' results.
        self._on_loop(partial(_settle_all, jobs))

    def _on_loop(self, call: Callable[[], None]) -> None:
        # A closed loop has nobody left to tell. What was committed stays so.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call)


def _settle_all(jobs: Sequence[Job[object]]) -> None:
    for job in jobs:
        job.settle(job)


def _settle(
    loop: asyncio.AbstractEventLoop,
    future: asyncio.Future[T],
    on_commit: Callable[[T], None] | None,
    job: Job[T],
) -> None:
    if job.error is None and on_commit is not None:
        try:
            on_commit(job.value)  # type: ignore[arg-type]  # without an error, value is what work returned
        except Exception as error:  # reported, not lost: the jobs behind this one must still be settled
            loop.call_exception_handler(
                {"message": "on_commit of a committed job failed", "exception": error}
            )
    _resolve(future, job.value, job.error)


def _resolve(future: asyncio.Future[T], value: T | None, error: BaseException | None) -> None:
    if future.done():  # its caller was cancelled
        return
    if error is None:
        future.set_result(value)  # type: ignore[arg-type]  # as above
    else:
        future.set_exception(error)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn errors of the database and the file system into a StorageError that names the file."""
    try:
        yield
    except UnicodeDecodeError as error:  # SQLite quotes a damaged name in its message
        raise StorageError(f"{path}: the database is damaged; restore it from a backup") from error
    except (sqlite3.Error, OSError, StorageError) as error:
        raise StorageError(f"{path}: {error}{advice(error)}") from error


def _create_private(path: Path) -> None:
    """Create the empty file ourselves: SQLite would use the umask; it copies this mode to its log files."""
    try:
        _create_new(path)
    except FileExistsError:
        return
    except OSError as error:
        raise StorageError(f"{path} cannot be created: {error.strerror}") from error


def _create_new(path: Path) -> None:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    sync_directory(path.parent)


def _connect(path: Path) -> sqlite3.Connection:
    # mode=rw: a file that vanished meanwhile is an error, not a new empty database.
    uri = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
    connection.text_factory = cells.text
    checksums.install(connection)
    return connection


def _check(connection: sqlite3.Connection) -> None:
    found = [row[0] for row in connection.execute("PRAGMA integrity_check(1)")]
    if found != ["ok"]:
        raise StorageError(
            f"the database is damaged ({' '.join(found[0].split())}); restore it from a backup"
        )


def _set_durable(connection: sqlite3.Connection) -> None:
    for name, value, expected in _DURABLE:
        connection.execute(f"PRAGMA {name}={value}")
        (found,) = connection.execute(f"PRAGMA {name}").fetchone()
        if found != expected:
            raise StorageError(
                f"{name} stays {found!r} instead of {value}; use a local file system that supports it"
            )


def _copy(connection: sqlite3.Connection, target: Path) -> None:
    """Copy the open database, whole or not at all: under another name first, synced, then renamed."""
    unfinished = target.with_name(f"{target.name}.partial")
    unfinished.unlink(missing_ok=True)
    _create_private(unfinished)
    try:
        _copy_into(connection, unfinished)
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)  # a full disk must not stay full because of us
    sync_directory(target.parent)


def _copy_into(connection: sqlite3.Connection, empty: Path, check: bool = False) -> None:
    with contextlib.closing(_connect(empty)) as copy:
        connection.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")  # one file, readable without its log
        if check:
            _check(copy)
    with empty.open("rb") as file:
        os.fsync(file.fileno())

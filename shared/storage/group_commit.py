"""One thread, one connection, one transaction for many jobs.

Law: the only place that begins and ends write transactions. No asyncio here: jobs come in through a queue,
settled batches go out through a function that the owner gives. An fsync costs the same for one row as for two
hundred, so what is queued while one commit is under way shares the next.
"""

from __future__ import annotations

import contextlib
import errno
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from shared.durations import Durations
from shared.errors import StorageError

T = TypeVar("T")

MAX_BATCH = 256
"""Jobs in one transaction at most: bounds how long the first of them waits for its answer."""
COMMIT_BOUNDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)  # seconds

_ADVICE = {
    sqlite3.SQLITE_FULL: "; free some space on that volume and try again",
    sqlite3.SQLITE_READONLY: "; make the file and its volume writable and try again",
    sqlite3.SQLITE_BUSY: "; another program holds the database, end it and try again",
    sqlite3.SQLITE_IOERR: "; the disk refuses: look at what the system's log says of it, and try again",
    sqlite3.SQLITE_CANTOPEN: "; see that its directory is there and writable, and try again",
    sqlite3.SQLITE_CORRUPT: "; it is damaged, restore it from a backup",
    sqlite3.SQLITE_NOTADB: "; it is damaged, restore it from a backup",
}
_MAY_PASS = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_NOMEM,
    }
)
_FAULTS_OF_THE_DISK = _ADVICE.keys() | {
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_PROTOCOL,
}


# repr=False: asyncio's debug log prints what is slow, and a job's value may be a body or a key.
@dataclass(slots=True, eq=False, repr=False)
class Job(Generic[T]):
    """A piece of work for the writer, and afterwards what became of it.

    `work` reads and writes through the connection; it never begins, commits or rolls back, and keeps nothing
    outside the database (a failed batch takes back whatever was decided in it, numbers too). `settle` is
    called by the owner's `deliver`, with `value` or `error` set.
    """

    work: Callable[[sqlite3.Connection], T]
    settle: Callable[[Job[T]], None]
    value: T | None = None
    error: BaseException | None = None


class CommitThread(threading.Thread):
    """Opens the connection, commits batches in the order of arrival, closes the connection.

    Args:
        connect: opens the database; called on this thread, which alone uses the connection.
        opened: called once with None, or with what `connect` raised (the thread then ends).
        deliver: called once for each batch, after its commit or its failure; the jobs are in commit order.
        name: the database as an error message names it.
        committed: called after each commit and before anybody is told of it, for what must be written elsewhere by then. It
            must not raise: what is committed stands.

    Attributes:
        commits: how long each transaction took, from its beginning until it was on the disk.
    """

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        opened: Callable[[BaseException | None], None],
        deliver: Callable[[Sequence[Job[object]]], None],
        name: str,
        committed: Callable[[sqlite3.Connection], None] | None = None,
    ) -> None:
        # A daemon: a program that forgot to close must still be able to exit. Nothing committed depends on
        # the exit.
        super().__init__(name=f"writer of {name}", daemon=True)
        self._connect = connect
        self._opened = opened
        self._deliver = deliver
        self._database = name
        self._committed = committed
        self.commits = Durations(COMMIT_BOUNDS)
        self._queue: queue.SimpleQueue[Sequence[Job[object]]] = queue.SimpleQueue()

    def enqueue(self, jobs: Sequence[Job[object]]) -> None:
        """Queue jobs (at least one), from any thread."""
        self._queue.put(jobs)

    def stop(self) -> None:
        """End after everything queued before is settled; the caller queues nothing after it."""
        self._queue.put(())

    def run(self) -> None:
        """The thread's body."""
        try:
            connection = self._connect()
        except BaseException as error:  # reaches whoever waits for the opening
            self._opened(error)
            return
        with contextlib.closing(connection):
            self._opened(None)
            for batch in self._batches():
                began = time.monotonic_ns()
                commit_batch(connection, batch, self._database)
                self.commits.note((time.monotonic_ns() - began) / 1e9)
                if self._committed is not None and any(job.error is None for job in batch):
                    self._committed(connection)
                self._deliver(batch)
                del batch  # an idle writer holds nobody's keys or connections

    def _batches(self) -> Iterator[Sequence[Job[object]]]:
        backlog: deque[Job[object]] = deque()
        stopping = False
        while not stopping or backlog:
            # Waits only when there is nothing to do; otherwise takes what has come in meanwhile.
            while not (backlog or stopping) or not self._queue.empty():
                jobs = self._queue.get()
                stopping = not jobs
                backlog.extend(jobs)
                del jobs
            if backlog:
                yield [backlog.popleft() for _ in range(min(len(backlog), MAX_BATCH))]


def commit_batch(connection: sqlite3.Connection, jobs: Sequence[Job[object]], name: str) -> None:
    """Run the jobs in one transaction, each in a savepoint of its own, and set `value` or `error` of each.

    A job that raises is rolled back alone. If the transaction cannot begin or commit, every job gets a
    StorageError,
    also one that had failed by itself: it may have been refused because of what an earlier job of this batch
    wrote, and that is gone now.

    A commit whose fsync failed is "not accepted" here, and the next commit overwrites its pages in the log;
    only a crash in between can bring it back. A request that is retried must therefore carry an idempotency
    key.
    """
    try:
        if connection.in_transaction:  # the last batch could not even be rolled back
            connection.execute("ROLLBACK")
        connection.execute("BEGIN IMMEDIATE")
        for job in jobs:
            _run_in_savepoint(connection, job, name)
        connection.execute("COMMIT")
    except BaseException as error:  # raised again at each caller
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        for job in jobs:
            job.error = refusal(error, name)


def _run_in_savepoint(connection: sqlite3.Connection, job: Job[object], name: str) -> None:
    connection.execute("SAVEPOINT job")
    try:
        job.value = job.work(connection)
    except BaseException as error:  # raised again at the job's caller
        if not connection.in_transaction:  # SQLite itself gave up the whole transaction (disk, memory)
            raise
        connection.execute("ROLLBACK TO job")
        job.error = _as_raised_by(error, name)
    connection.execute("RELEASE job")


def _as_raised_by(error: BaseException, name: str) -> BaseException:
    if isinstance(error, sqlite3.Error) and _primary_code(error) in _FAULTS_OF_THE_DISK:
        return refusal(error, name)
    if isinstance(error, StopIteration):  # a future cannot carry it
        wrapped = RuntimeError("a job raised StopIteration")
        wrapped.__cause__ = error
        return wrapped
    return error


def refusal(error: BaseException, name: str) -> StorageError:
    """A new StorageError, caused by `error`, that says what was not accepted, why and what to do."""
    refused = StorageError(f"not accepted: {name}: {error}{advice(error)}")
    refused.__cause__ = error
    return refused


def advice(error: BaseException) -> str:
    """What to do about it, to be put behind the error's own words; empty where there is nothing to say."""
    return _ADVICE.get(_primary_code(error), "")


def may_pass(error: BaseException | None) -> bool:
    """Whether what made a StorageError may be over later by itself: a disk that refuses, not one that holds something wrong."""
    while error is not None:
        if isinstance(error, OSError):
            return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
        if _primary_code(error) in _MAY_PASS:
            return True
        error = error.__cause__
    return False


def _primary_code(error: BaseException) -> int:
    # https://www.sqlite.org/rescode.html: the low byte of an extended result code is the primary one.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF

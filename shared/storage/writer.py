"""The one writer of a database, for an asyncio program.

Law: whoever is told that a job is done can rely on it: it is on the disk. Results reach the loop in commit order, and nothing of the loop
runs between those of one commit.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from sqlite3 import Connection
from types import TracebackType
from typing import TypeVar

from shared.durations import Durations
from shared.errors import LocalError
from shared.storage import sqlite
from shared.storage.group_commit import COMMIT_BOUNDS, CommitThread, Job

T = TypeVar("T")


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
        committed: Callable[[Connection], None] | None = None,
    ) -> None:
        self._path = path
        self._migrations = migrations
        self._committed = committed
        self._waiting: list[Job[object]] = []
        self._thread: CommitThread | None = None
        self._submitted = 0
        self._settled = 0  # counted by the writer's thread alone
        self.commits = Durations(COMMIT_BOUNDS)

    @property
    def pending(self) -> int:
        """How many jobs wait for their commit."""
        return self._submitted - self._settled

    async def start(self) -> None:
        """Open the database; raises what `open_database` raises."""
        self._loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = self._loop.create_future()

        def report(error: BaseException | None) -> None:
            self._on_loop(partial(_resolve, opened, None, error))

        thread = CommitThread(
            partial(sqlite.open_database, self._path, self._migrations),
            report,
            self._deliver,
            str(self._path),
            self._committed,
        )
        self.commits = thread.commits
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
        self, work: Callable[[Connection], T], on_commit: Callable[[T], None] | None = None
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
        self, work: Callable[[Connection], T], on_commit: Callable[[T], None] | None = None
    ) -> asyncio.Future[T]:
        """As `submit`, without waiting: jobs are committed in the order of these calls."""
        if self._thread is None:
            raise LocalError(f"the writer of {self._path} is not open")
        future: asyncio.Future[T] = self._loop.create_future()
        self._submitted += 1
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
        self._settled += len(jobs)
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

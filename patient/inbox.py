"""The messages this device has received, each exactly once, and how far it has come in every stream.

Law: the only place that writes the inbox. A message and the position behind it are one transaction; a number that is
stored already is ignored; `on_applied` is called after the commit and never before, so whatever it acknowledges is on
the disk. Bodies rest sealed under the device's storage key.

A job that fails must not be skipped by the ones behind it: a later number would hide the missing one for good. So each
job names the position it builds on and refuses to run from another. After a failure the program drops its connections and
calls `reload`, and the doctor sends again what is missing.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType

from patient.stored import StoredMessage, cell_of, stream_of
from shared.errors import StorageError
from shared.logs import get_logger
from shared.protocol.envelopes import Positions
from shared.protocol.events import MessageReceived
from shared.storage.sealed import Sealer
from shared.storage.writer import Writer
from shared.wire.messages import Position, Stream

_log = get_logger("inbox")

_MIGRATIONS = (
    """
    -- Every row bears a checksum (shared.storage.checksums).
    CREATE TABLE messages (
        kind INTEGER NOT NULL,
        name TEXT NOT NULL,
        number INTEGER NOT NULL,
        created INTEGER NOT NULL,
        received INTEGER NOT NULL,
        direct INTEGER NOT NULL,
        body BLOB, -- sealed; NULL: it had expired when it came
        checksum BLOB GENERATED ALWAYS AS (row_checksum(kind, name, number, created, received, direct, body)) STORED,
        PRIMARY KEY (kind, name, number)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE positions (
        kind INTEGER NOT NULL,
        name TEXT NOT NULL,
        last INTEGER NOT NULL,
        receipted INTEGER NOT NULL DEFAULT 0, -- up to here the doctor knows what had expired
        checksum BLOB GENERATED ALWAYS AS (row_checksum(kind, name, last, receipted)) STORED,
        PRIMARY KEY (kind, name)
    ) STRICT, WITHOUT ROWID;
    """,
    """
    CREATE TABLE heard (
        kind INTEGER NOT NULL,
        name TEXT NOT NULL,
        last INTEGER NOT NULL, -- the doctor has read our receipts up to here
        checksum BLOB GENERATED ALWAYS AS (row_checksum(kind, name, last)) STORED,
        PRIMARY KEY (kind, name)
    ) STRICT, WITHOUT ROWID;
    """,
)


class Inbox:
    """The inbox of a running device; `async with` opens and closes it.

    Args:
        path: the database.
        sealer: seals bodies under the device's storage key.
        on_applied: called on the loop, in order, for each message that has just been stored for the first time.
        on_failed: called on the loop for each job that was not stored.
    """

    def __init__(
        self,
        path: Path,
        sealer: Sealer,
        on_applied: Callable[[StoredMessage], None],
        on_failed: Callable[[BaseException], None],
    ) -> None:
        self._path = path
        self._writer = Writer(path, _MIGRATIONS)
        self._sealer = sealer
        self._on_applied = on_applied
        self._on_failed = on_failed
        self._committed: dict[Stream, int] = {}
        self._submitted: dict[Stream, int] = {}
        self._expired: dict[Stream, list[int]] = {}  # behind `receipted`
        self._failed = False

    async def __aenter__(self) -> Inbox:
        await self._writer.start()
        try:
            await self.reload()
        except BaseException:
            await self._writer.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._writer.close()

    async def reload(self) -> None:
        """Wait for all jobs, then start again from what the disk holds; only while no connection is open. Raises StorageError."""
        try:
            self._committed, self._expired = await self._writer.submit(_read_positions)
        except sqlite3.Error as error:
            raise StorageError(f"{self._path} is no inbox: {error}") from error
        self._submitted = dict(self._committed)
        self._failed = False

    async def settle(self) -> None:
        """Wait until all jobs so far are committed or have failed. Raises StorageError."""
        await self._writer.submit(lambda _: None)

    @property
    def failed(self) -> bool:
        """Whether a job was not stored since the last `reload`: until then no connection may read into this inbox."""
        return self._failed

    def positions(self) -> Positions:
        """The committed positions, for a new connection."""
        return Positions(self._committed)

    def position(self, stream: Stream) -> int:
        """The committed position in one stream."""
        return self._committed.get(stream, 0)

    def expired(self) -> dict[Stream, list[int]]:
        """Every stream, with the numbers in it that were not shown, as far as the doctor may not know of them."""
        return {stream: list(self._expired.get(stream, ())) for stream in self._committed}

    def note_receipted(self, positions: Sequence[Position]) -> None:
        """The doctor has these positions, and the expired numbers up to them.

        Where that cannot be stored it is told once more after the next start, which costs a few bytes.
        """
        rows = []
        for position in positions:
            numbers = self._expired.get(position.stream, [])
            behind = [number for number in numbers if number > position.last]
            if len(behind) < len(numbers):
                self._expired[position.stream] = behind
                rows.append((position.last, int(position.stream.kind), position.stream.name))
        if rows:
            self._writer.submit_nowait(partial(_write_receipted, rows=rows)).add_done_callback(_note_failure)

    def note_heard(self, last: Mapping[Stream, int]) -> None:
        """The doctor has read this device's receipts up to these numbers.

        For people alone: nothing that is sent depends on it. Where it cannot be stored, the next receipt's tells it.
        """
        rows = [(int(stream.kind), stream.name, number) for stream, number in last.items() if number]
        if rows:
            self._writer.submit_nowait(partial(_write_heard, rows=rows)).add_done_callback(_note_failure)

    def begin(self, stream: Stream, start: int) -> None:
        """Note where the doctor says that this device's part of a stream starts."""
        base = self._submitted.get(stream, 0)
        if start > base:
            self._submit(stream, base, start, None)

    def store(self, event: MessageReceived, now: int) -> None:
        """Store a message; one that is stored or about to be is ignored. `now`: milliseconds since the Unix epoch."""
        envelope = event.envelope
        base = self._submitted.get(envelope.stream, 0)
        if envelope.number > base:
            message = StoredMessage(
                envelope.stream, envelope.number, envelope.created, now, event.direct, event.body
            )
            self._submit(envelope.stream, base, envelope.number, message)

    def _submit(self, stream: Stream, base: int, position: int, message: StoredMessage | None) -> None:
        sealed = None
        if message is not None and message.body is not None:
            sealed = self._sealer.seal("messages", "body", cell_of(stream, position), message.body)

        def work(connection: sqlite3.Connection) -> None:
            _advance(connection, stream, base, position)
            if message is not None:
                _insert(connection, message, sealed)

        def committed(_: None) -> None:
            self._committed[stream] = position
            if message is not None and message.body is None:
                self._expired.setdefault(stream, []).append(message.number)
            if message is not None:
                self._on_applied(message)

        self._submitted[stream] = position
        self._writer.submit_nowait(work, committed).add_done_callback(self._settled)

    def _settled(self, job: asyncio.Future[None]) -> None:
        error = job.exception()
        if error is not None:
            self._failed = True
            self._on_failed(error)


def _read_positions(connection: sqlite3.Connection) -> tuple[dict[Stream, int], dict[Stream, list[int]]]:
    """The last number of each stream, and the expired numbers behind what is receipted."""
    rows = connection.execute("SELECT kind, name, last FROM positions").fetchall()
    expired: dict[Stream, list[int]] = {}
    for kind, name, number in connection.execute(
        "SELECT kind, name, number FROM positions JOIN messages USING (kind, name)"
        " WHERE number > receipted AND body IS NULL ORDER BY number"
    ):
        expired.setdefault(stream_of(kind, name), []).append(number)
    return {stream_of(kind, name): last for kind, name, last in rows}, expired


def _write_receipted(connection: sqlite3.Connection, rows: list[tuple[int, int, str]]) -> None:
    connection.executemany(
        "UPDATE positions SET receipted = max(receipted, ?) WHERE kind = ? AND name = ?", rows
    )


def _write_heard(connection: sqlite3.Connection, rows: list[tuple[int, str, int]]) -> None:
    connection.executemany(
        "INSERT INTO heard (kind, name, last) VALUES (?, ?, ?)"
        " ON CONFLICT DO UPDATE SET last = max(last, excluded.last)",
        rows,
    )


def _note_failure(job: asyncio.Future[None]) -> None:
    error = job.exception()
    if error is not None:
        _log.warning("receipted positions not stored", cause=str(error))


def _advance(connection: sqlite3.Connection, stream: Stream, base: int, position: int) -> None:
    key = (int(stream.kind), stream.name)
    row = connection.execute("SELECT last FROM positions WHERE kind = ? AND name = ?", key).fetchone()
    found = row[0] if row else 0
    if found != base:
        # What this job builds on was not stored; see the module's docstring.
        raise StorageError(f"{stream}: {position} was not stored, since {base} before it was not")
    connection.execute(
        "INSERT INTO positions (kind, name, last) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET last = excluded.last",
        (*key, position),
    )


def _insert(connection: sqlite3.Connection, message: StoredMessage, sealed: bytes | None) -> None:
    connection.execute(
        "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            int(message.stream.kind),
            message.stream.name,
            message.number,
            message.created,
            message.received,
            int(message.direct),
            sealed,
        ),
    )

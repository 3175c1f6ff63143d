"""What this device has to report, each kept until the doctor says that it has it, and for a while after.

Law: the only place that writes the outbox. A report has its random id and its place from the moment that it is committed, and
only what is committed is ever sent: so it goes out under the same id however often this device is killed, and the id makes
every copy but the first harmless. Bodies rest sealed under the device's storage key.

Several programs may use one outbox: a command puts reports in while the device runs, which notices by SQLite's own counter
of commits.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import msgspec

from patient.exit_codes import ExitCode, Refusal
from shared.crypto.secret import Random
from shared.errors import StorageError, UserError
from shared.logs import get_logger
from shared.storage import checksums
from shared.storage.group_commit import advice
from shared.storage.schema import has_tables
from shared.storage.sealed import Sealer
from shared.storage.sqlite import open_reader
from shared.storage.writer import Writer
from shared.wire.messages import BODY_LIMIT, ReportKind

WAITING_LIMIT = (
    1000  # reports; times BODY_LIMIT it is what a device that is cut off for long may fill its disk with
)
KEPT_LIMIT = 1000  # reports that the doctor has, shown here for a while longer
ID_SIZE = 16

_log = get_logger("outbox")

_MIGRATIONS = (
    """
    CREATE TABLE reports (
        place INTEGER PRIMARY KEY, -- grows: the newest report is never erased, so no place is given twice
        report_id BLOB NOT NULL UNIQUE,
        kind INTEGER NOT NULL,
        created INTEGER NOT NULL,
        kept INTEGER, -- since when the doctor has it, by this device's clock; NULL: it waits
        body BLOB NOT NULL, -- sealed
        checksum BLOB GENERATED ALWAYS AS (row_checksum(place, report_id, kind, created, kept, body)) STORED
    ) STRICT;
    CREATE INDEX reports_waiting ON reports (place) WHERE kept IS NULL;
    """,
)

_ALL = "SELECT place, report_id, kind, created, kept, body FROM reports ORDER BY place"
_WAITING = "SELECT place, report_id, kind, created, kept, body FROM reports WHERE kept IS NULL AND place > ? ORDER BY place"


@dataclass(frozen=True, slots=True)
class WrittenReport:
    """One report of the outbox. Times are milliseconds since the Unix epoch by this device's clock.

    `kept` is when the doctor's receipt came; None while the report waits.
    """

    place: int
    report_id: bytes
    kind: ReportKind
    created: int
    kept: int | None
    body: bytes = field(repr=False)


class Outbox:
    """The outbox of a device, until `close`. A device that never reports has no file.

    Args:
        path: the database.
        sealer: seals bodies under the device's storage key.
        random: entropy for ids.
    """

    def __init__(self, path: Path, sealer: Sealer, random: Random) -> None:
        self._path = path
        self._sealer = sealer
        self._random = random
        self._writer: Writer | None = None
        self._opening = asyncio.Lock()
        self._reader: sqlite3.Connection | None = None
        self._commits: int | None = None

    async def close(self) -> None:
        """Settle what was written, and let go of the database."""
        self._close_reader()
        if self._writer is not None:
            await self._writer.close()

    async def write(self, kind: ReportKind, body: bytes, now: int) -> bytes:
        """Keep a report; when this returns it is on the disk. Returns its id.

        Args:
            now: milliseconds since the Unix epoch.

        Raises:
            UserError: it is no report that the doctor would take; a Refusal: too many wait already.
            StorageError: the disk refused.
        """
        _require_valid(kind, body)
        report_id = self._random(ID_SIZE)
        sealed = self._sealer.seal("reports", "body", _cell(report_id, kind, now), body)
        row = (report_id, int(kind), now, sealed)
        await (await self._open_writer()).submit(lambda connection: _insert(connection, row))
        return report_id

    async def note_kept(self, report_ids: Sequence[bytes], now: int) -> list[bytes]:
        """The doctor has these reports; returns the ids of those that had been waiting.

        Raises:
            StorageError: the disk refused; they wait still.
        """
        if not self._path.exists():
            return []
        return await (await self._open_writer()).submit(lambda connection: _mark(connection, report_ids, now))

    def changed(self) -> bool:
        """Whether something may have been committed since the last call, by whatever program; `waiting` finds out."""
        if self._reader is None:
            return self._path.exists()
        try:
            (commits,) = self._reader.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error:
            self._close_reader()
            return True
        changed: bool = commits != self._commits
        self._commits = commits
        return changed

    def waiting(self, behind: int, limit: int) -> list[WrittenReport]:
        """The first reports behind that place which the doctor may not have, in the order in which they were written.

        One that is damaged is left out and logged: it must not hold up the others.

        Raises:
            UserError, StorageError: the outbox cannot be read.
        """
        if not self._path.exists():
            return []
        try:
            if self._reader is None:
                self._reader = open_reader(self._path)
            if not has_tables(self._reader):
                return []  # another program is making it right now, or was killed while it did
            with contextlib.closing(self._reader.execute(_WAITING, (behind,))) as rows:
                return list(islice(self._readable(rows), limit))
        except sqlite3.Error as error:
            self._close_reader()  # the next call opens another, when the disk may be back
            raise StorageError(f"{self._path} cannot be read: {error}{advice(error)}") from error

    def _readable(self, rows: Iterable[_Row]) -> Iterator[WrittenReport]:
        for row in rows:
            try:
                yield _opened(row, self._sealer)
            except StorageError as error:
                _log.error("report not sent", number=row[0], cause=str(error))

    async def _open_writer(self) -> Writer:
        async with self._opening:
            if self._writer is None:
                writer = Writer(self._path, _MIGRATIONS)
                await writer.start()
                self._writer = writer
        return self._writer

    def _close_reader(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def read(path: Path, sealer: Sealer) -> list[WrittenReport]:
    """All reports of an outbox, in the order in which they were written, beside a program that may be writing it.

    Raises:
        StorageError: the database cannot be read, or a body does not open.
        UserError: its mode is refused.
    """
    if not path.exists():  # nothing was ever reported
        return []
    with contextlib.closing(open_reader(path)) as connection:
        try:
            checksums.verify(connection)
            rows = connection.execute(_ALL).fetchall() if has_tables(connection) else []
        except sqlite3.Error as error:
            raise StorageError(f"{path} cannot be read: {error}{advice(error)}") from error
    return [_opened(row, sealer) for row in rows]


def _insert(connection: sqlite3.Connection, row: tuple[bytes, int, int, bytes]) -> None:
    (waiting,) = connection.execute("SELECT count(*) FROM reports WHERE kept IS NULL").fetchone()
    if waiting >= WAITING_LIMIT:
        raise Refusal(
            ExitCode.STORAGE,
            f"The report was not kept: {waiting} wait already on this device, and more are not taken. "
            "Let it have a session with its doctor, and try again.",
        )
    connection.execute("INSERT INTO reports (report_id, kind, created, body) VALUES (?, ?, ?, ?)", row)


def _mark(connection: sqlite3.Connection, report_ids: Sequence[bytes], now: int) -> list[bytes]:
    marked = [
        report_id
        for report_id in report_ids
        if connection.execute(
            "UPDATE reports SET kept = ? WHERE report_id = ? AND kept IS NULL", (now, report_id)
        ).rowcount
    ]
    connection.execute(
        "DELETE FROM reports WHERE kept IS NOT NULL AND place <="
        " (SELECT place FROM reports WHERE kept IS NOT NULL ORDER BY place DESC LIMIT 1 OFFSET ?)",
        (KEPT_LIMIT,),
    )
    return marked


_Row = tuple[int, bytes, int, int, int | None, bytes]


def _opened(row: _Row, sealer: Sealer) -> WrittenReport:
    place, report_id, kind, created, kept, sealed = row
    body = sealer.open("reports", "body", _cell(report_id, kind, created), sealed)
    return WrittenReport(place, report_id, ReportKind(kind), created, kept, body)


def _cell(report_id: bytes, kind: int, created: int) -> bytes:
    """What the seal of a body vouches for: were one of these damaged, the doctor would end the session for the report."""
    return f"{report_id.hex()} {int(kind)} {created}".encode()


def _require_valid(kind: ReportKind, body: bytes) -> None:
    """Refuse what the doctor would end the session for, or could not show."""
    if not 1 <= len(body) <= BODY_LIMIT:
        raise UserError(
            f"The report has {len(body)} bytes; one has 1 to {BODY_LIMIT}. Send more in several reports."
        )
    try:
        if kind is ReportKind.VITALS:
            msgspec.json.decode(body)
        else:
            body.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        wanted = "JSON" if kind is ReportKind.VITALS else "UTF-8 text"
        raise UserError(
            f"A report of kind {kind.name.lower()} is {wanted}, and this is none: {error}"
        ) from error

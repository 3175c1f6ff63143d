"""Bodies do not rest on the disk for ever: when a message can be asked for no longer and its time is over, its body is erased.

Law: what is erased is the body alone. Envelope, signature and random bytes stay, since the chain of numbers goes on through them, and
so does what became of the message for whom. A message that has not expired keeps its body whatever its age: a device may
still lack it. Once it has expired it is final for every recipient, and who asks for it gets it without the body in any case.
Reports have no age limit unless the operator has set one; they go as a whole, as those do that a person orders to be forgotten.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path

from doctor import alerts, audit
from doctor.audit import Action
from shared.logs import get_logger
from shared.storage.sqlite import checkpoint
from shared.storage.writer import Writer
from shared.wire.messages import ReportKind

_log = get_logger("retention")

BATCH = 1000  # bodies in one transaction: orders wait for no more


class Retention:
    """Erases what is old enough.

    Args:
        writer: the database's writer. It overwrites what it erases (`secure_delete`).
        path: the database.
        keep: how long a body stays after its message was accepted, in milliseconds.
        keep_reports: how long a report stays after it was received, in milliseconds; 0: for good.
        keep_vitals: the same for those that are vitals.
    """

    def __init__(
        self, writer: Writer, path: Path, keep: int, keep_reports: int = 0, keep_vitals: int = 0
    ) -> None:
        self._writer = writer
        self._path = path
        self._keep = keep
        self._keep_reports = keep_reports
        self._keep_vitals = keep_vitals
        self._in_log = False  # SQLite's log may still hold what was erased

    async def apply(self, now: int) -> int:
        """Erase, and then empty SQLite's log, which holds the pages as they were; returns how many bodies and reports were erased.

        Where a reader holds the log back, it is emptied with a later call.

        Raises:
            StorageError: the disk refused; what was not erased is erased with a later call.
        """
        erased = await self._in_batches(lambda db: erase_bodies(db, now - self._keep, now))
        erased += await self._erase_reports(tuple(ReportKind), self._keep_reports, now)
        erased += await self._erase_reports((ReportKind.VITALS,), self._keep_vitals, now)
        if self._in_log:
            self._in_log = not await asyncio.to_thread(checkpoint, self._path)
            _log.info("bodies erased", count=erased, pending=int(self._in_log))
        return erased

    async def _erase_reports(self, kinds: tuple[ReportKind, ...], keep: int, now: int) -> int:
        if not keep:
            return 0
        await self._writer.submit(lambda db: alerts.forget_seen(db, now - keep))
        return await self._in_batches(lambda db: erase_reports(db, kinds, now - keep, now))

    async def _in_batches(self, job: Callable[[sqlite3.Connection], int]) -> int:
        erased = 0
        while count := await self._writer.submit(job):
            erased += count
            self._in_log = True
        return erased


def erase_bodies(db: sqlite3.Connection, limit: int, now: int) -> int:
    """Erase up to `BATCH` bodies of messages accepted before `limit` that have expired by `now`, inside the caller's transaction."""
    count = db.execute(
        "UPDATE messages SET body = NULL WHERE (stream, number) IN (SELECT stream, number FROM messages"
        " WHERE body IS NOT NULL AND created < ? AND expires < ? ORDER BY created LIMIT ?)",
        (limit, now, BATCH),
    ).rowcount
    if count:
        audit.append(db, now, "gateway", Action.BODIES_ERASED, "messages", f"{count} accepted before {limit}")
    return count


def erase_reports(db: sqlite3.Connection, kinds: tuple[ReportKind, ...], limit: int, now: int) -> int:
    """Erase up to `BATCH` reports of each of these kinds received before `limit`, inside the caller's transaction."""
    # From each patient to its oldest reports of a kind: there is an index for that, and none that all the reports share.
    count = sum(
        db.execute(
            "DELETE FROM reports WHERE (patient_id, report_id) IN (SELECT reports.patient_id, report_id FROM patients"
            " CROSS JOIN reports ON reports.patient_id = patients.patient_id AND kind = ? AND received < ? LIMIT ?)",
            (int(kind), limit, BATCH),
        ).rowcount
        for kind in kinds
    )
    if count:
        audit.append(
            db, now, "gateway", Action.REPORTS_FORGOTTEN, "reports", f"{count} received before {limit}"
        )
    return count

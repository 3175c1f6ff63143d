"""What patients report: kept sealed, each exactly once, acknowledged when it is on the disk and not before.

A device sends a report again, under the same id, until it has heard that it is kept; the id makes the second copy
harmless. Reports of one session that come in while a commit is under way share the next one.

Of each patient so many are kept. A full quota refuses what is new and erases nothing by itself: what was acknowledged is the
doctor's alone to erase, by order or by an age that is set. The device keeps what was refused.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from doctor import alerts, audit
from doctor.alerts import Alerts
from doctor.audit import Action
from shared import vitals
from shared.storage import cells
from shared.storage.sealed import Sealer
from shared.vitals import Vitals
from shared.wire.messages import Report, ReportKind


@dataclass(frozen=True, slots=True)
class StoredReport:
    """One report. Times in milliseconds since the Unix epoch: by the device's clock, and by ours."""

    patient_id: str
    report_id: bytes
    kind: ReportKind
    created: int
    received: int
    body: bytes

    @property
    def time(self) -> int:
        """What it tells of: the device's time, as far as that can be; nothing is reported before it was."""
        return min(self.created, self.received)

    @property
    def vitals(self) -> Vitals | None:
        """What was measured; None: it is of another kind, or not understood."""
        return vitals.decode(self.body) if self.kind is ReportKind.VITALS else None


@dataclass(frozen=True, slots=True)
class Times:
    """From `start` to before `end`, in milliseconds since the Unix epoch."""

    start: int = 0
    end: int = 2**63 - 1


class Reports:
    """Keeps reports and gives them back; `alerts` watches over those that are vitals.

    Args:
        sealer: seals bodies at rest.
        quota: how many are kept of one patient.
    """

    def __init__(self, sealer: Sealer, quota: int) -> None:
        self._sealer = sealer
        self._quota = quota
        self.alerts = Alerts(sealer)

    def store(self, db: sqlite3.Connection, patient_id: str, report: Report, now: int) -> bool:
        """Keep a report, inside the caller's transaction; one that is known stays as it is. False: the quota is full."""
        known = db.execute(
            "SELECT 1 FROM reports WHERE patient_id = ? AND report_id = ?", (patient_id, report.report_id)
        ).fetchone()
        if known:
            return True
        kept = db.execute("SELECT count(*) FROM reports WHERE patient_id = ?", (patient_id,)).fetchone()[0]
        if kept >= self._quota:
            return False
        sealed = self._sealer.seal("reports", "body", _row(patient_id, report.report_id), report.body)
        db.execute(
            "INSERT INTO reports VALUES (?, ?, ?, ?, ?, ?)",
            (patient_id, report.report_id, int(report.kind), report.created, now, sealed),
        )
        audit.append(db, now, "gateway", Action.REPORT_KEPT, patient_id, f"report {report.report_id.hex()}")
        measured = vitals.decode(report.body) if report.kind is ReportKind.VITALS else None
        if measured is not None:
            self.alerts.watch(db, patient_id, measured, now)
        return True

    def of_patient(self, db: sqlite3.Connection, patient_id: str, limit: int) -> list[StoredReport]:
        """The newest reports of a patient, newest first.

        Raises:
            StorageError: a body does not open, or its kind is none.
        """
        rows = db.execute(
            "SELECT patient_id, report_id, kind, created, received, body FROM reports"
            " WHERE patient_id = ? ORDER BY received DESC, report_id LIMIT ?",
            (patient_id, limit),
        )
        return [self._open(*row) for row in rows]

    def of_kind(
        self, db: sqlite3.Connection, patient_id: str, kind: ReportKind, limit: int
    ) -> list[StoredReport]:
        """The newest reports of one kind of a patient, by their arrival, newest first; raises as `of_patient`."""
        rows = db.execute(
            "SELECT patient_id, report_id, kind, created, received, body FROM reports"
            " WHERE patient_id = ? AND kind = ? ORDER BY received DESC, report_id LIMIT ?",
            (patient_id, int(kind), limit),
        )
        return [self._open(*row) for row in rows]

    def within(
        self, db: sqlite3.Connection, patient_id: str, kind: ReportKind, times: Times, limit: int
    ) -> list[StoredReport]:
        """The newest reports of one kind that tell of that time, newest first; raises as `of_patient`."""
        rows = db.execute(
            "SELECT patient_id, report_id, kind, created, received, body FROM reports"
            " WHERE patient_id = ? AND kind = ? AND min(created, received) >= ? AND min(created, received) < ?"
            " ORDER BY min(created, received) DESC, report_id LIMIT ?",
            (patient_id, int(kind), times.start, times.end, limit),
        )
        return [self._open(*row) for row in rows]

    def _open(
        self, patient_id: str, report_id: bytes, kind: int, created: int, received: int, sealed: bytes
    ) -> StoredReport:
        body = self._sealer.open("reports", "body", _row(patient_id, report_id), sealed)
        known = cells.member(ReportKind, kind, "reports", "kind", f"{patient_id}/{report_id.hex()}")
        return StoredReport(patient_id, report_id, known, created, received, body)


def forget(db: sqlite3.Connection, patient_id: str, before: int, now: int, actor: str) -> int:
    """Erase what was received of a patient before a time, by order of a person; returns how many reports that were.

    The alerts that only they had raised go with them.
    """
    alerts.forget(db, patient_id, before)
    rows = db.execute("DELETE FROM reports WHERE patient_id = ? AND received < ?", (patient_id, before))
    audit.append(db, now, actor, Action.REPORTS_FORGOTTEN, patient_id, f"{rows.rowcount} reports")
    return rows.rowcount


def _row(patient_id: str, report_id: bytes) -> bytes:
    return patient_id.encode() + b"/" + report_id

"""Clinical alerts: vitals beyond a patient's thresholds, until somebody has seen them. They have nothing to do with security.

Law: an alert is of one patient, one measure and one side. It takes in every further report of its kind until it has been acknowledged
and a report was within the bounds again; then the next one raises another. So a disturbance that lasts is one alert, and however a
device reports, no more than one alert of each kind waits for people.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

import msgspec

from doctor import audit, thresholds
from doctor.audit import Action
from shared.errors import UserError
from shared.storage import cells
from shared.storage.sealed import Sealer
from shared.vitals import Measure, Vitals

_COLUMNS = "number, patient_id, raised, latest, ended, acknowledged, acknowledged_by, finding"
_WAITING = "(acknowledged IS NULL OR ended IS NULL)"


class Finding(msgspec.Struct, frozen=True):
    """What was found: in how many reports, beyond which bound at first, and the value that was furthest beyond it."""

    measure: Measure
    below: bool
    limit: float
    worst: float
    reports: int = 1

    def further(self, value: float) -> Finding:
        """With one more report."""
        worst = min(self.worst, value) if self.below else max(self.worst, value)
        return msgspec.structs.replace(self, worst=worst, reports=self.reports + 1)


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert. Times in milliseconds since the Unix epoch, by our clock.

    Attributes:
        number: under which people know it; never given twice.
        raised, latest: when its first and its latest report came.
        ended: when a report was within the bounds again; None: not yet.
        acknowledged, acknowledged_by: when, and by whom.
    """

    number: int
    patient_id: str
    raised: int
    latest: int
    ended: int | None
    acknowledged: int | None
    acknowledged_by: str | None
    finding: Finding


class Alerts:
    """Raises alerts and gives them back. `sealer` seals findings at rest."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def watch(self, db: sqlite3.Connection, patient_id: str, vitals: Vitals, now: int) -> None:
        """Hold a new report against the thresholds, inside the transaction that keeps it."""
        bounds = thresholds.load(db, patient_id)
        waiting = {
            (alert.finding.measure, alert.finding.below): alert for alert in self._waiting(db, patient_id)
        }
        for measure, value in vitals.values().items():
            limit = bounds.of(measure).broken_by(value)
            for below in (True, False):
                alert = waiting.get((measure, below))
                if limit is not None and below == (value < limit):
                    if alert is None:
                        self._raise(db, patient_id, Finding(measure, below, limit, value), now)
                    else:
                        self._write(db, alert, alert.finding.further(value), now, None)
                elif alert is not None and alert.ended is None:
                    self._write(db, alert, alert.finding, alert.latest, now)

    def acknowledge(self, db: sqlite3.Connection, number: int, by: str, now: int, actor: str) -> Alert:
        """Note that somebody has seen it, inside the caller's transaction.

        Raises:
            UserError: there is no such alert, or somebody was first.
        """
        alert = self.find(db, number)
        if alert.acknowledged is not None:
            raise UserError(f"Alert {number} was acknowledged already, by {alert.acknowledged_by}.")
        db.execute(
            "UPDATE alerts SET acknowledged = ?, acknowledged_by = ? WHERE number = ?", (now, by, number)
        )
        audit.append(db, now, actor, Action.ALERT_ACKNOWLEDGED, alert.patient_id, f"alert {number}, by {by}")
        return self.find(db, number)

    def find(self, db: sqlite3.Connection, number: int) -> Alert:
        """One alert.

        Raises:
            UserError: there is none. StorageError: it does not open.
        """
        row = db.execute(f"SELECT {_COLUMNS} FROM alerts WHERE number = ?", (number,)).fetchone()  # noqa: S608  our own columns
        if row is None:
            raise UserError(f"There is no alert {number}; `telemed-doctor alerts --all` lists them.")
        return self._open(*row)

    def find_all(
        self, db: sqlite3.Connection, patient_id: str | None, waiting: bool, limit: int
    ) -> list[Alert]:
        """The newest alerts, newest first: of one patient or of all, those that wait for somebody or for their end, or all.

        Raises:
            StorageError: one does not open.
        """
        rows = db.execute(
            f"SELECT {_COLUMNS} FROM alerts WHERE (?1 IS NULL OR patient_id = ?1) AND (NOT ?2 OR {_WAITING})"  # noqa: S608  the same
            " ORDER BY number DESC LIMIT ?3",
            (patient_id, waiting, limit),
        )
        return [self._open(*row) for row in rows]

    def unseen(self, db: sqlite3.Connection, limit: int) -> list[Alert]:
        """The newest alerts that nobody has acknowledged, newest first; raises as `find_all`."""
        rows = db.execute(
            f"SELECT {_COLUMNS} FROM alerts WHERE {_WAITING} AND acknowledged IS NULL ORDER BY number DESC LIMIT ?",  # noqa: S608  the same
            (limit,),
        )
        return [self._open(*row) for row in rows]

    def _waiting(self, db: sqlite3.Connection, patient_id: str) -> list[Alert]:
        rows = db.execute(
            f"SELECT {_COLUMNS} FROM alerts WHERE patient_id = ? AND {_WAITING}",  # noqa: S608  the same
            (patient_id,),
        )
        return [self._open(*row) for row in rows]

    def _raise(self, db: sqlite3.Connection, patient_id: str, finding: Finding, now: int) -> None:
        # Named by its entry in the audit log: so no number is given twice, even when alerts are erased.
        number = audit.append(db, now, "gateway", Action.ALERT_RAISED, patient_id)
        db.execute(
            "INSERT INTO alerts VALUES (?, ?, ?, ?, NULL, NULL, NULL, ?)",
            (number, patient_id, now, now, self._seal(number, finding)),
        )

    def _write(
        self, db: sqlite3.Connection, alert: Alert, finding: Finding, latest: int, ended: int | None
    ) -> None:
        db.execute(
            "UPDATE alerts SET latest = ?, ended = ?, finding = ? WHERE number = ?",
            (latest, ended, self._seal(alert.number, finding), alert.number),
        )

    def _seal(self, number: int, finding: Finding) -> bytes:
        return self._sealer.seal("alerts", "finding", str(number).encode(), msgspec.json.encode(finding))

    def _open(
        self,
        number: int,
        patient_id: str,
        raised: int,
        latest: int,
        ended: int | None,
        acknowledged: int | None,
        acknowledged_by: str | None,
        sealed: bytes,
    ) -> Alert:
        text = self._sealer.open("alerts", "finding", str(number).encode(), sealed)
        finding = cells.record(Finding, text, "alerts", "finding", number)
        return Alert(number, patient_id, raised, latest, ended, acknowledged, acknowledged_by, finding)


def count_unseen(db: sqlite3.Connection, patient_id: str | None = None) -> int:
    """How many alerts nobody has acknowledged: of one patient, or of all."""
    (found,) = db.execute(
        f"SELECT count(*) FROM alerts WHERE {_WAITING} AND acknowledged IS NULL AND (?1 IS NULL OR patient_id = ?1)",  # noqa: S608  our own condition
        (patient_id,),
    ).fetchone()
    return int(found)


def forget(db: sqlite3.Connection, patient_id: str, before: int) -> None:
    """Erase a patient's alerts whose reports all came before a time, inside the caller's transaction."""
    db.execute("DELETE FROM alerts WHERE patient_id = ? AND latest < ?", (patient_id, before))


def forget_seen(db: sqlite3.Connection, before: int) -> None:
    """Erase the alerts of all patients that are over and acknowledged, and whose reports all came before a time."""
    db.execute(f"DELETE FROM alerts WHERE latest < ? AND NOT {_WAITING}", (before,))  # noqa: S608  our own condition

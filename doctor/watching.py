"""Orders and questions about vitals: the latest ones, their course, thresholds and alerts."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from doctor import alerts, roster, thresholds
from doctor.alerts import Alert
from doctor.answers import AlertAnswer, ThresholdsAnswer
from doctor.desk import Desk
from doctor.idempotency import Origin
from doctor.orders import AcknowledgeOrder
from doctor.reports import Reports, StoredReport, Times
from doctor.stores import DATABASE_FILE
from doctor.thresholds import Thresholds, ThresholdsOrder
from shared.net.stream import clock
from shared.storage.sqlite import open_reader
from shared.vitals import Vitals
from shared.wire.messages import ReportKind

ALERTS_SHOWN = 1000
COURSE = 2000  # readings


@dataclass(frozen=True, slots=True)
class Reading:
    """One report of vitals: when it was measured and when it came, in milliseconds since the Unix epoch.

    `vitals` None: it is not understood.
    """

    time: int
    received: int
    vitals: Vitals | None


class Watching(Desk):
    """Watches over vitals."""

    def last_vitals(self, patient_id: str) -> Reading | None:
        """The reading that came last; None: there is none. One look into an index, for lists of patients.

        Raises:
            StorageError: it does not open.
        """
        found = self._office.reports.of_kind(self.reader, patient_id, ReportKind.VITALS, 1)
        return _reading(found[0]) if found else None

    def vitals_course(self, patient_id: str, since: int, limit: int = COURSE) -> list[Reading]:
        """The readings since a time that are understood, the newest `limit` of them, oldest first.

        Raises:
            StorageError: one does not open.
        """
        return _course(self._office.reports, self.reader, patient_id, since, limit)

    async def vitals_course_aside(self, patient_id: str, since: int, limit: int) -> list[Reading]:
        """`vitals_course` on another thread: to open two thousand readings takes longer than devices should wait for their turn."""
        path = Path(self._office.settings.state_dir) / DATABASE_FILE

        def read() -> list[Reading]:
            with contextlib.closing(open_reader(path)) as db:
                return _course(self._office.reports, db, patient_id, since, limit)

        return await asyncio.to_thread(read)

    def thresholds(self, patient_id: str) -> ThresholdsAnswer:
        """What raises an alert for a patient.

        Raises:
            UserError: no such patient. StorageError: they cannot be read.
        """
        roster.require_known(self.reader, patient_id)
        return ThresholdsAnswer(patient_id, thresholds.load(self.reader, patient_id))

    async def set_thresholds(
        self, patient_id: str, order: ThresholdsOrder, origin: Origin
    ) -> ThresholdsAnswer:
        """Change what raises an alert for a patient, from the next report on.

        Raises:
            UserError: no such patient. StorageError: nothing has happened.
        """
        now = clock().wall

        def work(db: sqlite3.Connection) -> Thresholds:
            roster.require_known(db, patient_id)
            return thresholds.change(db, patient_id, order, now, origin.actor)

        return await self._order(
            origin,
            ("thresholds", patient_id, order),
            work,
            lambda _: None,
            lambda new: ThresholdsAnswer(patient_id, new),
            ThresholdsAnswer,
        )

    def alerts(self, patient_id: str | None = None, every: bool = False) -> list[AlertAnswer]:
        """The newest thousand alerts, newest first: those that wait for somebody or for their end, or `every` one.

        Raises:
            StorageError: one does not open.
        """
        found = self._office.reports.alerts.find_all(self.reader, patient_id, not every, ALERTS_SHOWN)
        return [_alert_answer(each) for each in found]

    def unseen_alerts(self, limit: int) -> list[AlertAnswer]:
        """The newest alerts that nobody has acknowledged, newest first.

        Raises:
            StorageError: one does not open.
        """
        return [_alert_answer(each) for each in self._office.reports.alerts.unseen(self.reader, limit)]

    def count_unseen_alerts(self, patient_id: str | None = None) -> int:
        """How many alerts nobody has acknowledged: of one patient, or of all."""
        return alerts.count_unseen(self.reader, patient_id)

    async def acknowledge(self, number: int, order: AcknowledgeOrder, origin: Origin) -> AlertAnswer:
        """Note that somebody has seen an alert.

        Raises:
            UserError: no such alert, or somebody was first. StorageError: nothing has happened.
        """
        now = clock().wall
        by = order.operator or origin.actor
        return await self._order(
            origin,
            ("acknowledge", number, by),
            lambda db: self._office.reports.alerts.acknowledge(db, number, by, now, origin.actor),
            lambda _: None,
            _alert_answer,
            AlertAnswer,
        )


def _course(
    reports: Reports, db: sqlite3.Connection, patient_id: str, since: int, limit: int
) -> list[Reading]:
    found = reports.within(db, patient_id, ReportKind.VITALS, Times(since), limit)
    return [reading for each in reversed(found) if (reading := _reading(each)).vitals is not None]


def _reading(report: StoredReport) -> Reading:
    return Reading(report.time, report.received, report.vitals)


def _alert_answer(alert: Alert) -> AlertAnswer:
    found = alert.finding
    return AlertAnswer(
        alert.number,
        alert.patient_id,
        found.measure.value,
        "below" if found.below else "above",
        found.limit,
        found.worst,
        found.measure.unit,
        found.reports,
        alert.raised,
        alert.latest,
        alert.ended,
        alert.acknowledged,
        alert.acknowledged_by,
    )

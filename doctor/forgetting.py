"""Orders to erase what patients have reported."""

from __future__ import annotations

import sqlite3

from doctor import reports, roster
from doctor.answers import ForgottenAnswer
from doctor.desk import Desk
from doctor.idempotency import Origin
from shared.net.stream import clock


class Forgetting(Desk):
    """Erases reports."""

    async def forget_reports(self, patient_id: str, before: int, origin: Origin) -> ForgottenAnswer:
        """Erase what was received of a patient before a time, in milliseconds since the Unix epoch.

        Raises:
            UserError: no such patient. StorageError: nothing has happened.
        """
        now = clock().wall

        def work(db: sqlite3.Connection) -> int:
            roster.require_known(db, patient_id)
            return reports.forget(db, patient_id, before, now, origin.actor)

        return await self._order(
            origin,
            ("forget", patient_id, before),
            work,
            lambda _: None,
            lambda erased: ForgottenAnswer(patient_id, erased),
            ForgottenAnswer,
        )

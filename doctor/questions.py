"""What people and programs can ask of the doctor: one method a question. Nothing here changes anything.

Answers come from the disk, as far as it has been committed, and from what runs: who is connected, in which epoch a group is.
"""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from doctor import audit, chronicle, groups, receipts, roster
from doctor.answers import (
    AuditAnswer,
    AuditEntriesAnswer,
    AuditEntryAnswer,
    GroupAnswer,
    PatientAnswer,
    ReceiptAnswer,
    ReportAnswer,
)
from doctor.desk import Desk
from doctor.reports import StoredReport
from doctor.roster import Patient
from doctor.sessions import Session
from shared.errors import StorageError
from shared.message_ids import parse_message_id
from shared.net.stream import clock
from shared.protocol.doctor_handshake import Standing
from shared.wire.messages import ReportKind

REPORTS_SHOWN = 1000


class Questions(Desk):
    """Every question."""

    def receipts(self, message_id: str) -> list[ReceiptAnswer]:
        """What became of a message, for each recipient.

        Raises:
            UserError: there is no such message.
        """
        stream, number = parse_message_id(message_id)
        written = {
            session.patient_id: session.attachments[stream].written
            for session in self._office.fanout.sessions.values()
            if stream in session.attachments
        }
        rows = receipts.list_receipts(self.reader, stream, number, clock().wall, written)
        return [ReceiptAnswer(row.patient, row.state.value) for row in rows]

    def patients(self) -> list[PatientAnswer]:
        """Everyone on the roster, with what is known right now."""
        return [self._live(patient) for patient in roster.list_patients(self.reader)]

    def _live(self, patient: Patient) -> PatientAnswer:
        session = self._office.fanout.sessions.get(patient.patient_id)
        epochs = session.held_epochs if session is not None else {}
        return PatientAnswer(
            patient=patient.patient_id,
            state=live_state(patient.standing, session),
            fingerprint=patient.fingerprint,
            groups=list(patient.groups),
            epochs=epochs,
            suite=session.suite if session else None,
            address=session.stream.peer if session else None,
            enrolled_at=patient.enrolled_at,
            last_seen=patient.last_seen,
            trouble=self._office.fanout.troubles.of(patient.patient_id),
            skew_s=session.skew / 1000 if session else None,
        )

    def fleet_unseen_since(self, limit: int) -> list[str]:
        """Active fleet patients that are away and were last admitted before `limit`, in milliseconds."""
        rows = self.reader.execute(
            "SELECT patients.patient_id FROM patients JOIN invitations ON invitation = invitation_id"
            " WHERE standing = 'active' AND invitations.patient_id IS NULL AND last_seen < ?",
            (limit,),
        )
        return [row[0] for row in rows if row[0] not in self._office.fanout.sessions]

    def reports(self, patient_id: str) -> list[ReportAnswer]:
        """The newest thousand reports of a patient, newest first.

        Raises:
            UserError: there is no such patient. StorageError: a body does not open.
        """
        roster.require_known(self.reader, patient_id)
        found = self._office.reports.of_patient(self.reader, patient_id, REPORTS_SHOWN)
        return [_report_answer(each) for each in found]

    def texts(self, patient_id: str, limit: int) -> list[ReportAnswer]:
        """The newest texts of a patient, newest first.

        Raises:
            StorageError: a body does not open.
        """
        found = self._office.reports.of_kind(self.reader, patient_id, ReportKind.REPLY, limit)
        return [_report_answer(each) for each in found]

    def list_groups(self) -> list[GroupAnswer]:
        """All groups with their members, and the epoch that each is in now: the disk follows a moment later."""
        running = self._office.fanout.groups
        return [
            GroupAnswer(row.name, running[row.name].epoch_number, list(row.members))
            for row in groups.list_groups(self.reader)
            if row.name in running
        ]

    async def storage_answers(self) -> bool:
        """Whether the database takes a transaction that writes now."""
        try:
            await self._office.writer.submit(_write_something)
        except StorageError:
            return False
        return True

    def audit_entries(self, limit: int, subject: str, before: int | None) -> AuditEntriesAnswer:
        """The newest entries of the audit log, as far as they are committed; about `subject` alone unless that is ""."""
        found = chronicle.find(self.reader, limit, before, subject=subject)
        entries = [
            AuditEntryAnswer(each.sequence, each.time, each.actor, each.action, each.subject, each.detail)
            for each in found.entries
        ]
        return AuditEntriesAnswer(entries, found.older)

    async def verify_audit(self) -> AuditAnswer:
        """Recompute the chain and compare the signed heads, on another thread."""
        keys = self._office.keys
        path = Path(self._office.settings.state_dir) / "doctor.db"
        verdict = await asyncio.to_thread(
            audit.verify_file,
            path,
            Path(self._office.settings.audit_dir),
            keys.identity.public,
            keys.identity.algorithm,
            keys.former,
        )
        valid = verdict.first_bad is None
        return AuditAnswer(
            valid, verdict.entries, verdict.heads, verdict.first_bad, verdict.reason, list(verdict.events)
        )


def _report_answer(report: StoredReport) -> ReportAnswer:
    body, vitals = report.body.decode(errors="replace"), report.vitals
    understood = vitals is not None or report.kind is not ReportKind.VITALS
    shown = str(vitals) if vitals is not None else body if understood else f"not understood: {body}"
    return ReportAnswer(
        report.report_id.hex(),
        report.kind.name.lower(),
        report.created,
        report.received,
        body,
        understood,
        shown,
    )


def live_state(standing: Standing, session: Session | None) -> str:
    """How a patient is right now, as `PatientAnswer` has it."""
    if session is None:
        return "away" if standing is Standing.ACTIVE else standing.value
    return "established" if session.holds_key else "connecting"


_PROBE = "probe" * 26  # longer than any request's Idempotency-Key may be


def _write_something(db: sqlite3.Connection) -> None:
    """Put a row in and take it out again: a full disk still takes a transaction that writes nothing."""
    db.execute("INSERT INTO answers VALUES (?, x'', x'', 0)", (_PROBE,))
    db.execute("DELETE FROM answers WHERE key = ?", (_PROBE,))

"""FHIR searches and their answers."""

from __future__ import annotations

import asyncio
from itertools import islice
from pathlib import Path

from doctor import roster
from doctor.fhir import audit_events, communications
from doctor.fhir.observations import observations
from doctor.fhir.resources import AuditEvent, Communication, Observation
from doctor.fhir.searches import FhirSearch
from doctor.overview import Overview
from doctor.stores import DATABASE_FILE
from shared.wire.messages import ReportKind


class FhirQuestions(Overview):
    """What FHIR clients ask. A patient that does not exist has nothing to tell."""

    def fhir_observations(self, search: FhirSearch) -> list[Observation]:
        """What a patient's vitals say, newest first.

        Raises:
            StorageError: a body does not open.
        """
        found = roster.find_patient(self.reader, search.patient)
        if found is None:
            return []
        reports = self._office.reports.within(
            self.reader, search.patient, ReportKind.VITALS, search.times, search.count
        )
        every = (each for report in reports for each in observations(report, found.fingerprint))
        return list(islice(every, search.count))

    def fhir_communications(self, search: FhirSearch) -> list[Communication]:
        """The messages that were meant for a patient, and its replies, newest first.

        Raises:
            StorageError: a body does not open.
        """
        patient_id, doctor_id = search.patient, self._office.settings.doctor_id
        replies = self._office.reports.within(
            self.reader, patient_id, ReportKind.REPLY, search.times, search.count
        )
        found = [(each.time, communications.of_reply(each, doctor_id)) for each in replies]
        for created, stream, number in self._messages_within(patient_id, search.times, search.count):
            row = self._message(stream, number, patient_id)
            found.append((created, communications.of_message(row, patient_id, doctor_id)))
        found.sort(key=lambda each: each[0], reverse=True)
        return [communication for _, communication in found[: search.count]]

    async def fhir_audit_events(self, search: FhirSearch) -> list[AuditEvent]:
        """Entries of the audit log, newest first, as far as they are committed.

        Raises:
            StorageError: the database cannot be read.
        """
        path = Path(self._office.settings.state_dir) / DATABASE_FILE
        return await asyncio.to_thread(audit_events.read_file, path, search, self._office.settings.doctor_id)

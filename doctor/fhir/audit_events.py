"""Entries of the audit log as AuditEvents. What verifies is the log itself (`telemed-doctor audit verify`), not these."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from doctor.audit import Action
from doctor.fhir.communications import doctor
from doctor.fhir.resources import (
    AuditAgent,
    AuditEntity,
    AuditEvent,
    AuditSource,
    Coding,
    Identifier,
    Reference,
    instant,
    patient,
    string,
)
from doctor.fhir.searches import FhirSearch
from doctor.groups import is_name
from shared.storage import cells
from shared.storage.sqlite import open_reader

_DICOM = "http://dicom.nema.org/resources/ontology/DCM"
ACTIONS = "urn:telemed:audit-action"  # our own names, `doctor.audit.Action`
_ACTIVITY = Coding(system=_DICOM, code="110100", display="Application Activity")
_ALERT = Coding(system=_DICOM, code="110113", display="Security Alert")
_LOGIN = Coding(system=_DICOM, code="110114", display="User Authentication")
_EXPORT = Coding(system=_DICOM, code="110106", display="Export")
_TYPES = {
    Action.ADMITTED: _LOGIN,
    Action.ADMITTED_MORE: _LOGIN,
    Action.LOGGED_IN: _LOGIN,
    Action.LOGGED_OUT: _LOGIN,
    Action.LOGIN_FAILED: _LOGIN,
    Action.BACKUP_MADE: _EXPORT,
    Action.REFUSED: _ALERT,
    Action.STRANGERS_REFUSED: _ALERT,
    Action.REPLACED_OFTEN: _ALERT,
    Action.RECEIPT_IMPOSSIBLE: _ALERT,
    Action.ENTRIES_LOST: _ALERT,
    Action.RESTORE_FOUND: _ALERT,
}
_FAILED = frozenset(
    {Action.LOGIN_FAILED, Action.REFUSED, Action.STRANGERS_REFUSED, Action.RECEIPT_IMPOSSIBLE}
)
_CREATED = frozenset(
    {
        Action.INVITED,
        Action.ENROLLED,
        Action.GROUP_CREATED,
        Action.BROADCAST_ACCEPTED,
        Action.MESSAGE_ACCEPTED,
        Action.REPORT_KEPT,
        Action.OPERATOR_ADDED,
        Action.ALERT_RAISED,
    }
)
_DELETED = frozenset({Action.REPORTS_FORGOTTEN, Action.BODIES_ERASED, Action.OPERATOR_REMOVED})
_CHANGED = frozenset(
    {
        Action.REVOKED,
        Action.RETIRED,
        Action.MEMBER_ADDED,
        Action.MEMBER_REMOVED,
        Action.EPOCH_BEGUN,
        Action.INVITATIONS_VOIDED,
        Action.KEYS_ROTATED,
        Action.ROTATION_COMPLETE,
        Action.RESTORED,
        Action.CLOCK_ACCEPTED,
        Action.PASSWORD_CHANGED,
        Action.THRESHOLDS_CHANGED,
        Action.ALERT_ACKNOWLEDGED,
        Action.RECEIPTS,
    }
)

_OF_PATIENTS = frozenset(  # what their entries name is a patient; elsewhere the same name may be a group's or an operator's
    {
        Action.INVITED,
        Action.ENROLLED,
        Action.ADMITTED,
        Action.ADMITTED_MORE,
        Action.REFUSED,
        Action.REVOKED,
        Action.RETIRED,
        Action.MEMBER_ADDED,
        Action.MEMBER_REMOVED,
        Action.MESSAGE_ACCEPTED,
        Action.REPORT_KEPT,
        Action.REPORTS_FORGOTTEN,
        Action.REPLACED_OFTEN,
        Action.RECEIPT_IMPOSSIBLE,
        Action.THRESHOLDS_CHANGED,
        Action.ALERT_RAISED,
        Action.ALERT_ACKNOWLEDGED,
    }
)


def read_file(path: Path, search: FhirSearch, doctor_id: str) -> list[AuditEvent]:
    """`read` on a connection of its own, for a thread of its own: a log of years takes a while to look through."""
    with contextlib.closing(open_reader(path, once=True)) as db:
        return list(read(db, search, doctor_id))


def read(db: sqlite3.Connection, search: FhirSearch, doctor_id: str) -> Iterator[AuditEvent]:
    """The newest entries of that time, about one patient or about anything, newest first.

    Raises:
        StorageError: an entry's action is none.
    """
    actions = ", ".join(f"'{action.value}'" for action in _OF_PATIENTS)
    rows = db.execute(
        "SELECT sequence, time, actor, action, object, detail FROM audit WHERE time >= ?1 AND time < ?2"  # noqa: S608  our own names
        f" AND (?3 = '' OR object = ?3 AND action IN ({actions})) ORDER BY sequence DESC LIMIT ?4",
        (search.times.start, search.times.end, search.patient, search.count),
    )
    for sequence, time, actor, name, subject, detail in rows:
        action = cells.member(Action, name, "audit", "action", sequence)
        of_patient = action in _OF_PATIENTS and is_name(subject) and subject != "reports"
        whom = patient(subject) if of_patient else _named(subject)
        yield AuditEvent(
            id=str(sequence),
            type=_TYPES.get(action, _ACTIVITY),
            subtype=(Coding(system=ACTIONS, code=action.value),),
            action=_letter(action),
            recorded=instant(time),
            outcome="4" if action in _FAILED else "0",
            agent=(AuditAgent(who=_named(actor), requestor=actor not in ("gateway", "timer")),),
            source=AuditSource(observer=doctor(doctor_id)),
            entity=(AuditEntity(what=whom, description=string(detail) if detail.strip() else None),),
        )


def _named(name: str) -> Reference:
    shown = string(name) if name.strip() else "unnamed"
    return Reference(identifier=Identifier(value=shown), display=shown)


def _letter(action: Action) -> str:
    """Create, read, update, delete or execute."""
    for letter, actions in (("C", _CREATED), ("U", _CHANGED), ("D", _DELETED)):
        if action in actions:
            return letter
    return "R" if action is Action.BACKUP_MADE else "E"

"""What the journal knows and an older database does not, done again on it: revocations, and removals from groups.

Law: every function here runs inside the caller's transaction and says whether it had anything to do; once is enough. An id that is
unknown here may be that of a key which this database knows by another, lost once and invited anew: a line is about the key.
"""

from __future__ import annotations

import sqlite3

from doctor import audit, groups, roster, streams
from doctor.audit import Action
from doctor.journal import Line
from shared.crypto.signatures import Algorithm, fingerprint
from shared.protocol.doctor_handshake import Standing

_ACTOR = "journal"


def revoke(db: sqlite3.Connection, line: Line, now: int) -> bool:
    """Revoke again; where the patient is unknown, its id and its key stay tombstones all the same."""
    rows = _known_as(db, line)
    active = [patient_id for patient_id, standing in rows if standing != Standing.REVOKED.value]
    for patient_id in active:
        roster.depart(db, patient_id, Standing.REVOKED, now, _ACTOR)
    if rows:
        return bool(active)
    key = bytes.fromhex(line.key)
    db.execute(
        "INSERT INTO patients VALUES (?, ?, ?, ?, ?, NULL, ?, ?)",
        (
            line.subject,
            line.algorithm,
            key,
            fingerprint(Algorithm(line.algorithm), key),
            Standing.REVOKED.value,
            *(line.time, line.time),
        ),
    )
    audit.append(db, now, _ACTOR, Action.REVOKED, line.subject, "not on the restored roster")
    return True


def remove(db: sqlite3.Connection, line: Line, now: int) -> bool:
    """Remove from its group again; what the group was told before stays meant for it."""
    stream = streams.of_group(line.group)
    members = [
        patient_id for patient_id, _ in _known_as(db, line) if streams.is_member(db, stream, patient_id)
    ]
    for patient_id in members:
        groups.remove(db, line.group, patient_id, now, _ACTOR)
    return bool(members)


def _known_as(db: sqlite3.Connection, line: Line) -> list[tuple[str, str]]:
    """The ids of whom a line is about, and their standing."""
    owner = fingerprint(Algorithm(line.algorithm), bytes.fromhex(line.key))
    return db.execute(
        "SELECT patient_id, standing FROM patients WHERE patient_id = ? OR fingerprint = ?",
        (line.subject, owner),
    ).fetchall()

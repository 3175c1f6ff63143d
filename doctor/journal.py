"""The journal of revocations, outside the database and on the audit volume.

A restored backup would bring a revoked patient back; the journal shows it. It is written after the commit and before `revoke`
returns. At start, a journal that is behind is completed; one that is ahead means that the database is an old copy, and the doctor does
not start on it.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec

from doctor.audit import append_line, read_lines
from shared.errors import StorageError, UserError

JOURNAL_FILE = "journal.jsonl"


class Revocation(msgspec.Struct, frozen=True):
    """One line. `time` in milliseconds since the Unix epoch."""

    time: int
    revoked: str


class Journal:
    """The journal below an audit directory. Its methods block: call them from a thread of their own."""

    def __init__(self, audit_dir: Path) -> None:
        self._path = audit_dir / JOURNAL_FILE

    def append(self, patient_id: str, now: int) -> None:
        """Note a revocation durably. Raises StorageError where the file cannot be written."""
        append_line(self._path, msgspec.json.encode(Revocation(now, patient_id)))

    def reconcile(self, db: sqlite3.Connection, now: int) -> None:
        """Bring the journal up to the database.

        Raises:
            UserError: the journal is ahead; says what to do. StorageError: the file is damaged or cannot be written.
        """
        rows = db.execute("SELECT patient_id FROM patients WHERE standing = 'revoked'")
        known = {row[0] for row in rows}
        journalled = self._read()
        if ahead := journalled - known:
            raise UserError(
                f"The database is an old copy: {', '.join(sorted(ahead))} was revoked after it was made."
                f" Put the newest database back, or move {self._path} away and revoke again."
            )
        for patient_id in sorted(known - journalled):
            self.append(patient_id, now)

    def _read(self) -> set[str]:
        # A line that a crash has torn is not among them; its revocation is in the database and is noted again.
        try:
            return {msgspec.json.decode(line, type=Revocation).revoked for line in read_lines(self._path)}
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StorageError(f"{self._path} is damaged: {error}") from error

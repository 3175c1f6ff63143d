"""The journal of revocations, of used invitations, of who was removed from a group and of rotations, outside the database and on the audit volume.

A restored backup would bring a revoked patient back, a removed one back into its group, and an invitation that was used up, and with a
copy of `keys/` from its time a key that was rotated away; the journal shows it.

Law: a line is a copy of an audit entry that must not be forgotten, written after the entry's commit and before anybody is told
of it: before `revoke` returns, before a new patient's session is admitted. So a journal may be behind its database by what
a crash came in between; it is completed from there. One that is ahead means that the database is an older state. Each
line is authenticated under a key that the audit volume does not hold.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from doctor import groups
from doctor.audit import Action
from doctor.heads import HexHash, Number, holds
from shared.crypto import kdf
from shared.crypto.kdf import Label
from shared.errors import InvalidSignature, StorageError
from shared.logs import get_logger
from shared.storage.lines import append_lines, read_lines

JOURNAL_FILE = "journal.jsonl"

_log = get_logger("journal")

# An addition takes a removal back, which must not be done again then.
_MEMBERS = (Action.MEMBER_ADDED, Action.MEMBER_REMOVED)
_NUMBERED = (Action.RESTORED, Action.KEYS_ROTATED)  # entries about a number and not about a patient
_JOURNALLED = (Action.ENROLLED, Action.REVOKED, *_MEMBERS, *_NUMBERED)


class Line(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A copy of one audit entry.

    Attributes:
        sequence, hash, time, action: the entry's own.
        subject: the patient; of a restore, the entry it went back to; of a rotation, its sequence.
        invitation: by which the patient was enrolled, in hexadecimal digits.
        algorithm, key: the patient's, in hexadecimal digits, so that a tombstone can be set where it is unknown.
        group: to which the patient was added, or from which it was removed.
        mac: of all the others.
    """

    sequence: Number
    hash: HexHash
    time: Number
    action: str
    subject: str
    invitation: str = ""
    algorithm: int = 0
    key: Annotated[str, Meta(pattern=r"\A([0-9a-f]{2})*\Z")] = ""
    group: str = ""
    mac: str = ""


class Journal:
    """The journal below an audit directory.

    Args:
        audit_dir: where it stands.
        storage_key: the doctor's; the key of the lines is derived from it.

    Attributes:
        behind: the disk refused; `complete` tries again.
        voided: lines that confirmed restores have voided, which the compared database does not have either: it is older than
            those restores, and what was done again then has to be done again once more.
        rotation: the sequence of the last rotation of the doctor's keys, 0: none. A restore voids none: keys are not in a database.
    """

    def __init__(self, audit_dir: Path, storage_key: bytes) -> None:
        self._path = audit_dir / JOURNAL_FILE
        self._key = kdf.derive(Label.JOURNAL_KEY, (storage_key,))
        self._written: int | None = None  # up to this audit entry; None: not compared yet
        self.behind = False
        self.voided: tuple[Line, ...] = ()
        self.rotation = 0

    def compare(self, db: sqlite3.Connection) -> list[Line]:
        """Complete the journal from the database, and return what the database does not have, oldest first.

        Lines that a confirmed restore has voided are not among them, see `voided`. Only after this does `complete` write anything.

        Raises:
            StorageError: the file cannot be read or written, or a line of it is damaged; names it.
        """
        lines = self.read()
        known = {(line.sequence, line.hash) for line in lines}
        behind = [line for line in self._entries_after(db, 0) if (line.sequence, line.hash) not in known]
        self._append(behind)
        self._written = _last_sequence(db)
        standing: list[Line] = []
        voided: list[Line] = []
        void: set[tuple[int, str]] = set()
        for line in (*lines, *behind):
            if line.action == Action.KEYS_ROTATED.value:
                self.rotation = max(self.rotation, int(line.subject))
            if (line.sequence, line.hash) in void:
                continue  # written once more by somebody who only has the file: no entry comes back
            if line.action == Action.RESTORED.value:
                base = int(line.subject)
                voided += [earlier for earlier in standing if earlier.sequence > base]
                void |= {(earlier.sequence, earlier.hash) for earlier in standing if earlier.sequence > base}
                standing = [earlier for earlier in standing if earlier.sequence <= base]
                if holds(db, line.sequence, line.hash):
                    voided.clear()  # this database did it all again before it was confirmed
            standing.append(line)
        self.voided = tuple(line for line in voided if not holds(db, line.sequence, line.hash))
        return [line for line in standing if not holds(db, line.sequence, line.hash)]

    def complete(self, db: sqlite3.Connection) -> None:
        """Write what was committed since the last call; the writer's thread calls it after each commit.

        What the disk refuses is tried again with the next commit: what was committed stands, and it would be false to call it
        off.
        """
        if self._written is None:
            return
        try:
            last = _last_sequence(db)
            self._append(self._entries_after(db, self._written))
        except (StorageError, sqlite3.Error) as error:
            self.behind = True
            _log.error("journal behind", cause=str(error))
            return
        self.behind, self._written = False, last

    def read(self) -> list[Line]:
        """All lines. Raises StorageError: the file cannot be read, or a line of it is damaged; names it."""
        # A line that a crash has torn is not among them; its entry is in the database and is noted again.
        return [self._parse(number, raw) for number, raw in enumerate(read_lines(self._path), start=1)]

    def _parse(self, number: int, raw: bytes) -> Line:
        try:
            line = msgspec.json.decode(raw, type=Line)
            kdf.verify_mac(Label.JOURNAL_LINE, self._key, _hex(line.mac), _authenticated(line))
            if line.action in (action.value for action in _NUMBERED):
                int(line.subject)
        except (msgspec.DecodeError, InvalidSignature, ValueError) as error:
            raise StorageError(
                f"{self._path}, line {number}, is damaged or not this doctor's ({error}). Put the file back from a copy, or"
                " move it away: the doctor then writes a new one, and an older database can no longer be told by it."
            ) from error
        return line

    def text(self, line: Line) -> bytes:
        """A line as it stands in the file, authenticated, without its end."""
        mac = kdf.mac(Label.JOURNAL_LINE, self._key, _authenticated(line))
        return msgspec.json.encode(msgspec.structs.replace(line, mac=mac.hex()))

    def _append(self, lines: Sequence[Line]) -> None:
        if lines:
            append_lines(self._path, [self.text(line) for line in lines])

    def _entries_after(self, db: sqlite3.Connection, sequence: int) -> list[Line]:
        rows = db.execute(
            "SELECT audit.sequence, audit.hash, audit.time, audit.action, audit.object, audit.detail,"
            " coalesce(patients.invitation, x''), coalesce(algorithm, 0), coalesce(public_key, x'')"
            " FROM audit LEFT JOIN patients ON patient_id = audit.object AND action NOT IN (?, ?)"
            " WHERE audit.sequence > ? AND audit.action IN (?, ?, ?, ?, ?, ?) ORDER BY audit.sequence",
            (
                *(action.value for action in _NUMBERED),
                sequence,
                *(action.value for action in _JOURNALLED),
            ),
        )
        return [_line(*row) for row in rows]


def _line(
    sequence: int,
    digest: bytes,
    time: int,
    action: str,
    subject: str,
    detail: str,
    invitation: bytes,
    algorithm: int,
    key: bytes,
) -> Line:
    group = groups.of_entry(detail) if Action(action) in _MEMBERS else ""
    return Line(
        sequence, digest.hex(), time, action, subject, invitation.hex(), algorithm, key.hex(), group=group
    )


def _last_sequence(db: sqlite3.Connection) -> int:
    return db.execute("SELECT max(sequence) FROM audit").fetchone()[0] or 0


def _authenticated(line: Line) -> bytes:
    return msgspec.json.encode(msgspec.structs.replace(line, mac=""))


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""

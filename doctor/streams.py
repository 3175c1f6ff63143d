"""Streams and memberships, on disk: one numbered stream of messages for each group and one for each patient.

Law: every function here runs inside the caller's transaction. A membership starts and ends at a message number, not at an
instant; a patient is a member of its own stream from its enrolment on. What a committed join or leave means for epochs and
connections is `doctor.fanout`'s business.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from shared.errors import StorageError
from shared.wire.messages import Stream, TargetKind

_KINDS = {kind.name.lower(): kind for kind in TargetKind}


@dataclass(frozen=True, slots=True)
class Join:
    """A patient became a member: numbers above `start` are meant for it."""

    stream: Stream
    patient_id: str
    start: int


@dataclass(frozen=True, slots=True)
class Leave:
    """A patient's membership ended: numbers up to `until` were meant for it."""

    stream: Stream
    patient_id: str
    until: int
    reason: str


@dataclass(frozen=True, slots=True)
class Membership:
    """One interval of a stream that is, or was, meant for a patient, and how far it has acknowledged it."""

    stream: Stream
    patient_id: str
    start: int
    until: int | None
    reason: str | None
    delivered: int

    @property
    def owed(self) -> bool:
        """Whether messages may still have to be delivered: to a member, or to one that was removed, not expelled."""
        if self.until is None:
            return True
        return self.reason == "removed" and self.delivered < self.until


def of_group(group: str) -> Stream:
    """The stream of a group's messages."""
    return Stream(TargetKind.GROUP, group)


def of_patient(patient_id: str) -> Stream:
    """The stream of the messages to one patient alone."""
    return Stream(TargetKind.PATIENT, patient_id)


def parse(text: str) -> Stream:
    """The stream of a stored name, which is `str(stream)`.

    Raises:
        StorageError: the name is damaged.
    """
    kind, _, name = text.partition(":")
    known = _KINDS.get(kind)
    if known is None:
        raise StorageError(
            f"streams: {text!r} names no stream, it is damaged; restore the database from a backup"
        )
    return Stream(known, name)


def create(db: sqlite3.Connection, stream: Stream) -> None:
    """Begin a stream; one that exists stays as it is.

    It begins after the numbers of everyone's stream, which are above all that a confirmed restore has burned: a device may
    hold a position in a stream of this name from before, and that must not be above what comes.
    """
    db.execute(
        "INSERT OR IGNORE INTO streams SELECT ?, coalesce(max(last), 0) FROM streams WHERE stream = 'group:everyone'",
        (str(stream),),
    )


def begin_anew(db: sqlite3.Connection, floor: int) -> None:
    """Burn the number `floor` in every stream and make it every member's start; what a member was owed before, it still is."""
    members = db.execute(
        "SELECT stream, patient_id, ? FROM memberships WHERE until IS NULL", (floor,)
    ).fetchall()
    db.execute(
        "UPDATE memberships SET reason = 'removed',"
        " until = (SELECT last FROM streams WHERE streams.stream = memberships.stream) WHERE until IS NULL"
    )
    db.executemany("INSERT INTO memberships VALUES (?1, ?2, ?3, NULL, NULL, ?3)", members)
    db.execute("UPDATE streams SET last = ?", (floor,))


def last_number(db: sqlite3.Connection, stream: Stream) -> int:
    """The last number that was assigned in a stream."""
    row = db.execute("SELECT last FROM streams WHERE stream = ?", (str(stream),)).fetchone()
    return int(row[0])


def last_numbers(db: sqlite3.Connection) -> dict[Stream, int]:
    """The last number of every stream."""
    return {parse(row[0]): row[1] for row in db.execute("SELECT stream, last FROM streams")}


def join(db: sqlite3.Connection, stream: Stream, patient_id: str) -> Join:
    """Make a patient a member from the stream's last number on; a current membership stays as it is."""
    start = last_number(db, stream)
    current = db.execute(
        "SELECT start FROM memberships WHERE stream = ? AND patient_id = ? AND until IS NULL",
        (str(stream), patient_id),
    ).fetchone()
    if current:
        return Join(stream, patient_id, current[0])
    # Where the stream has not moved since the patient left, its last interval simply goes on.
    db.execute(
        "INSERT INTO memberships VALUES (?, ?, ?, NULL, NULL, ?)"
        " ON CONFLICT DO UPDATE SET until = NULL, reason = NULL",
        (str(stream), patient_id, start, start),
    )
    return Join(stream, patient_id, start)


def leave(db: sqlite3.Connection, stream: Stream, patient_id: str, reason: str) -> Leave:
    """End a membership at the stream's last number."""
    until = last_number(db, stream)
    db.execute(
        "UPDATE memberships SET until = ?, reason = ? WHERE stream = ? AND patient_id = ? AND until IS NULL",
        (until, reason, str(stream), patient_id),
    )
    return Leave(stream, patient_id, until, reason)


def leave_all(db: sqlite3.Connection, patient_id: str, reason: str) -> tuple[Leave, ...]:
    """End every membership of a patient. A removed one that is still owed messages is closed with the same reason."""
    db.execute(
        "UPDATE memberships SET reason = ? WHERE patient_id = ? AND reason = 'removed' AND delivered < until",
        (reason, patient_id),
    )
    rows = db.execute(
        "SELECT stream FROM memberships WHERE patient_id = ? AND until IS NULL ORDER BY stream", (patient_id,)
    ).fetchall()
    return tuple(leave(db, parse(row[0]), patient_id, reason) for row in rows)


def is_member(db: sqlite3.Connection, stream: Stream, patient_id: str) -> bool:
    """Whether what is accepted now is meant for the patient."""
    found = db.execute(
        "SELECT 1 FROM memberships WHERE stream = ? AND patient_id = ? AND until IS NULL",
        (str(stream), patient_id),
    ).fetchone()
    return found is not None


def memberships_of(db: sqlite3.Connection, patient_id: str) -> list[Membership]:
    """Every membership of a patient, past ones included, oldest first."""
    rows = db.execute(
        "SELECT stream, patient_id, start, until, reason, delivered FROM memberships"
        " WHERE patient_id = ? ORDER BY stream, start",
        (patient_id,),
    )
    return [Membership(parse(row[0]), *row[1:]) for row in rows]


def current_members(db: sqlite3.Connection) -> list[tuple[str, str]]:
    """Group and patient id of every membership in a group that lasts, in the order of patient ids."""
    rows = db.execute("SELECT stream, patient_id FROM memberships WHERE until IS NULL ORDER BY patient_id")
    found = [(parse(row[0]), row[1]) for row in rows]
    return [(stream.name, patient_id) for stream, patient_id in found if stream.kind is TargetKind.GROUP]

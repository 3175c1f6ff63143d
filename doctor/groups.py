"""Groups and their memberships, on disk. A membership starts and ends at a message number, not at an instant.

Law: every function here runs inside the caller's transaction. What a committed join or leave means for epochs and
connections is `doctor.fanout`'s business.
"""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass

from doctor import audit
from doctor.audit import Action
from shared.errors import UserError
from shared.wire.messages import Stream, TargetKind

EVERYONE = "everyone"

_NAME = re.compile(r"\A[a-z0-9][a-z0-9._-]{0,63}\Z")


@dataclass(frozen=True, slots=True)
class Join:
    """A patient became a member: numbers above `start` are meant for it."""

    group: str
    patient_id: str
    start: int


@dataclass(frozen=True, slots=True)
class Leave:
    """A patient's membership ended: numbers up to `until` were meant for it."""

    group: str
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


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A group as people see it."""

    name: str
    members: tuple[str, ...]


def stream_of(group: str) -> Stream:
    """The stream of a group's messages."""
    return Stream(TargetKind.GROUP, group)


def group_of(stream: str) -> str:
    """The group of a stored stream name."""
    return stream.removeprefix("group:")


def is_name(text: str) -> bool:
    """Whether a text can name a group or a patient."""
    return _NAME.match(text) is not None


def create(db: sqlite3.Connection, name: str, now: int, actor: str) -> None:
    """Make a group without members.

    Raises:
        UserError: the name is taken or not a name.
    """
    if not is_name(name):
        raise UserError(
            f"{name!r} is not a group name: use 1 to 64 of a-z, 0-9, '.', '_' and '-', a letter or digit first."
        )
    if db.execute("SELECT 1 FROM groups WHERE name = ?", (name,)).fetchone():
        raise UserError(f"There is a group {name!r} already.")
    db.execute("INSERT INTO groups VALUES (?, 0, ?)", (name, now))
    db.execute("INSERT INTO streams VALUES (?, 0)", (str(stream_of(name)),))
    audit.append(db, now, actor, Action.GROUP_CREATED, name)


def require(db: sqlite3.Connection, group: str) -> None:
    """Raise UserError unless the group exists."""
    if not db.execute("SELECT 1 FROM groups WHERE name = ?", (group,)).fetchone():
        raise UserError(f"There is no group {group!r}; `telemed-doctor groups list` shows them.")


def last_number(db: sqlite3.Connection, stream: Stream) -> int:
    """The last number that was assigned in a stream."""
    row = db.execute("SELECT last FROM streams WHERE stream = ?", (str(stream),)).fetchone()
    return int(row[0])


def join(db: sqlite3.Connection, group: str, patient_id: str) -> Join:
    """Make a patient a member from the stream's last number on; a current membership stays as it is."""
    stream = stream_of(group)
    start = last_number(db, stream)
    current = db.execute(
        "SELECT start FROM memberships WHERE stream = ? AND patient_id = ? AND until IS NULL",
        (str(stream), patient_id),
    ).fetchone()
    if current:
        return Join(group, patient_id, current[0])
    # Where the stream has not moved since the patient left, its last interval simply goes on.
    db.execute(
        "INSERT INTO memberships VALUES (?, ?, ?, NULL, NULL, ?)"
        " ON CONFLICT DO UPDATE SET until = NULL, reason = NULL",
        (str(stream), patient_id, start, start),
    )
    return Join(group, patient_id, start)


def add(db: sqlite3.Connection, group: str, patient_id: str, now: int, actor: str) -> Join:
    """Add a patient to a group, by order of a person.

    Raises:
        UserError: no such group or active patient, or a member already.
    """
    require(db, group)
    row = db.execute("SELECT standing FROM patients WHERE patient_id = ?", (patient_id,)).fetchone()
    if row is None or row[0] != "active":
        state = "is " + row[0] if row else "is not enrolled"
        raise UserError(f"Patient {patient_id} {state} and cannot be added to {group}.")
    if _is_member(db, group, patient_id):
        raise UserError(f"Patient {patient_id} is a member of {group} already.")
    joined = join(db, group, patient_id)
    audit.append(db, now, actor, Action.MEMBER_ADDED, patient_id, f"group {group}")
    return joined


def remove(db: sqlite3.Connection, group: str, patient_id: str, now: int, actor: str) -> Leave:
    """Remove a patient from a group, by order of a person. What was accepted before stays meant for it.

    Raises:
        UserError: no such group, not a member, or the group is `everyone`.
    """
    require(db, group)
    if group == EVERYONE:
        raise UserError(f"Every active patient is in {EVERYONE!r}; revoke or retire the patient instead.")
    if not _is_member(db, group, patient_id):
        raise UserError(f"Patient {patient_id} is not a member of {group}.")
    left = _leave(db, stream_of(group), patient_id, "removed")
    audit.append(db, now, actor, Action.MEMBER_REMOVED, patient_id, f"group {group}")
    return left


def leave_all(db: sqlite3.Connection, patient_id: str, reason: str) -> tuple[Leave, ...]:
    """End every membership of a patient. A removed one that is still owed messages is closed with the same reason."""
    db.execute(
        "UPDATE memberships SET reason = ? WHERE patient_id = ? AND reason = 'removed' AND delivered < until",
        (reason, patient_id),
    )
    streams = db.execute(
        "SELECT stream FROM memberships WHERE patient_id = ? AND until IS NULL ORDER BY stream", (patient_id,)
    ).fetchall()
    return tuple(_leave(db, stream_of(group_of(row[0])), patient_id, reason) for row in streams)


def _leave(db: sqlite3.Connection, stream: Stream, patient_id: str, reason: str) -> Leave:
    until = last_number(db, stream)
    db.execute(
        "UPDATE memberships SET until = ?, reason = ? WHERE stream = ? AND patient_id = ? AND until IS NULL",
        (until, reason, str(stream), patient_id),
    )
    return Leave(stream.name, patient_id, until, reason)


def _is_member(db: sqlite3.Connection, group: str, patient_id: str) -> bool:
    found = db.execute(
        "SELECT 1 FROM memberships WHERE stream = ? AND patient_id = ? AND until IS NULL",
        (str(stream_of(group)), patient_id),
    ).fetchone()
    return found is not None


def memberships_of(db: sqlite3.Connection, patient_id: str) -> list[Membership]:
    """Every membership of a patient, past ones included, oldest first."""
    rows = db.execute(
        "SELECT stream, patient_id, start, until, reason, delivered FROM memberships"
        " WHERE patient_id = ? ORDER BY stream, start",
        (patient_id,),
    )
    return [Membership(stream_of(group_of(row[0])), *row[1:]) for row in rows]


def list_groups(db: sqlite3.Connection) -> list[GroupRow]:
    """All groups with their current members, by name."""
    members: dict[str, list[str]] = {}
    rows = db.execute("SELECT stream, patient_id FROM memberships WHERE until IS NULL ORDER BY patient_id")
    for stream, patient_id in rows:
        members.setdefault(group_of(stream), []).append(patient_id)
    return [
        GroupRow(name, tuple(members.get(name, ())))
        for (name,) in db.execute("SELECT name FROM groups ORDER BY name")
    ]

"""Groups and who is in them, on disk, as people order it.

Law: every function here runs inside the caller's transaction.
"""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass

from doctor import audit, streams
from doctor.audit import Action
from doctor.streams import Join, Leave
from shared.errors import UserError

EVERYONE = "everyone"

_ENTRY = "group "  # how the detail of an audit entry names a group
_NAME = re.compile(r"\A[a-z0-9][a-z0-9._-]{0,63}\Z")


@dataclass(frozen=True, slots=True)
class GroupRow:
    """A group as people see it."""

    name: str
    members: tuple[str, ...]


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
    streams.create(db, streams.of_group(name))
    audit.append(db, now, actor, Action.GROUP_CREATED, name)


def of_entry(detail: str) -> str:
    """The group that the audit entry of an added or removed member names."""
    return detail.removeprefix(_ENTRY)


def require(db: sqlite3.Connection, group: str) -> None:
    """Raise UserError unless the group exists."""
    if not db.execute("SELECT 1 FROM groups WHERE name = ?", (group,)).fetchone():
        raise UserError(f"There is no group {group!r}; `telemed-doctor groups list` shows them.")


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
    if streams.is_member(db, streams.of_group(group), patient_id):
        raise UserError(f"Patient {patient_id} is a member of {group} already.")
    joined = streams.join(db, streams.of_group(group), patient_id)
    audit.append(db, now, actor, Action.MEMBER_ADDED, patient_id, _ENTRY + group)
    return joined


def remove(db: sqlite3.Connection, group: str, patient_id: str, now: int, actor: str) -> Leave:
    """Remove a patient from a group, by order of a person. What was accepted before stays meant for it.

    Raises:
        UserError: no such group, not a member, or the group is `everyone`.
    """
    require(db, group)
    if group == EVERYONE:
        raise UserError(f"Every active patient is in {EVERYONE!r}; revoke or retire the patient instead.")
    if not streams.is_member(db, streams.of_group(group), patient_id):
        raise UserError(f"Patient {patient_id} is not a member of {group}.")
    left = streams.leave(db, streams.of_group(group), patient_id, "removed")
    audit.append(db, now, actor, Action.MEMBER_REMOVED, patient_id, _ENTRY + group)
    return left


def list_groups(db: sqlite3.Connection) -> list[GroupRow]:
    """All groups with their current members, by name."""
    members: dict[str, list[str]] = {}
    for group, patient_id in streams.current_members(db):
        members.setdefault(group, []).append(patient_id)
    return [
        GroupRow(name, tuple(members.get(name, ())))
        for (name,) in db.execute("SELECT name FROM groups ORDER BY name")
    ]

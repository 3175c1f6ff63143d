"""The audit log, read backwards a part at a time.

Law: every answer has a bound. Nothing indexes the log by what an entry says, so a search looks at so many entries and says where it
has stopped; whoever asks goes on from there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass

from doctor.audit import Action

SEARCHED = 20_000  # entries that one question looks at: some hundredths of a second


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry as people read it; `time` in milliseconds since the Unix epoch."""

    sequence: int
    time: int
    actor: str
    action: str
    subject: str
    detail: str


@dataclass(frozen=True, slots=True)
class Found:
    """Entries, newest first. `older`: where to go on, or None where the log begins; `whole`: as many as were asked for."""

    entries: list[Entry]
    older: int | None
    whole: bool


def last(db: sqlite3.Connection) -> int:
    """The newest entry's number; 0 where there is none."""
    (found,) = db.execute("SELECT coalesce(max(sequence), 0) FROM audit").fetchone()
    return int(found)


def find(
    db: sqlite3.Connection,
    limit: int,
    before: int | None = None,
    actions: Collection[Action] = (),
    subject: str = "",
) -> Found:
    """The newest entries of these actions, () for any, about this subject, "" for any, that stand before an entry."""
    end = last(db) + 1
    end = end if before is None else max(1, min(before, end))
    floor = max(0, end - 1 - SEARCHED)
    where, values = ["sequence < ? AND sequence > ?"], [end, floor]
    wanted: list[object] = [*values]
    if actions:
        where.append(f"action IN ({', '.join('?' * len(actions))})")
        wanted += [action.value for action in actions]
    if subject:
        where.append("object = ?")
        wanted.append(subject)
    rows = db.execute(
        "SELECT sequence, time, actor, action, object, detail FROM audit"  # noqa: S608  made of our own words
        f" WHERE {' AND '.join(where)} ORDER BY sequence DESC LIMIT ?",
        [*wanted, limit],
    )
    entries = [Entry(*row) for row in rows]
    whole = len(entries) == limit
    reached = entries[-1].sequence if whole else floor + 1
    return Found(entries, reached if reached > 1 else None, whole)

"""When each group got a new key, and why, as the audit log tells it.

The log says that an epoch began and for how many members; why it did stands in the entries before it: who came, who left, that the
doctor started. Where none of them explains it, the key was renewed by time, or for a device that came back to a group.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from doctor import chronicle, groups
from doctor.audit import Action
from doctor.chronicle import Entry

SHOWN = 12  # epochs of each group
NAMED = 3  # patients in one reason
READ = 600  # entries that are looked at

_EPOCH = re.compile(r"\Aepoch ([0-9]+), ([0-9]+) members\Z")
_JOINED = (Action.ENROLLED, Action.MEMBER_ADDED)
_LEFT = (Action.MEMBER_REMOVED, Action.REVOKED, Action.RETIRED)
_ACTIONS = (Action.EPOCH_BEGUN, Action.STARTED, Action.RESTORED, *_JOINED, *_LEFT)


@dataclass(frozen=True, slots=True)
class EpochRow:
    """One epoch. `time` in milliseconds since the Unix epoch; `why` for people."""

    number: int
    time: int
    members: int
    why: str


def history(db: sqlite3.Connection) -> dict[str, list[EpochRow]]:
    """The last epochs of each group that had one lately, newest first."""
    entries = list(reversed(chronicle.find(db, READ, actions=_ACTIONS).entries))
    return {group: rows[: -SHOWN - 1 : -1] for group, rows in sorted(_rows(entries).items())}


def _rows(entries: Iterable[Entry]) -> dict[str, list[EpochRow]]:
    """By group, oldest first."""
    found: dict[str, list[EpochRow]] = {}
    since: dict[str, list[Entry]] = {}
    events: list[Entry] = []
    for entry in entries:
        told = _EPOCH.match(entry.detail) if entry.action == Action.EPOCH_BEGUN.value else None
        if told is None:
            events.append(entry)
            for waiting in since.values():
                waiting.append(entry)
            continue
        number, members = int(told[1]), int(told[2])
        earlier = found.setdefault(entry.subject, [])
        change = members - earlier[-1].members if earlier else None
        causes = since.get(entry.subject, events)
        # An epoch's entry may be written a moment after it began: what was ordered since is the next one's cause.
        own = [cause for cause in causes if cause.time <= entry.time]
        earlier.append(EpochRow(number, entry.time, members, _why(entry.subject, number, change, own)))
        since[entry.subject] = [cause for cause in causes if cause.time > entry.time]
    return found


def _why(group: str, number: int, change: int | None, causes: list[Entry]) -> str:
    if number == 1:
        return "The group was made."
    actions = {entry.action for entry in causes}
    if Action.STARTED.value in actions:
        return "The doctor started: no key outlives a restart."
    if Action.RESTORED.value in actions:
        return "A restored database was confirmed."
    parts = []
    if joined := [each.subject for each in causes if _concerns(each, _JOINED, group)]:
        parts.append(f"{_names(joined)} joined, and reads nothing from before.")
    if left := [each.subject for each in causes if _concerns(each, _LEFT, group)]:
        parts.append(f"{_names(left)} left, and reads nothing from now on.")
    if not parts and change:
        parts.append(f"{abs(change)} {'joined' if change > 0 else 'left'}.")
    return " ".join(parts) or "Renewed: its time was over, or a member came back to it."


def _concerns(entry: Entry, actions: tuple[Action, ...], group: str) -> bool:
    """Whether an entry is about this group: an enrolment and a departure are surely about everyone's."""
    if entry.action not in {action.value for action in actions}:
        return False
    if entry.action in (Action.MEMBER_ADDED.value, Action.MEMBER_REMOVED.value):
        return groups.of_entry(entry.detail) == group
    return group == groups.EVERYONE


def _names(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")

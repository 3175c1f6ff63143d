"""The audit log: a hash chain of what was done to the roster, the groups and the messages, and by whom.

Every entry is written in the transaction of the act it records, so neither exists without the other. A chain alone does not
show that its end was cut off; therefore its head is signed and kept outside the database (`doctor.heads`), and `verify`
compares the two.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from enum import Enum, unique
from pathlib import Path

from doctor import heads
from doctor.heads import Head
from shared.crypto import kdf
from shared.crypto.kdf import Label
from shared.errors import StorageError
from shared.protocol.envelopes import FormerKey
from shared.storage.sqlite import open_reader

GENESIS = bytes(32)


@unique
class Action(Enum):
    """What an entry records."""

    STARTED = "started"
    INVITED = "invited"
    ENROLLED = "enrolled"
    ADMITTED = "admitted"
    ADMITTED_MORE = "admitted-more"
    REFUSED = "refused"
    REVOKED = "revoked"
    RETIRED = "retired"
    GROUP_CREATED = "group-created"
    MEMBER_ADDED = "member-added"
    MEMBER_REMOVED = "member-removed"
    EPOCH_BEGUN = "epoch-begun"
    BROADCAST_ACCEPTED = "broadcast-accepted"
    MESSAGE_ACCEPTED = "message-accepted"
    REPORTS_FORGOTTEN = "reports-forgotten"
    REPLACED_OFTEN = "replaced-often"
    RECEIPT_IMPOSSIBLE = "receipt-impossible"
    RECEIPTS = "receipts"
    REPORT_KEPT = "report-kept"
    STRANGERS_REFUSED = "strangers-refused"
    ENTRIES_LOST = "entries-lost"
    BODIES_ERASED = "bodies-erased"
    BACKUP_MADE = "backup-made"
    RESTORE_FOUND = "restore-found"
    INVITATIONS_VOIDED = "invitations-voided"
    RESTORED = "restored"
    CLOCK_ACCEPTED = "clock-accepted"
    OPERATOR_ADDED = "operator-added"
    OPERATOR_REMOVED = "operator-removed"
    PASSWORD_CHANGED = "password-changed"  # noqa: S105  an action's name
    THRESHOLDS_CHANGED = "thresholds-changed"
    ALERT_RAISED = "alert-raised"
    ALERT_ACKNOWLEDGED = "alert-acknowledged"
    KEYS_ROTATED = "keys-rotated"
    ROTATION_COMPLETE = "rotation-complete"
    LOGGED_IN = "logged-in"
    LOGGED_OUT = "logged-out"
    LOGIN_FAILED = "login-failed"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `verify` found. `first_bad` names the first entry that does not fit, or None.

    `events` names what is no fault but must not go unseen: a restore that the operator has confirmed.
    """

    entries: int
    heads: int
    first_bad: int | None
    reason: str | None
    events: tuple[str, ...] = ()


def entry_hash(previous: bytes, sequence: int, time: int, texts: tuple[str, str, str, str]) -> bytes:
    """hash_n = H(hash_{n−1} ‖ n ‖ time ‖ actor ‖ action ‖ object ‖ detail)."""
    numbers = (sequence.to_bytes(8, "big"), time.to_bytes(8, "big"))
    return kdf.digest(Label.AUDIT_ENTRY, previous, *numbers, *(text.encode() for text in texts))


def append(
    db: sqlite3.Connection, now: int, actor: str, action: Action, subject: str, detail: str = ""
) -> int:
    """Add an entry inside the caller's transaction; returns its sequence number."""
    row = db.execute("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1").fetchone()
    sequence, previous = (row[0] + 1, row[1]) if row else (1, GENESIS)
    texts = (actor, action.value, subject, detail)
    db.execute(
        "INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?)",
        (sequence, now, *texts, entry_hash(previous, sequence, now, texts)),
    )
    return sequence


def verify(
    db: sqlite3.Connection,
    directory: Path,
    public_key: bytes,
    algorithm: int,
    former: Sequence[FormerKey] = (),
) -> Verdict:
    """Recompute the chain and hold the signed heads against it. `former`: the keys before this one, oldest first.

    Raises:
        StorageError: the heads file cannot be read, or a line of it is damaged; names it.
    """
    # The heads first: one that is written meanwhile would name an entry that was not there yet when the log was read.
    unreadable, lines = None, list[Head]()
    try:
        lines = heads.read(directory)
    except StorageError as error:
        unreadable = error
    chain = _recompute(db, {line.sequence for line in lines})
    held = _hold_heads(lines, chain, heads.signer_of(public_key, algorithm, former))
    if chain.bad is not None:  # a damaged heads file is not what is told first
        if held.first_bad is not None and held.first_bad <= chain.entries:
            return held  # a head contradicts an entry before the first that does not follow
        return Verdict(chain.entries, 0, chain.entries + 1, chain.bad)
    if unreadable is not None:
        raise unreadable
    return held


def verify_chain(db: sqlite3.Connection) -> str | None:
    """What is wrong with the first entry that does not follow from those before it; None where all do."""
    return _recompute(db, frozenset()).bad


@dataclass(frozen=True, slots=True)
class _Chain:
    """A log, recomputed.

    Attributes:
        entries: how many follow from those before them.
        hashes: those that were wanted, by sequence number, in hexadecimal digits: a log of years has millions of them.
        bad: what is wrong with the next one; None: there is none.
    """

    entries: int
    hashes: dict[int, str]
    bad: str | None


_TYPES = (int, int, str, str, str, str, bytes)


def _recompute(db: sqlite3.Connection, wanted: Set[int]) -> _Chain:
    """Go through the entries up to the first that does not fit. `wanted`: the numbers whose hashes are asked for; 0 is the genesis."""
    previous, entries, hashes = GENESIS, 0, {0: GENESIS.hex()}
    rows = db.execute(
        "SELECT sequence, time, actor, action, object, detail, hash FROM audit ORDER BY sequence"
    )
    try:
        for row in rows:
            expected = entries + 1
            if row[0] != expected:
                return _Chain(entries, hashes, f"entry {expected} is missing")
            if tuple(map(type, row)) != _TYPES or row[1] < 0:
                return _Chain(entries, hashes, f"entry {expected} was changed")
            if entry_hash(previous, row[0], row[1], row[2:6]) != row[6]:
                return _Chain(entries, hashes, f"entry {expected} was changed")
            previous, entries = row[6], expected
            if expected in wanted:
                hashes[expected] = previous.hex()
    except (
        sqlite3.Error,
        StorageError,
        UnicodeDecodeError,
    ) as error:  # bytes that are no text, or a page that is none
        return _Chain(entries, hashes, f"entry {entries + 1} cannot be read ({error})")
    return _Chain(entries, hashes, None)


def _hold_heads(lines: list[Head], chain: _Chain, signed_by: Callable[[Head], int | None]) -> Verdict:
    """Judge the heads in the order in which they were written, without those that a confirmed restore has voided.

    Whoever has stolen a key that was rotated away can add nothing behind the first head under its successor.
    """
    entries, events, newest_key = chain.entries, [], 0
    void, displaced = heads.voided(lines), heads.out_of_place(lines)
    for position, head in enumerate(lines):
        reason, key = None, signed_by(head)
        newest_key = max(newest_key, key or 0)
        if key is None:
            reason = f"the signed head for entry {head.sequence} is not the doctor's"
        elif key < newest_key:
            reason = f"the signed head for entry {head.sequence} is under a key that had been rotated away"
        elif position == displaced and head.kept is not None:
            reason = f"the signed heads before line {position + 1} are not those that were kept: one was taken out, or moved"
        elif position == displaced:
            reason = f"line {position + 1} of the signed heads was written as line {head.place}: one before it was taken out, or moved"
        elif position in void:
            continue
        elif head.sequence > entries:
            reason = f"the log was cut: a signed head names entry {head.sequence}, the last is {entries}"
        elif chain.hashes[head.sequence] != head.hash:
            reason = f"entry {head.sequence} is not the one that the signed head names: the log was forked"
        elif head.base is not None:
            events.append(_restore_event(head, lines[:position]))
        if reason is not None:
            return Verdict(entries, position, min(head.sequence, entries + 1), reason, tuple(events))
    return Verdict(entries, len(lines), None, None, tuple(events))


def _restore_event(head: Head, earlier: list[Head]) -> str:
    base = head.base or 0
    newest = max((line.sequence for line in earlier), default=base)
    lost = f"heads of the former log up to entry {newest} are void" if newest > base else "no head is void"
    return f"entry {head.sequence} records a confirmed restore to entry {base}; {lost}"


def verify_file(
    path: Path, directory: Path, public_key: bytes, algorithm: int, former: Sequence[FormerKey] = ()
) -> Verdict:
    """`verify` on a connection of its own, for a thread of its own."""
    with contextlib.closing(open_reader(path, once=True)) as db:
        return verify(db, directory, public_key, algorithm, former)

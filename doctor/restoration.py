"""A database that is an older state of itself: how it is noticed, what is done about it, and how the doctor goes on.

Law: until the operator has confirmed it, the doctor on such a database accepts no message, admits no device and delivers nothing.
What the journal knows is done again at once: who was revoked since is revoked, who was removed from a group is out of it, and every
open invitation is void.
Confirming is one transaction. It burns a number in every stream that is above every number that can have been issued, and every
member starts anew after it: so what devices hold from the time that is lost neither blocks them nor is taken for a fault.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from doctor import audit, facts, heads, redoing, streams
from doctor.audit import Action
from doctor.facts import Confirmed, Restored
from doctor.heads import Head
from doctor.journal import Line
from doctor.keyring import Keyring
from shared.crypto.signatures import SigningKey
from shared.errors import StorageError, UserError
from shared.storage.sealed import Sealer


class Unconfirmed(UserError):
    """The doctor's database is an older one, and the operator has not confirmed it yet."""

    def __init__(self) -> None:
        super().__init__(
            "This doctor's database is a restored one, and nobody has confirmed it: nothing is accepted, admitted or"
            " delivered. `telemed-doctor confirm-restore` shows what is missing and lets the doctor go on."
        )


@dataclass(frozen=True, slots=True)
class Lost:
    """What is known of the entries that the database does not have: the newest signed one, and the journal's lines."""

    newest: int
    newest_time: int
    lines: tuple[Line, ...]

    def subjects(self, action: Action) -> list[str]:
        """Whom the lost entries of a kind are about."""
        return sorted({line.subject for line in self.lines if line.action == action.value})

    def removals(self) -> list[Line]:
        """The lost removals of a member from a group that were not taken back, by group and patient: the last word counts."""
        last = {(line.group, line.subject): line for line in self.lines if line.group}
        standing = (line for line in last.values() if line.action == Action.MEMBER_REMOVED.value)
        return sorted(standing, key=lambda line: (line.group, line.subject))


NOTHING_LOST = Lost(0, 0, ())


class Restoration:
    """Whether a restored database waits to be confirmed. `pending` None: it does not, or there is none.

    Attributes:
        lost: what the pending one lacks.
        line_due: the heads file does not say yet that the last one was confirmed.
        confirmed_at: when that was, in milliseconds since the Unix epoch; 0: never.
    """

    def __init__(self, pending: Restored | None, lost: Lost, confirmed_at: int) -> None:
        self.pending = pending
        self.lost = lost
        self.line_due = False
        self.confirmed_at = confirmed_at

    def require_confirmed(self) -> None:
        """Raise Unconfirmed where the operator's word is missing."""
        if self.pending is not None:
            raise Unconfirmed

    def confirmed(self, now: int) -> None:
        """It was confirmed, and that is on the disk."""
        self.pending, self.lost, self.line_due, self.confirmed_at = None, NOTHING_LOST, True, now


def look(
    db: sqlite3.Connection,
    sealer: Sealer,
    lines: Sequence[Line],
    voided: Sequence[Line],
    directory: Path,
    keys: Keyring,
    now: int,
) -> tuple[Restored | None, Lost]:
    """Whether a database is an older state, by its own word, the journal's or the signed heads'; and what it lacks.

    Args:
        lines: those of the journal that the database does not have.
        voided: those that confirmed restores have voided which it does not have either. They do not make it an older state, but
            where it is one, nobody comes back for it whom they say is revoked.
        directory: where the heads are.

    Raises:
        StorageError: the heads file is damaged or not this doctor's.
    """
    complete_heads(db, sealer, directory, keys.identity, now)
    ahead = _heads_ahead(db, directory, keys)
    sequences = [line.sequence for line in lines] + [head.sequence for head in ahead]
    times = [line.time for line in lines] + [head.time for head in ahead]
    lost = Lost(max(sequences, default=0), max(times, default=0), (*voided, *lines))
    mark = facts.read(db, sealer, Restored)
    if mark is not None or not sequences:
        return mark, lost
    last = heads.last_entry(db)
    base = min(last.sequence if last else 0, min(sequences) - 1)
    source = "the signed audit head" if ahead else "the journal"
    return mark_at(db, base, now, f"{source} names entry {lost.newest}, which it does not have"), lost


def mark_at(db: sqlite3.Connection, base: int, now: int, cause: str) -> Restored:
    """The mark of a database whose log is the former one up to entry `base`."""
    row = db.execute("SELECT hash, time FROM audit WHERE sequence = ?", (base,)).fetchone()
    digest, time = row if row is not None else (audit.GENESIS, 0)
    return Restored(base, digest.hex(), time, now, cause)


def _heads_ahead(db: sqlite3.Connection, directory: Path, keys: Keyring) -> list[Head]:
    """The heads that name an entry which the database does not have; none where it has the newest one's."""
    newest = heads.newest(directory)
    if newest is None:
        return []
    is_ours = heads.verifier(keys.identity.public, keys.identity.algorithm, keys.former)
    if not is_ours(newest):
        raise StorageError(
            f"{directory / heads.HEADS_FILE}: the last line is not signed by this doctor's key. Put the file back from a copy,"
            " or move it away: the doctor then writes a new one, and what was cut off before it can no longer be told."
        )
    if heads.holds(db, newest.sequence, newest.hash):
        return []
    lines = [head for head in heads.read(directory) if head.base is None or is_ours(head)]
    # One that is void stays so where somebody who only has the file writes it once more.
    void = {(lines[at].sequence, lines[at].hash) for at in heads.voided(lines)}
    standing = [head for head in lines if (head.sequence, head.hash) not in void]
    ahead = [head for head in standing if not heads.holds(db, head.sequence, head.hash)]
    return [head for head in ahead if is_ours(head)]  # a forged one must not say what is lost, nor until when


def complete_heads(
    db: sqlite3.Connection, sealer: Sealer, directory: Path, key: SigningKey, now: int
) -> None:
    """Say in the heads file that the last restore was confirmed, if it does not say so: a crash, or the disk, came in between.

    Raises:
        StorageError: the file cannot be read or written.
    """
    confirmed = facts.read(db, sealer, Confirmed)
    if confirmed is None or not heads.holds(db, confirmed.sequence, confirmed.hash):
        return
    newest = heads.newest(directory)
    if (
        newest is not None
        and newest.sequence >= confirmed.sequence
        and heads.holds(db, newest.sequence, newest.hash)
    ):
        return  # no head of the log that goes on is written before that line
    said = any(
        head.base == confirmed.base and head.hash == confirmed.hash
        for head in heads.read(directory)
        if head.base is not None
    )
    if not said:
        entry = heads.Entry(confirmed.sequence, confirmed.hash)
        heads.append(directory, key, entry, now, confirmed.base)


def enter(db: sqlite3.Connection, sealer: Sealer, mark: Restored, lost: Lost, now: int) -> Restored:
    """Do again what the journal knows and void every open invitation, inside the caller's transaction; once is enough."""
    again = [
        *(redoing.revoke(db, line, now) for line in lost.lines if line.action == Action.REVOKED.value),
        *(redoing.remove(db, line, now) for line in lost.removals()),
    ]
    voided = db.execute(
        "UPDATE invitations SET secret = NULL, uses_left = 0 WHERE secret IS NOT NULL OR uses_left > 0"
    ).rowcount
    if mark.entered and not any(again) and not voided:
        return mark
    if not mark.entered:
        detail = f"{mark.cause}; it shares the log up to entry {mark.base}"
        audit.append(db, now, "gateway", Action.RESTORE_FOUND, "database", detail)
        # Who was removed from the console's operators since, or has a new password, must not come back with the old one.
        for (name,) in db.execute("DELETE FROM operators RETURNING name").fetchall():
            audit.append(db, now, "gateway", Action.OPERATOR_REMOVED, name, "restored")
    if voided:
        audit.append(db, now, "gateway", Action.INVITATIONS_VOIDED, "database", f"{voided} open ones")
    entered = Restored(
        mark.base, mark.base_hash, mark.base_time, mark.found, mark.cause, mark.voided + voided, entered=True
    )
    facts.write(db, sealer, entered)
    return entered


@dataclass(frozen=True, slots=True)
class Gap:
    """Numbers above `after`, up to and including `floor`, are given to no message of the stream."""

    stream: str
    after: int
    floor: int


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A confirmed restore, as committed."""

    base: int
    newest: int
    floor: int
    gaps: tuple[Gap, ...]


def confirm(
    db: sqlite3.Connection, sealer: Sealer, mark: Restored, lost: Lost, now: int, actor: str
) -> Confirmation:
    """Let the streams go on above everything that can have been issued, inside the caller's transaction.

    Raises:
        UserError: it was confirmed a moment ago, or this machine's clock is behind the newest thing that is known.
    """
    if facts.read(db, sealer, Restored) is None:
        raise UserError("No restored database waits to be confirmed.")
    if now < lost.newest_time:
        behind = (lost.newest_time - now) / 1000
        raise UserError(
            f"This machine's clock is {behind:.0f} s behind the newest entry that is known: set the clock first, numbers are"
            " taken from it."
        )
    last = streams.last_numbers(db)
    # Issued numbers are microseconds, or one more than the number before: none that was lost is above the present one.
    floor = max(now * 1000, max(last.values(), default=0) + 1)
    streams.begin_anew(db, floor)
    gaps = tuple(Gap(str(stream), after, floor) for stream, after in sorted(last.items(), key=str))
    ends = ", ".join(f"{gap.stream} after {gap.after}" for gap in gaps if gap.stream.startswith("group:"))
    missing = (
        f"entries {mark.base + 1} to {lost.newest} are lost"
        if lost.newest > mark.base
        else "no entry is known to be lost"
    )
    detail = f"{missing}; {len(gaps)} streams go on after {floor}: {ends}"
    sequence = audit.append(db, now, actor, Action.RESTORED, str(mark.base), detail)
    (digest,) = db.execute("SELECT hash FROM audit WHERE sequence = ?", (sequence,)).fetchone()
    facts.write(db, sealer, Confirmed(sequence, digest.hex(), mark.base, floor, now))
    facts.erase(db, Restored)
    return Confirmation(mark.base, lost.newest, floor, gaps)

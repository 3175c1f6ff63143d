"""Whether this machine's clock can be right, as far as the database tells: messages are numbered by it.

Law: a doctor does not start with a clock that is behind its newest message, unless its operator has said that the clock was ahead when
that one was accepted. It is said of the message and not of the clock, which must not be behind the last audit entry then.
"""

from __future__ import annotations

import sqlite3

from doctor import audit, facts
from doctor.audit import Action
from doctor.facts import Fact
from shared.errors import StorageError
from shared.storage.sealed import Sealer

# Behind an accepted number the next ones follow one by one, until the clock has caught up: none comes so far in that time, and a
# clock that is ahead by more once again is found out.
_FOLLOWING = 3_600_000_000


class ClockAccepted(Fact, frozen=True):
    """The operator's word that the clock was ahead when the message of this number was accepted, which was the newest."""

    number: int


def newest(db: sqlite3.Connection) -> int:
    """The highest number of all streams, in microseconds since the Unix epoch where no clock was ahead; 0: there is none."""
    return int(db.execute("SELECT max(last) FROM streams").fetchone()[0] or 0)


def behind(db: sqlite3.Connection, sealer: Sealer, now: int) -> float:
    """By how many seconds the clock is behind what it has to be, 0: it is not. `now` in milliseconds.

    Raises:
        StorageError: what the operator has said cannot be read.
    """
    number = newest(db)
    if number <= now * 1000:
        return 0.0
    accepted = facts.read(db, sealer, ClockAccepted)
    if accepted is None or number > accepted.number + _FOLLOWING:
        return (number - now * 1000) / 1_000_000
    row = db.execute("SELECT time FROM audit ORDER BY sequence DESC LIMIT 1").fetchone()
    return max(0, row[0] - now) / 1000 if row else 0.0


def require(db: sqlite3.Connection, sealer: Sealer, now: int) -> None:
    """Refuse to start with a clock that is behind.

    Raises:
        StorageError: says by how much, and what to do.
    """
    if by := behind(db, sealer, now):
        raise StorageError(
            f"This machine's clock is {by:.0f} s behind the newest message, or the last audit entry. If it is wrong, set it, then start"
            " again. If it is right, and was ahead when that was written: `telemed-doctor accept-clock`, then start again."
        )


def accept(db: sqlite3.Connection, sealer: Sealer, now: int, actor: str) -> None:
    """Note the operator's word that the clock is right now, inside the caller's transaction."""
    number = newest(db)
    detail = f"right now, {behind(db, sealer, now):.0f} s behind what was written when it was ahead; the newest number is {number}"
    facts.write(db, sealer, ClockAccepted(number))
    audit.append(db, now, actor, Action.CLOCK_ACCEPTED, "clock", detail)

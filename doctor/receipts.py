"""What became of each message, for each patient it was meant for.

An acknowledgement is cumulative, so one number a membership says it all: everything up to `delivered` was applied, but for
the numbers that came too late to be shown. Acknowledgements that pile up while a commit is under way share the next one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, unique

import msgspec

from doctor import audit
from doctor.audit import Action
from shared.errors import StorageError, UserError
from shared.logs import get_logger
from shared.message_ids import message_id
from shared.net.stream import clock
from shared.storage.writer import Writer
from shared.wire.messages import Stream

_log = get_logger("receipts")


@unique
class Delivery(Enum):
    """The state of one message for one patient."""

    QUEUED = "queued"  # waits for the patient to come back
    SENT = "sent"  # written to its connection, not acknowledged yet
    DELIVERED = "delivered"  # applied and acknowledged
    EXPIRED = "expired"  # its time ran out before the patient could show it
    REVOKED = "revoked"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class ReceiptRow:
    """One recipient of one message."""

    patient: str
    state: Delivery


class Acknowledgement(msgspec.Struct, frozen=True):
    """A patient has applied everything of a stream up to `last`; `expired` it did not show.

    A struct, because there is one for each receipt: a frozen dataclass takes five times as long to make.
    """

    stream: Stream
    patient_id: str
    last: int
    expired: tuple[int, ...]


class Receipts:
    """Collects acknowledgements and commits them together.

    Args:
        writer: the database's writer.
        on_commit: told what was committed, on the event loop.
    """

    def __init__(self, writer: Writer, on_commit: Callable[[list[Acknowledgement]], None]) -> None:
        self._writer = writer
        self._on_commit = on_commit
        self._waiting: dict[tuple[Stream, str], Acknowledgement] = {}
        self._writing = False
        self.stored = 0  # acknowledgements, since the start

    @property
    def waiting(self) -> int:
        """How many acknowledgements wait for the disk."""
        return len(self._waiting)

    def record(self, acknowledgement: Acknowledgement) -> None:
        """Note an acknowledgement; it is committed soon."""
        key = (acknowledgement.stream, acknowledgement.patient_id)
        earlier = self._waiting.get(key)
        self._waiting[key] = acknowledgement if earlier is None else _merged(earlier, acknowledgement)
        self.write_waiting()

    def write_waiting(self) -> None:
        """Commit what waits, unless that is under way; called now and then, for what the disk refused before."""
        if self._waiting and not self._writing:
            self._write()

    def _write(self) -> None:
        batch = list(self._waiting.values())
        self._waiting.clear()
        self._writing = True
        now = clock().wall
        future = self._writer.submit_nowait(lambda db: commit(db, batch, now))
        future.add_done_callback(lambda done: self._written(batch, done.exception()))

    def _written(self, batch: list[Acknowledgement], error: BaseException | None) -> None:
        self._writing = False
        if error is None:
            self.stored += len(batch)
            self._on_commit(batch)
            self.write_waiting()
            return
        # What the disk refused goes with what comes next, or after a while: a full disk is not asked again at once.
        for earlier in batch:
            key = (earlier.stream, earlier.patient_id)
            later = self._waiting.get(key)
            self._waiting[key] = earlier if later is None else _merged(earlier, later)
        if not isinstance(error, StorageError):
            raise error
        _log.error("receipts not stored", pending=len(self._waiting), cause=str(error))


def _merged(earlier: Acknowledgement, later: Acknowledgement) -> Acknowledgement:
    last, expired = max(earlier.last, later.last), earlier.expired + later.expired
    return Acknowledgement(later.stream, later.patient_id, last, expired)


def known(db: sqlite3.Connection, stream: Stream, claimed: Iterable[int]) -> tuple[int, ...]:
    """Those of the numbers that are messages of the stream, each once and in order.

    What waits for the disk is bounded by that: a patient can name a thousand numbers in each receipt that are no message's.
    """
    rows = db.execute(
        "SELECT number FROM messages WHERE stream = ? AND number IN (SELECT value FROM json_each(?)) ORDER BY number",
        (str(stream), msgspec.json.encode(list(claimed)).decode()),
    )
    return tuple(number for (number,) in rows)


def commit(db: sqlite3.Connection, batch: Iterable[Acknowledgement], now: int) -> None:
    """Store acknowledgements, inside the caller's transaction, with one audit entry for all that say something new.

    Args:
        batch: at most one of a patient in each stream.

    Nothing ever moves back. One that reaches beyond a membership's end completes it where the patient was removed: what it was owed
    came first. It does not where the patient was retired: it came back as a new member and was never sent the rest.
    """
    by_stream: dict[Stream, dict[str, Acknowledgement]] = {}
    for each in batch:
        by_stream.setdefault(each.stream, {})[each.patient_id] = each
    moved = [each for stream, in_stream in by_stream.items() for each in _move(db, stream, in_stream)]
    expired = [(each, number) for each in moved if each.expired for number in _expire(db, each)]
    detail = _detail(_complete(db, moved), expired)
    if detail:
        audit.append(db, now, "gateway", Action.RECEIPTS, "messages", detail)


# One statement looks for all of them: each is a search in an index then, and no turn of the interpreter, for which the event loop
# has to wait. CROSS JOIN, because SQLite would rather go through all memberships of the stream for each.
_MOVING = """
SELECT patient_id, min(told.value, coalesce(until, told.value)), member.rowid
FROM json_each(:last) AS told CROSS JOIN memberships AS member
WHERE stream = :stream AND patient_id = told.key AND start <= told.value AND delivered < told.value
AND (until IS NULL OR reason = 'removed' OR told.value <= until)
"""


def _move(
    db: sqlite3.Connection, stream: Stream, told: Mapping[str, Acknowledgement]
) -> list[Acknowledgement]:
    """Those that say something new."""
    last = msgspec.json.encode({patient: each.last for patient, each in told.items()}).decode()
    rows = db.execute(_MOVING, {"stream": str(stream), "last": last}).fetchall()
    db.executemany("UPDATE memberships SET delivered = ?2 WHERE rowid = ?3", rows)
    return [told[patient] for patient in dict.fromkeys(patient for patient, _, _ in rows)]


def _expire(db: sqlite3.Connection, each: Acknowledgement) -> list[int]:
    """Note which messages had expired; those that were not noted before."""
    claimed = set(each.expired)
    if not claimed:
        return []
    # Only numbers of messages that exist: a patient cannot fill the table with others. And the messages are looked through, not
    # the claims: a patient may claim a thousand in each receipt, and whoever gives an order waits for this transaction.
    rows = db.execute(
        "SELECT number FROM messages WHERE stream = ? AND number BETWEEN ? AND ?",
        (str(each.stream), min(claimed), max(claimed)),
    ).fetchall()
    return [number for (number,) in rows if number in claimed and _note_expired(db, each, number)]


def _note_expired(db: sqlite3.Connection, each: Acknowledgement, number: int) -> bool:
    added = db.execute(
        "INSERT OR IGNORE INTO expired VALUES (?, ?, ?)", (str(each.stream), number, each.patient_id)
    )
    return added.rowcount > 0


def _complete(db: sqlite3.Connection, moved: list[Acknowledgement]) -> dict[str, list[str]]:
    """By the id of a message, the patients that have everything up to it.

    A number that is no message's says nothing of any: so a patient cannot make the log grow by counting up.
    """
    reached: dict[tuple[Stream, int], list[str]] = {}
    for each in moved:
        reached.setdefault((each.stream, each.last), []).append(each.patient_id)
    return {message_id(*place): patients for place, patients in reached.items() if _is_message(db, *place)}


def _is_message(db: sqlite3.Connection, stream: Stream, number: int) -> bool:
    found = db.execute(
        "SELECT 1 FROM messages WHERE stream = ? AND number = ?", (str(stream), number)
    ).fetchone()
    return found is not None


def _detail(complete: Mapping[str, list[str]], expired: list[tuple[Acknowledgement, int]]) -> str:
    """`message id: patients` for each message up to which somebody has everything, then for each that expired."""
    lines = dict(complete)
    for each, number in expired:
        lines.setdefault(f"expired {message_id(each.stream, number)}", []).append(each.patient_id)
    return "; ".join(f"{name}: {' '.join(sorted(patients))}" for name, patients in sorted(lines.items()))


def list_receipts(
    db: sqlite3.Connection,
    stream: Stream,
    number: int,
    now: int,
    written: Mapping[str, int],
    only: str | None = None,
) -> list[ReceiptRow]:
    """The state of a message for each of its recipients, by patient id.

    Args:
        written: for each patient that is connected, the last number of the stream that was written to it.
        only: this patient alone.

    Raises:
        UserError: there is no such message.
    """
    row = db.execute(
        "SELECT expires FROM messages WHERE stream = ? AND number = ?", (str(stream), number)
    ).fetchone()
    if row is None:
        raise UserError(f"There is no message {message_id(stream, number)}.")
    late = {
        found[0]
        for found in db.execute(
            "SELECT patient_id FROM expired WHERE stream = ? AND number = ?", (str(stream), number)
        )
    }
    rows = db.execute(
        "SELECT patient_id, delivered, reason FROM memberships"
        " WHERE stream = ? AND start < ? AND (until IS NULL OR until >= ?) AND patient_id = coalesce(?, patient_id)"
        " ORDER BY patient_id",
        (str(stream), number, number, only),
    )

    def state(patient_id: str, delivered: int, reason: str | None) -> Delivery:
        if delivered >= number:
            return Delivery.EXPIRED if patient_id in late else Delivery.DELIVERED
        if reason in (Delivery.REVOKED.value, Delivery.RETIRED.value):
            return Delivery(reason)
        if now > row[0]:
            return Delivery.EXPIRED
        return Delivery.SENT if written.get(patient_id, 0) >= number else Delivery.QUEUED

    return [ReceiptRow(patient_id, state(patient_id, *rest)) for patient_id, *rest in rows]

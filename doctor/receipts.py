"""What became of each message, for each patient it was meant for.

An acknowledgement is cumulative, so one number a membership says it all: everything up to `delivered` was applied, but for
the numbers that came too late to be shown. Acknowledgements that pile up while a commit is under way share the next one.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, unique

from doctor import audit
from doctor.audit import Action
from doctor.outbox import message_id
from shared.errors import StorageError, UserError
from shared.logs import get_logger
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


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """A patient has applied everything of a stream up to `last`; `expired` it did not show."""

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

    def record(self, acknowledgement: Acknowledgement) -> None:
        """Note an acknowledgement; it is committed soon."""
        key = (acknowledgement.stream, acknowledgement.patient_id)
        self._waiting[key] = _merged(self._waiting.get(key), acknowledgement)
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


def _merged(earlier: Acknowledgement | None, later: Acknowledgement) -> Acknowledgement:
    if earlier is None:
        return later
    last, expired = max(earlier.last, later.last), earlier.expired + later.expired
    return Acknowledgement(later.stream, later.patient_id, last, expired)


def commit(db: sqlite3.Connection, batch: Iterable[Acknowledgement], now: int) -> None:
    """Store acknowledgements, inside the caller's transaction, with one audit entry for all that say something new.

    Nothing ever moves back. One that reaches beyond a membership's end completes it where the patient was removed: what it was owed
    came first. It does not where the patient was retired: it came back as a new member and was never sent the rest.
    """
    moved = [each for each in batch if _move(db, each)]
    expired = [(each, number) for each in moved for number in _expire(db, each)]
    # A number that is no message's says nothing of any: so a patient cannot make the log grow by counting up.
    detail = _detail([each for each in moved if _is_message(db, each.stream, each.last)], expired)
    if detail:
        audit.append(db, now, "gateway", Action.RECEIPTS, "messages", detail)


def _move(db: sqlite3.Connection, each: Acknowledgement) -> bool:
    changed = db.execute(
        "UPDATE memberships SET delivered = min(:last, coalesce(until, :last))"
        " WHERE stream = :stream AND patient_id = :patient AND start <= :last AND delivered < :last"
        " AND (until IS NULL OR reason = 'removed' OR :last <= until)",
        {"last": each.last, "stream": str(each.stream), "patient": each.patient_id},
    )
    return changed.rowcount > 0


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


def _is_message(db: sqlite3.Connection, stream: Stream, number: int) -> bool:
    found = db.execute(
        "SELECT 1 FROM messages WHERE stream = ? AND number = ?", (str(stream), number)
    ).fetchone()
    return found is not None


def _detail(moved: list[Acknowledgement], expired: list[tuple[Acknowledgement, int]]) -> str:
    """`message id: patients` for each message up to which somebody has everything, then for each that expired."""
    lines: dict[str, list[str]] = {}
    for each in moved:
        lines.setdefault(message_id(each.stream, each.last), []).append(each.patient_id)
    for each, number in expired:
        lines.setdefault(f"expired {message_id(each.stream, number)}", []).append(each.patient_id)
    return "; ".join(f"{name}: {' '.join(sorted(patients))}" for name, patients in sorted(lines.items()))


def list_receipts(
    db: sqlite3.Connection, stream: Stream, number: int, now: int, written: Mapping[str, int]
) -> list[ReceiptRow]:
    """The state of a message for each of its recipients, by patient id.

    Args:
        written: for each patient that is connected, the last number of the stream that was written to it.

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
        " WHERE stream = ? AND start < ? AND (until IS NULL OR until >= ?) ORDER BY patient_id",
        (str(stream), number, number),
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

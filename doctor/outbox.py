"""Durable acceptance: a message is accepted when its transaction is committed, and not before.

Law: number, `previous`, signature, message and audit entry are one transaction, run by the one writer. A transaction that fails
gives its number back, because the number is read from the same database that rolls back. Who is meant is not
written down again: it is everyone whose membership covers the number.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from doctor import audit, groups, roster, streams
from doctor.audit import Action
from shared.crypto.signatures import Algorithm, SigningKey
from shared.errors import UserError
from shared.message_ids import message_id
from shared.protocol import envelopes
from shared.protocol.envelopes import Draft
from shared.storage.sealed import Sealer
from shared.wire.messages import BODY_LIMIT, SignedMessage, Stream, TargetKind

DAY = 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class Accepted:
    """A message that is on the disk."""

    message_id: str
    stream: Stream
    number: int
    recipients: int
    message: SignedMessage


@dataclass(frozen=True, slots=True)
class MessageRequest:
    """What a person asks for: a text to a group or to one patient. `lifetime` in milliseconds."""

    stream: Stream
    body: bytes
    lifetime: int


class Outbox:
    """Accepts messages and gives them back.

    Args:
        doctor_id: the name in every envelope.
        keys: the doctor's; each message is signed with the P-256 key that is among them then.
        sealer: seals bodies at rest.
        random: entropy.
    """

    def __init__(
        self,
        doctor_id: str,
        keys: Mapping[Algorithm, SigningKey],
        sealer: Sealer,
        random: Callable[[int], bytes],
    ) -> None:
        self._doctor_id = doctor_id
        self._keys = keys
        self._sealer = sealer
        self._random = random

    def accept(self, db: sqlite3.Connection, request: MessageRequest, now: int, actor: str) -> Accepted:
        """Accept a message, inside the caller's transaction. `now` in milliseconds.

        Raises:
            UserError: no such group or active patient, or an empty or oversized body.
        """
        if not request.body or len(request.body) > BODY_LIMIT:
            raise UserError(f"A message has 1 to {BODY_LIMIT} bytes; this one has {len(request.body)}.")
        stream, private = request.stream, request.stream.kind is TargetKind.PATIENT
        fingerprint = ""
        if private:
            fingerprint = roster.require_addressee(db, stream.name)
        else:
            groups.require(db, stream.name)
        previous = streams.last_number(db, stream)
        number = max(previous + 1, now * 1000)
        draft = Draft(stream, fingerprint, now, now + request.lifetime, request.body)
        key = self._keys[Algorithm.ECDSA_P256]
        message = envelopes.sign(self._doctor_id, key, draft, number, previous, self._random)
        self._store(db, stream, number, draft, message)
        name = message_id(stream, number)
        recipients = count_members(db, stream)
        action = Action.MESSAGE_ACCEPTED if private else Action.BROADCAST_ACCEPTED
        audit.append(db, now, actor, action, name, f"{recipients} recipients")
        return Accepted(name, stream, number, recipients, message)

    def _store(
        self, db: sqlite3.Connection, stream: Stream, number: int, draft: Draft, message: SignedMessage
    ) -> None:
        sealed = self._sealer.seal("messages", "body", _row(stream, number), draft.body)
        db.execute(
            "INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                str(stream),
                number,
                draft.created,
                draft.expires,
                message.envelope,
                message.signature,
                message.salt,
                sealed,
            ),
        )
        db.execute("UPDATE streams SET last = ? WHERE stream = ?", (number, str(stream)))

    def load(
        self, db: sqlite3.Connection, stream: Stream, after: int, up_to: int, now: int, limit: int
    ) -> list[tuple[int, SignedMessage]]:
        """Messages with after < number ≤ up_to, in order; without the body where the message has expired."""
        rows = db.execute(
            "SELECT number, expires, envelope, signature, salt, body FROM messages"
            " WHERE stream = ? AND number > ? AND number <= ? ORDER BY number LIMIT ?",
            (str(stream), after, up_to, limit),
        )
        found = []
        for number, expires, envelope, signature, salt, sealed in rows:
            body = None
            if sealed is not None and now <= expires:  # erased ones have long expired
                body = self._sealer.open("messages", "body", _row(stream, number), sealed)
            found.append((number, SignedMessage(envelope, signature, salt, body)))
        return found

    def body(self, db: sqlite3.Connection, stream: Stream, number: int) -> bytes | None:
        """The text of a message, expired or not; None: it was erased.

        Raises:
            StorageError: it does not open.
        """
        row = db.execute(
            "SELECT body FROM messages WHERE stream = ? AND number = ?", (str(stream), number)
        ).fetchone()
        if row is None or row[0] is None:
            return None
        return self._sealer.open("messages", "body", _row(stream, number), row[0])


def _row(stream: Stream, number: int) -> bytes:
    return f"{stream}/{number}".encode()


def count_members(db: sqlite3.Connection, stream: Stream) -> int:
    """For how many patients a message that is accepted in this transaction is meant.

    Its number is above every start and every end of a membership: its recipients are the memberships that last, and those have an
    index of their own. To judge the intervals of thousands took longer than to sign.
    """
    row = db.execute(
        "SELECT count(*) FROM memberships WHERE stream = ? AND until IS NULL", (str(stream),)
    ).fetchone()
    return int(row[0])

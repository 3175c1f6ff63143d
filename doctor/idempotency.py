"""The one place that makes an order safe to repeat.

Its answer is stored under the request's Idempotency-Key in the very transaction that carries it out, so a retry, whenever it comes,
gets the first answer and changes nothing.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from doctor.answers import Answer
from shared.errors import UserError
from shared.storage.sealed import Sealer

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Origin:
    """Who orders, and the request's Idempotency-Key."""

    actor: str
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """What an order has done, None where an earlier one had done it; and its encoded answer."""

    done: T | None
    answer: bytes


class OnceOnly:
    """Stores answers, sealed, since one may hold an invitation's secret."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def carry_out(
        self,
        db: sqlite3.Connection,
        origin: Origin,
        asked: tuple[object, ...],
        now: int,
        work: Callable[[sqlite3.Connection], T],
        answer: Callable[[T], Answer],
    ) -> Outcome[T]:
        """Run `work` inside the caller's transaction, unless its key has an answer already.

        Raises:
            UserError: the key was used for another request. Whatever `work` raises.
        """
        digest = hashlib.sha256(msgspec.json.encode(asked)).digest()
        key = origin.key
        if key is not None:
            row = db.execute("SELECT request, answer FROM answers WHERE key = ?", (key,)).fetchone()
            if row is not None and row[0] != digest:
                raise UserError("This Idempotency-Key was used for another request; make a new one for each.")
            if row is not None:
                return Outcome(None, self._sealer.open("answers", "answer", key.encode(), row[1]))
        done = work(db)
        encoded = msgspec.json.encode(answer(done))
        if key is not None:
            sealed = self._sealer.seal("answers", "answer", key.encode(), encoded)
            db.execute("INSERT INTO answers VALUES (?, ?, ?, ?)", (key, digest, sealed, now))
        return Outcome(done, encoded)


def forget_older(db: sqlite3.Connection, limit: int) -> None:
    """Forget the answers given before `limit`, in milliseconds."""
    db.execute("DELETE FROM answers WHERE created < ?", (limit,))

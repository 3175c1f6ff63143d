"""The desk where orders and questions come in: what all of them share, and how one order is carried out, once.

Law: the writer's transaction changes the disk; its `on_commit` changes what runs, in the same order. Nothing that runs
changes before the disk has.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from doctor.answers import Answer
from doctor.fanout import Fanout
from doctor.feed import Feed, Topic
from doctor.idempotency import OnceOnly, Origin, Outcome
from doctor.journal import Journal
from doctor.keyring import Keyring
from doctor.outbox import Outbox
from doctor.reports import Reports
from doctor.restoration import Restoration
from doctor.roster import Roster
from doctor.settings import DoctorSettings
from shared.net.stream import clock
from shared.storage.sealed import Sealer
from shared.storage.writer import Writer

T = TypeVar("T")
A = TypeVar("A", bound=Answer)


@dataclass(frozen=True, slots=True)
class Office:
    """What orders and questions work with.

    Attributes:
        settings, keys, sealer: the doctor's own.
        roster: the handshake's view of the roster.
        outbox: accepts messages.
        fanout: groups and sessions at work.
        writer, reader: the database.
        journal: what of it must not be forgotten, outside it.
        reports: what patients report.
        restoration: whether a restored database waits to be confirmed.
        feed: told of what an order has changed.
    """

    settings: DoctorSettings
    keys: Keyring
    sealer: Sealer
    roster: Roster
    outbox: Outbox
    fanout: Fanout
    writer: Writer
    reader: sqlite3.Connection
    journal: Journal
    reports: Reports
    restoration: Restoration
    feed: Feed


class Desk:
    """The base of all orders and questions."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self._once = OnceOnly(office.sealer)

    @property
    def reader(self) -> sqlite3.Connection:
        """The database, to look at."""
        return self._office.reader

    async def _order(
        self,
        origin: Origin,
        asked: tuple[object, ...],
        work: Callable[[sqlite3.Connection], T],
        effect: Callable[[T], None],
        answer: Callable[[T], A],
        kind: type[A],
        unconfirmed: bool = False,
    ) -> A:
        """Carry out one order, once for each Idempotency-Key. `unconfirmed`: also on a restored database that waits.

        Raises:
            UserError: it cannot be done. StorageError: nothing has happened.
        """
        if not unconfirmed:
            self._office.restoration.require_confirmed()
        now = clock().wall

        def committed(outcome: Outcome[T]) -> None:
            if outcome.done is not None:
                effect(outcome.done)
                for topic in (Topic.PATIENTS, Topic.MESSAGES, Topic.GROUPS, Topic.EVENTS):
                    self._office.feed.tell(topic)

        outcome = await self._office.writer.submit(
            lambda db: self._once.carry_out(db, origin, asked, now, work, answer), committed
        )
        return msgspec.json.decode(outcome.answer, type=kind)

"""Audit entries about what has happened by itself, beside any order: epochs, refusals, who knocks without being known.

Law: what the disk refuses is kept in order and tried again, so a full disk leaves no hole in the log but what goes beyond the bound,
and that is told by its number. What strangers cause is counted, one entry a minute however many they are: nobody who
cannot prove a key makes the log grow. Logins that a patient repeats without end are counted likewise.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable

from doctor import audit
from doctor.audit import Action
from shared.errors import StorageError
from shared.logs import get_logger
from shared.net.stream import clock
from shared.protocol.clock import SECOND
from shared.storage.writer import Writer

_log = get_logger("audit")

LIMIT = 1000  # entries that wait for a disk
NAMED = 20  # patients in an entry about logins that have none of their own
PLACES = 3  # addresses in an entry about strangers: those that most came from
ADDRESSES = 1024  # that are told apart between two such entries
EACH = 60 * SECOND

Work = Callable[[sqlite3.Connection], object]


class Ledger:
    """Writes entries behind each other, and again where the disk has refused.

    Args:
        writer: the database's writer.
        on_written: called when entries are on the disk.
    """

    def __init__(self, writer: Writer, on_written: Callable[[], None] = lambda: None) -> None:
        self._writer = writer
        self._on_written = on_written
        self._waiting: list[Work] = []
        self._writing: asyncio.Future[None] | None = None
        self._closed = False
        self._lost = 0
        self._strangers: Counter[str] = Counter()
        self._places: Counter[str] = Counter()
        self._logins: Counter[str] = Counter()
        self._since = clock().elapsed
        self.refused: Counter[str] = Counter()  # strangers, since the start

    def note(self, action: Action, subject: str, detail: str) -> None:
        """Write an entry of the gateway's own, with the time of now."""
        now = clock().wall
        self.carry_out(lambda db: audit.append(db, now, "gateway", action, subject, detail))

    def carry_out(self, work: Work) -> None:
        """Run something that writes an entry, inside a transaction, in the order of these calls."""
        if self._closed:
            return
        if len(self._waiting) >= LIMIT:
            self._lost += 1
            return
        self._waiting.append(work)
        if len(self._waiting) == 1:
            self.write_waiting()

    def count_stranger(self, what: str, host: str) -> None:
        """Somebody without a proven key was refused. `what` is one of a few fixed texts; `host`: the address it came from."""
        self._strangers[what] += 1
        self.refused[what] += 1
        if host in self._places or len(self._places) < ADDRESSES:
            self._places[host] += 1

    def count_login(self, patient_id: str) -> None:
        """A patient was admitted once more, without an entry of its own."""
        self._logins[patient_id] += 1

    def write_waiting(self) -> None:
        """Write what waits, unless that is under way; called now and then, for what the disk refused before."""
        if (self._strangers or self._logins) and clock().elapsed - self._since >= EACH:
            self.sum_up()
        if self._waiting and self._writing is None:
            self._write()

    def sum_up(self) -> None:
        """One entry for all strangers since the last one, and one for all logins that have none."""
        self._since = clock().elapsed
        detail = " ".join(f"{what}:{count}" for what, count in sorted(self._strangers.items()))
        if detail:
            self.note(Action.STRANGERS_REFUSED, "door", f"{detail}; from {self._named_places()}")
        self._strangers.clear()
        self._places.clear()
        if self._logins:
            named = self._logins.most_common(NAMED)
            others = self._logins.total() - sum(count for _, count in named)
            text = " ".join(f"{patient_id}:{count}" for patient_id, count in named)
            self._logins.clear()
            self.note(Action.ADMITTED_MORE, "patients", f"{text} and {others} of others" if others else text)

    def _named_places(self) -> str:
        """Where strangers came from: those addresses that most did, and how often elsewhere."""
        named = self._places.most_common(PLACES)
        others = self._strangers.total() - sum(count for _, count in named)
        text = ", ".join(f"{host} ({count})" for host, count in named)
        return f"{text} and elsewhere ({others})" if others else text

    async def close(self) -> None:
        """The doctor stops: write what is left, unless the disk refuses; nothing is taken after that."""
        self.sum_up()
        self.write_waiting()
        while self._writing is not None:
            await asyncio.wait({self._writing})
            await asyncio.sleep(0)  # the callback, which may begin the next one
        self._closed = True

    def _write(self) -> None:
        batch, lost, now = list(self._waiting), self._lost, clock().wall

        def work(db: sqlite3.Connection) -> None:
            for each in batch:
                each(db)
            if lost:
                audit.append(
                    db, now, "gateway", Action.ENTRIES_LOST, "audit", f"{lost} while the disk refused"
                )

        self._writing = self._writer.submit_nowait(work)
        self._writing.add_done_callback(lambda done: self._written(len(batch), lost, done))

    def _written(self, count: int, lost: int, done: asyncio.Future[None]) -> None:
        self._writing = None
        error = None if done.cancelled() else done.exception()
        if error is None:
            del self._waiting[:count]
            self._lost -= lost
            self._on_written()
            if self._waiting:
                self._write()
        elif isinstance(error, StorageError):
            _log.error("audit entries not stored", pending=len(self._waiting), cause=str(error))
        else:
            raise error

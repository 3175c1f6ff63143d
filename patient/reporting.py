"""How reports leave: in order, a few at a time, on the newest session, each again until the doctor has receipted it.

Law: a report is in flight from its sending until the outbox has noted its receipt. Whatever goes wrong in between, here or at the
doctor, it is sent once more: in the next session, or in this one when nothing has moved for a while.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from patient import notices
from patient.link import Link
from patient.notices import Tell
from patient.outbox import Outbox, WrittenReport
from shared.errors import StorageError, UserError
from shared.logs import get_logger
from shared.protocol.clock import Instant
from shared.wire.messages import Report

IN_FLIGHT = 8  # reports; as many of the largest fill a socket's buffer up to where it counts as full
LOOK_EVERY_S = 0.2  # how soon a report of another program is noticed
REPEAT_AFTER_S = 30.0
LONGEST_PATIENCE = 20  # times as long, for a doctor that takes nothing; it doubles from one

_log = get_logger("reporting")


class Reporting:
    """Sends what waits in the outbox while there is a session.

    Args:
        outbox: where reports come from.
        session: the link to send on; None where there is no session.
        tell: where notices go.
        now: both clocks.
    """

    def __init__(
        self, outbox: Outbox, session: Callable[[], Link | None], tell: Tell, now: Callable[[], Instant]
    ) -> None:
        self._outbox = outbox
        self._session = session
        self._tell = tell
        self._now = now
        self._patience = 1
        self._in_flight: set[bytes] = set()
        self._sent_to = 0  # the place of the last report that was sent on this session
        self._moved_at = 0.0  # when something was last sent afresh or noted, by the loop's clock
        self._readable = True
        self._soon: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._noting: set[asyncio.Task[None]] = set()

    def begin(self) -> None:
        """A session is established: whatever the doctor may not have goes out on it, from the first on."""
        self._in_flight.clear()
        self._sent_to = 0
        self.look()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_EVERY_S, self._look_again)

    def look(self) -> None:
        """There may be something to send: one turn of the loop later it goes out, if there is a session."""
        if self._soon is None:
            self._soon = asyncio.get_running_loop().call_soon(self._send)

    def receipted(self, report_ids: Sequence[bytes]) -> None:
        """The doctor has these."""
        noting = asyncio.get_running_loop().create_task(self._note(report_ids))
        self._noting.add(noting)
        noting.add_done_callback(self._noting.discard)

    async def close(self) -> None:
        """Send nothing more; wait until the receipts that have come are noted."""
        for handle in (self._soon, self._timer):
            if handle is not None:
                handle.cancel()
        await asyncio.gather(*self._noting)

    async def _note(self, report_ids: Sequence[bytes]) -> None:
        try:
            kept = await self._outbox.note_kept(report_ids, self._now().wall)
        except (StorageError, UserError) as error:
            # They stay in flight, and the doctor receipts them once more.
            _log.error("report's receipt not noted", cause=str(error))
            return
        self._in_flight.difference_update(report_ids)
        self._moved_at = asyncio.get_running_loop().time()
        self._patience = 1
        for report_id in kept:
            self._tell(notices.ReportKept(report_id.hex()))
        self.look()

    def _look_again(self) -> None:
        self._timer = None
        if self._session() is None:
            return  # `begin` looks again
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(LOOK_EVERY_S, self._look_again)
        if self._in_flight and loop.time() - self._moved_at >= REPEAT_AFTER_S * self._patience:
            self._patience = min(2 * self._patience, LONGEST_PATIENCE)
            _log.warning("reports sent again: no receipt has come", count=len(self._in_flight))
            self.begin()
        elif self._outbox.changed():
            self.look()

    def _send(self) -> None:
        self._soon = None
        link, room = self._session(), IN_FLIGHT - len(self._in_flight)
        if link is None or room <= 0:
            return
        for each in self._waiting(room):
            link.report(Report(each.report_id, each.kind, each.created, each.body))
            self._in_flight.add(each.report_id)
            self._sent_to = each.place
            self._moved_at = asyncio.get_running_loop().time()

    def _waiting(self, limit: int) -> Sequence[WrittenReport]:
        """What the outbox has; nothing where it cannot be read now, which is logged once and tried again."""
        try:
            found = self._outbox.waiting(self._sent_to, limit)
        except (StorageError, UserError) as error:
            if self._readable:
                _log.error("outbox not read", cause=str(error))
            self._readable = False
            return ()
        self._readable = True
        return found

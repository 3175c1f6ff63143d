"""What an admitted patient sends: receipts, questions about what it lacks, reports.

Law: V-090 is applied here, because only the doctor's books know what was ever sent to a patient. Everything that a patient
sends is about this patient alone.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence

from doctor import receipts
from doctor.feed import Topic
from doctor.healing import Healing
from doctor.house import House
from doctor.receipts import Acknowledgement
from doctor.sessions import Attachment, Session
from shared.errors import StorageError
from shared.logs import get_logger
from shared.net.stream import clock
from shared.protocol.events import Positioned, Receipted, Reported, ResendRequested
from shared.wire.checks import Check
from shared.wire.messages import Position, Report

_log = get_logger("gateway")

REPORTS_IN_HAND = 256  # of one session, that wait for the disk


class Intake:
    """Reads one session's records.

    Args:
        house: what all visits share.
        session: whose records they are; it has been admitted.
    """

    def __init__(self, house: House, session: Session) -> None:
        self.session = session
        self._house = house
        self._stream = session.stream
        self._healing = Healing(session, house.fanout)
        self._reports_in_hand = 0
        self._refused_for: set[str] = set()

    def take(self, event: Positioned | Receipted | ResendRequested | Reported) -> None:
        """Act on one record."""
        match event:
            case Positioned():
                self._begin_delivery(event.positions)
            case Receipted():
                self._take_receipt(event.positions)
            case ResendRequested():
                self._heal(event)
            case Reported():
                self._keep_report(event.report)

    def pause(self) -> None:
        """The device takes no more."""
        self._house.fanout.pause(self.session)

    def resume(self) -> None:
        """The device reads again."""
        self._house.fanout.resume(self.session)
        self._healing.answer_soon()

    def close(self) -> None:
        """The connection is gone."""
        self._house.fanout.drop_session(self.session)
        self._healing.close()

    def _begin_delivery(self, positions: Sequence[Position]) -> None:
        """The first record: where the patient stands. What it missed goes out from here on."""
        if not self._take_receipt(positions):
            return
        reported = {position.stream: position.last for position in positions}
        self._house.fanout.begin_delivery(self.session, reported)

    def _take_receipt(self, positions: Sequence[Position]) -> bool:
        """Note what is acknowledged, nothing if V-090 fails; False where the connection had to be ended."""
        places = [(self.session.attachments.get(position.stream), position) for position in positions]
        for attachment, position in places:
            if not self._was_issued(attachment, position):
                return False
        try:
            for attachment, position in places:
                if attachment is not None:
                    self._acknowledge(attachment, position)
        except sqlite3.Error as error:
            # Unjudged it must not count: the device's next session tells it once more.
            _log.error("receipt not judged", cause=str(error), **self.session.who)
            self._stream.abort()
            return False
        return True

    def _was_issued(self, attachment: Attachment | None, position: Position) -> bool:
        """V-090: whether the patient can stand there; if not, its connection is ended."""
        issued = self._house.fanout.last_issued(attachment)
        if position.last <= issued:
            return True
        detail = f"{position.stream}: {position.last} acknowledged, {issued} is the last that was issued"
        self._stream.connection.fail(Check.RECEIPT_ISSUED, detail, clock())  # V-090
        return False

    def _acknowledge(self, attachment: Attachment, position: Position) -> None:
        if position.last <= attachment.delivered:
            return
        expired: tuple[int, ...] = ()
        if position.expired:
            # What was acknowledged before stays what it was: only the numbers of this receipt can have expired in it.
            new = range(attachment.delivered + 1, position.last + 1)
            claimed = [number for number in position.expired if number in new]
            expired = receipts.known(self._house.reader, attachment.stream, claimed)
        attachment.note_delivered(position.last, clock().elapsed)
        self._house.receipts.record(
            Acknowledgement(attachment.stream, self.session.patient_id, position.last, expired)
        )

    def _heal(self, asked: ResendRequested) -> None:
        """Where the device stands is judged at once; what it lacks is sent when its turn comes."""
        for position in asked.positions:
            attachment = self.session.attachments.get(position.stream)
            if attachment is not None and not self._was_issued(attachment, position):
                return
        self._healing.ask(asked)

    def _keep_report(self, report: Report) -> None:
        """Keep a report, and acknowledge it once it is on the disk. What is refused the device keeps, and sends again."""
        now, patient_id = clock(), self.session.patient_id
        if self._reports_in_hand >= REPORTS_IN_HAND or not self._house.allowance.take(
            patient_id, now.elapsed
        ):
            self._refuse_report("too many at once")
            return
        self._reports_in_hand += 1

        def kept(future: asyncio.Future[bool]) -> None:
            self._reports_in_hand -= 1
            error = None if future.cancelled() else future.exception()
            if isinstance(error, StorageError):
                _log.error("report not stored", cause=str(error), **self.session.who)
            elif error is not None:
                raise error

        def committed(stored: bool) -> None:
            self._house.feed.tell(Topic.REPORTS)
            if not stored:
                self._refuse_report("its quota is full")
            elif self._stream.open and not self._stream.connection.ended:
                self._stream.connection.acknowledge_reports([report.report_id])
                self._stream.flush()

        self._house.writer.submit_nowait(
            lambda db: self._house.reports.store(db, patient_id, report, now.wall), committed
        ).add_done_callback(kept)

    def _refuse_report(self, reason: str) -> None:
        self._house.fanout.troubles.note(
            self.session.patient_id, f"a report was refused: {reason}", clock().wall
        )
        if reason not in self._refused_for:  # once a session: it may go on without end
            self._refused_for.add(reason)
            _log.warning("reports refused", reason=reason, **self.session.who)

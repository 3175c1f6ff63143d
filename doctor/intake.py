"""What an admitted patient sends: receipts, questions about what it lacks, reports.

Law: V-090 is applied here, because only the doctor's books know what was ever sent to a patient. Everything that a patient
sends is about this patient alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from doctor.house import House
from doctor.receipts import Acknowledgement
from doctor.sessions import Attachment, Session
from shared.errors import StorageError
from shared.logs import get_logger
from shared.net.stream import clock
from shared.protocol.events import Positioned, Receipted, Reported, ResendRequested
from shared.protocol.resend_requests import ASK_INTERVAL
from shared.wire.checks import Check
from shared.wire.messages import Position, Report

_log = get_logger("gateway")

# A device leaves a second between two questions; on their way here they may come closer together.
RESEND_INTERVAL = ASK_INTERVAL // 2


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
        self._asked_at = -RESEND_INTERVAL

    def take(self, event: Positioned | Receipted | ResendRequested | Reported) -> None:
        """Act on one record."""
        match event:
            case Positioned():
                self._begin_delivery(event.positions)
            case Receipted():
                self._take_receipt(event.positions)
            case ResendRequested():
                self._send_again(event)
            case Reported():
                self._keep_report(event.report)

    def _begin_delivery(self, positions: Sequence[Position]) -> None:
        """The first record: where the patient stands. What it missed goes out from here on."""
        if not self._take_receipt(positions):
            return
        reported = {position.stream: position.last for position in positions}
        self._house.fanout.begin_delivery(self.session, reported)

    def _take_receipt(self, positions: Sequence[Position]) -> bool:
        """Note what is acknowledged; False where the connection had to be ended."""
        for position in positions:
            attachment = self.session.attachments.get(position.stream)
            if not self._was_issued(attachment, position):
                return False
            if attachment is not None:
                self._acknowledge(attachment, position)
        return True

    def _was_issued(self, attachment: Attachment | None, position: Position) -> bool:
        """V-090: whether the patient can stand there; if not, its connection is ended."""
        issued = self._house.fanout.last_issued(attachment) if attachment else 0
        if position.last <= issued:
            return True
        detail = f"{position.stream}: {position.last} acknowledged, {issued} is the last that was issued"
        self._stream.connection.fail(Check.RECEIPT_ISSUED, detail, clock())  # V-090
        return False

    def _acknowledge(self, attachment: Attachment, position: Position) -> None:
        if position.last <= attachment.delivered:
            return
        # What was acknowledged before stays what it was: only the numbers of this receipt can have expired in it.
        new = range(attachment.delivered + 1, position.last + 1)
        attachment.note_delivered(position.last, clock().elapsed)
        self._house.receipts.record(
            Acknowledgement(
                position.stream,
                self.session.patient_id,
                position.last,
                tuple(number for number in position.expired if number in new),
            )
        )

    def _send_again(self, asked: ResendRequested) -> None:
        """Heal what a device says it lacks, or tell the doctor why it cannot be healed. Not more often than a device may ask."""
        elapsed, who = clock().elapsed, self.session.who
        if elapsed - self._asked_at < RESEND_INTERVAL:
            return
        self._asked_at = elapsed
        for position in asked.positions:
            attachment = self.session.attachments.get(position.stream)
            if attachment is None:
                _log.warning("cannot send again: not a recipient", stream=str(position.stream), **who)
                continue
            if not self._was_issued(attachment, position):
                return
            missing = self._house.fanout.catch_up.send_again_from(attachment, position.last)
            _log.info(
                "sent again on request",
                stream=str(position.stream),
                position=position.last,
                epoch=attachment.held_epoch,
                result="missing" if missing else "nothing was missing",
                reason="unknown key" if asked.key_id else "gap",
                **who,
            )

    def _keep_report(self, report: Report) -> None:
        """Keep a report, and acknowledge it once it is on the disk."""
        now, patient_id = clock().wall, self.session.patient_id

        def kept(future: asyncio.Future[bytes]) -> None:
            error = None if future.cancelled() else future.exception()
            if isinstance(error, StorageError):
                # Not acknowledged: the device keeps it and sends it again.
                _log.error("report not stored", cause=str(error), **self.session.who)
            elif error is not None:
                raise error

        self._house.writer.submit_nowait(
            lambda db: self._house.reports.store(db, patient_id, report, now), self._acknowledge_report
        ).add_done_callback(kept)

    def _acknowledge_report(self, report_id: bytes) -> None:
        if self._stream.open and not self._stream.connection.ended:
            self._stream.connection.acknowledge_reports([report_id])
            self._stream.flush()

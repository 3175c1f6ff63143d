"""Catching up: what a patient missed, or says that it lacks, goes to it alone, as DIRECT, in order.

Law: nothing outside the intervals that are owed is ever sent, and nothing is read from the disk inside a commit's effect, since
a disk may refuse. A session whose messages cannot be read is cut; no other is touched.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping

from doctor.outbox import Outbox
from doctor.sessions import Attachment, Session
from shared.errors import StorageError
from shared.logs import get_logger
from shared.net.stream import clock
from shared.wire.messages import Stream

BATCH = 64
RECEIPT_PATIENCE = 10_000  # ms; what is unreceipted for so long is sent again

_log = get_logger("fanout")


class CatchUp:
    """Sends what lies between an attachment's position and its stream's end.

    Args:
        outbox: gives back accepted messages.
        reader: a connection that sees what is committed.
        last: the last number that was accepted in each stream.
        attach: called with a member's attachment that has nothing left to catch up, and the start of its membership.
    """

    def __init__(
        self,
        outbox: Outbox,
        reader: sqlite3.Connection,
        last: Mapping[Stream, int],
        attach: Callable[[Attachment, int], None],
    ) -> None:
        self._outbox = outbox
        self._reader = reader
        self._last = last
        self._attach = attach

    def soon(self, attachment: Attachment) -> None:
        """Go on in the loop's next turn."""
        asyncio.get_running_loop().call_soon(self.advance, attachment)

    def advance(self, attachment: Attachment) -> None:
        """Take the next step of catching up: a batch of missed messages, or attaching at the log's end, where there is a log."""
        session, interval = attachment.session, attachment.first_beyond(attachment.written)
        if not session.writable or attachment.cursor is not None or interval is None:
            return
        start, until = interval
        after, end = max(attachment.written, start), self._last[attachment.stream] if until is None else until
        if after < end:
            if self._send_missed(attachment, start, after, end):
                self.soon(attachment)
        else:
            self._attach(attachment, start)

    def send_again_from(self, attachment: Attachment, position: int) -> int:
        """A patient says that it stands at `position` and lacks what follows; returns how much was sent to it before.

        What it was sent and is entitled to goes out once more as DIRECT, in order; nothing else does.
        """
        interval = attachment.first_beyond(position)
        if interval is None or not attachment.session.writable:
            return 0
        start, until = interval
        after = max(position, start)
        up_to = attachment.written if until is None else min(until, attachment.written)
        if after < up_to:
            self._send_missed(attachment, start, after, up_to)
        return max(0, up_to - after)

    def send_unreceipted_again(self, session: Session) -> None:
        """What has gone unreceipted for ten seconds, though the socket has drained, goes out once more as DIRECT."""
        if session.stream.buffered or not session.writable:
            return
        now = clock().elapsed
        for attachment in session.attachments.values():
            since = attachment.unreceipted_since
            if since is not None and now - since >= RECEIPT_PATIENCE:
                self._send_again(attachment)

    def _send_again(self, attachment: Attachment) -> None:
        attachment.unreceipted_since = None
        interval = attachment.first_beyond(attachment.delivered)
        if interval is not None:
            # Never beyond the interval: what follows it was not meant for this patient, or starts elsewhere.
            start, until = interval
            up_to = attachment.written if until is None else min(until, attachment.written)
            self._send_missed(attachment, start, max(attachment.delivered, start), up_to)

    def _send_missed(self, attachment: Attachment, start: int, after: int, up_to: int) -> bool:
        """Send a batch as DIRECT. False where the disk refuses, or gives back something else than was written: that
        session is cut, and no other is touched."""
        now, stream = clock(), attachment.stream
        session = attachment.session
        try:
            missed = self._outbox.load(self._reader, stream, after, up_to, now.wall, BATCH)
        except (StorageError, sqlite3.Error) as error:
            _log.error(
                "missed messages not read", patient=session.patient_id, stream=str(stream), cause=str(error)
            )
            session.stream.abort()
            return False
        for number, message in missed:
            session.connection.send_direct(start, message)
            attachment.note_written(number, now.elapsed)
        session.stream.flush()
        return True

"""Catching up: what a patient missed, or says that it lacks, goes to it alone, as DIRECT, in order.

Law: nothing outside the intervals that are owed is ever sent, and nothing is read from the disk inside a commit's effect, since
a disk may refuse. A session whose messages cannot be read is cut; no other is touched. One step sends no more than a slice, and the
next one waits until the socket takes more: so little is ever queued for a connection. And all steps together take no more of a turn
of the loop than `TURN`: a thousand patients that come back at once must not keep the door, or each other's handshakes, waiting.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Mapping

from doctor.broadcast_log import SLICE_BYTES
from doctor.outbox import Outbox
from doctor.sessions import Attachment, Session
from doctor.troubles import Troubles
from shared.errors import StorageError
from shared.logs import get_logger
from shared.net.stream import clock
from shared.wire.messages import SignedMessage, Stream

BATCH = 64
TURN = 10  # ms of one turn of the loop
RECEIPT_PATIENCE = 10_000  # ms; what is unreceipted for so long is sent again

_log = get_logger("fanout")


class CatchUp:
    """Sends what lies between an attachment's position and its stream's end.

    Args:
        outbox: gives back accepted messages.
        reader: a connection that sees what is committed.
        last: the last number that was accepted in each stream.
        attach: called with a member's attachment that has nothing left to catch up, and the start of its membership.
        troubles: told of messages that cannot be read.
    """

    def __init__(
        self,
        outbox: Outbox,
        reader: sqlite3.Connection,
        last: Mapping[Stream, int],
        attach: Callable[[Attachment, int], None],
        troubles: Troubles,
    ) -> None:
        self._outbox = outbox
        self._reader = reader
        self._last = last
        self._attach = attach
        self._troubles = troubles
        self._due: deque[Attachment] = deque()

    def soon(self, attachment: Attachment) -> None:
        """Go on in the loop's next turn, or as soon as those that came before have had theirs."""
        self._due.append(attachment)
        if len(self._due) == 1:
            asyncio.get_running_loop().call_soon(self._take_turn)

    def _take_turn(self) -> None:
        began = clock().elapsed
        try:
            for _ in range(len(self._due)):
                self._take_step()
                if clock().elapsed - began >= TURN:
                    break
        finally:
            if self._due:
                asyncio.get_running_loop().call_soon(self._take_turn)

    def _take_step(self) -> None:
        try:
            self.advance(self._due[0])
        finally:
            self._due.popleft()  # not before its step: what that asks for comes behind the others, in another turn

    def advance(self, attachment: Attachment) -> None:
        """Take the next step: a batch of what is sent again, a batch of missed messages, or attaching at the log's end,
        where there is a log."""
        if not attachment.session.writable:
            return
        if attachment.again_from is not None:
            self._repeat(attachment, attachment.again_from)
        elif not attachment.attached:
            self._catch_up(attachment)

    def send_again_from(self, attachment: Attachment, position: int) -> bool:
        """A patient stands at `position` and lacks what follows; returns whether anything was sent to it beyond that.

        What it was sent and is entitled to goes out once more as DIRECT, in order; nothing else does.
        """
        interval = attachment.first_beyond(position)
        if interval is None or max(position, interval[0]) >= attachment.written:
            return False
        attachment.again_from = position
        self.soon(attachment)
        return True

    def send_unreceipted_again(self, session: Session) -> None:
        """What has gone unreceipted for ten seconds, though the socket has drained, goes out once more as DIRECT."""
        if session.stream.buffered or not session.writable:
            return
        now = clock().elapsed
        for attachment in session.attachments.values():
            since = attachment.unreceipted_since
            if since is not None and now - since >= RECEIPT_PATIENCE:
                attachment.unreceipted_since = None
                self.send_again_from(attachment, attachment.delivered)

    def _catch_up(self, attachment: Attachment) -> None:
        interval = attachment.first_beyond(attachment.written)
        if interval is None:
            return
        start, until = interval
        after, end = max(attachment.written, start), self._last[attachment.stream] if until is None else until
        if after >= end:
            self._attach(attachment, start)
        elif self._send(attachment, start, after, end) is not None:
            self.soon(attachment)

    def _repeat(self, attachment: Attachment, position: int) -> None:
        """The end is looked up in each step: what goes out meanwhile as a broadcast is lost on a patient with a gap."""
        interval = attachment.first_beyond(position)
        attachment.again_from = None
        if interval is not None:
            # Never beyond the interval: what follows it was not meant for this patient, or starts elsewhere.
            start, until = interval
            after = max(position, start)
            end = attachment.written if until is None else min(until, attachment.written)
            if after < end:
                attachment.again_from = self._send(attachment, start, after, end)
        self.soon(attachment)

    def _send(self, attachment: Attachment, start: int, after: int, up_to: int) -> int | None:
        """Send a batch as DIRECT; the last number in it, `up_to` where there was nothing. None where the disk refuses, or gives
        back something else than was written: that session is cut, and no other is touched."""
        now, session = clock(), attachment.session
        try:
            missed = self._outbox.load(self._reader, attachment.stream, after, up_to, now.wall, BATCH)
        except (StorageError, sqlite3.Error) as error:
            stream = str(attachment.stream)
            _log.error(
                "missed messages not read", patient=session.patient_id, stream=stream, cause=str(error)
            )
            self._troubles.note(
                session.patient_id, f"its messages in {stream} cannot be read: {error}", now.wall
            )
            session.stream.abort()
            return None
        last = up_to
        for number, message in _slice(missed):
            session.connection.send_direct(start, message)
            attachment.note_written(number, now.elapsed)
            last = number
        # Numbers without a message, as a restored backup leaves them, are passed over.
        attachment.written = max(attachment.written, last)
        session.stream.flush()
        return last


def _slice(missed: list[tuple[int, SignedMessage]]) -> list[tuple[int, SignedMessage]]:
    """As many of these messages as make up one write; at least one, if there is any."""
    size, taken = 0, 0
    for _, message in missed:
        size += len(message.envelope) + len(message.body or b"")
        if taken and size > SLICE_BYTES:
            break
        taken += 1
    return missed[:taken]

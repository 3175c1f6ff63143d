"""Live fan-out: each cursor that lags behind its group's log, and whose socket takes more, is given the next slice of it.

Law: the only place that moves a cursor. All members that stand at one place are handed the same bytes; at an epoch's marker
each first needs its own GROUP_KEY, and of those only so many are made in one turn of the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from doctor.sessions import Attachment, Group
from shared.net.stream import clock
from shared.protocol.epochs import Epoch
from shared.wire.opcodes import DisconnectReason

GROUP_KEYS_A_TURN = 256


class LogWriter:
    """Writes the logs of all groups.

    Args:
        groups: by name.
    """

    def __init__(self, groups: Mapping[str, Group]) -> None:
        self._groups = groups
        self._behind: set[Attachment] = set()
        self._pass_due = False

    def attach(self, attachment: Attachment, start: int) -> None:
        """A member has caught up: from here on it reads the log. `start`: of its membership.

        While its group's epoch does not count it in, nothing happens: that epoch is about to begin, and will attach it.
        """
        session, group = attachment.session, self._groups[attachment.stream.name]
        if group.epoch is None or session.patient_id not in group.roster:
            return
        attachment.cursor = group.log.end
        group.attached.add(attachment)
        self._send_group_key(attachment, group.epoch, start)

    def detach(self, attachment: Attachment) -> None:
        """It reads the log no more."""
        if attachment.cursor is not None:
            attachment.cursor = None
            self._groups[attachment.stream.name].attached.discard(attachment)
            self._behind.discard(attachment)

    def write_soon(self, attachments: Iterable[Attachment]) -> None:
        """There is something for these that are attached."""
        self._behind.update(attachment for attachment in attachments if attachment.cursor is not None)
        if not self._pass_due and self._behind:
            self._pass_due = True
            asyncio.get_running_loop().call_soon(self.write_pass)

    def write_pass(self) -> None:
        """One turn: every cursor that lags and whose socket takes more gets the same next slice of its log."""
        self._pass_due = False
        started = clock()
        keys_left = GROUP_KEYS_A_TURN
        for attachment in list(self._behind):
            keys_left = self._write_to(attachment, keys_left, started.elapsed)
        if any(attachment.session.writable for attachment in self._behind):
            self.write_soon(())

    def _write_to(self, attachment: Attachment, keys_left: int, elapsed: int) -> int:
        session, group = attachment.session, self._groups[attachment.stream.name]
        while attachment.cursor is not None and session.writable:
            if attachment.cursor < group.log.base:
                self._cut_lagging(attachment)
                break
            entry = group.log.at(attachment.cursor)
            if entry is None:
                self._behind.discard(attachment)
                break
            if isinstance(entry, Epoch):
                if keys_left == 0:
                    break
                keys_left -= 1
                attachment.cursor += 1
                self._send_group_key(attachment, entry, attachment.intervals[-1][0])
                if entry is group.epoch:
                    group.distribution = (clock().elapsed - group.began) / 1000
            else:
                session.stream.write(entry.frames)
                attachment.cursor = entry.end
                attachment.note_written(entry.last, elapsed)
        if attachment.cursor is None or not session.live:
            self._behind.discard(attachment)
        return keys_left

    def _send_group_key(self, attachment: Attachment, epoch: Epoch, start: int) -> None:
        attachment.session.connection.send_group_key(epoch, start)
        attachment.session.stream.flush()
        attachment.held_epoch = epoch.number

    def _cut_lagging(self, attachment: Attachment) -> None:
        """It fell behind the log's retention: it comes back and catches up message by message."""
        attachment.session.disconnect(DisconnectReason.LAGGING)
        self.detach(attachment)

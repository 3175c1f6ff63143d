"""Live fan-out: what a group's log has grown by goes to everyone who reads it, in the loop's next turn.

Law: the only place that moves attachments along a log, and from one of these states to another:

- *detached*: not on the log. It catches up, or is not a member. `attach` puts it at the log's end, with the present epoch's key.
- *abreast*: it has everything up to its group's cursor, and its socket takes more. There is nothing to look at for it but the one
  cursor, and nothing to do but one write for each slice. A turn coalesces what was published since the last one.
- *lagging*: it has a cursor of its own. If it is *due*, its socket takes more, and each turn brings it on until it has reached the
  log's end and is abreast again. If not, its socket is full or about to close: nobody looks at it until that has changed.

            attach                end of the log
  detached ────────► lagging, due ──────────────► abreast
     ▲               │        ▲   ◄──────────────  │
     │         pause │        │ resume  a marker   │ pause
     │               ▼        │                    │
     └────────────── lagging, not due ◄────────────┘
       detach, from anywhere

Two things hold whenever the loop is elsewhere. Nobody is beyond its log's end, and who is abreast stands exactly at the group's
cursor; so a frame is written to it once. And who lags and is not due is not writable; so nobody is forgotten.

An epoch begins with a marker in the log, between the frames that its predecessor sealed and its own. What follows the marker is
of no use without the new key, which is sealed for each member by itself: at a marker all who are abreast become due, and each passes it
alone, its GROUP_KEY first. Of those only so many are made in a turn; the rest of the due wait in their order.

A write may fill the socket, which then says so before it returns. By then the cursor that counts has already been moved past it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping

from doctor.sessions import Attachment, Group
from shared.durations import Durations
from shared.net.stream import clock
from shared.protocol.epochs import Epoch
from shared.wire.opcodes import DisconnectReason

GROUP_KEYS_A_TURN = 256
DELAY_BOUNDS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)  # seconds


class LogWriter:
    """Writes the logs of all groups.

    Args:
        groups: by name.

    Attributes:
        delays: for each patient that keeps up, from what a log grew by to the write into its socket.
    """

    def __init__(self, groups: Mapping[str, Group]) -> None:
        self._groups = groups
        # Whose logs are longer than what was written to those abreast, and since when, in nanoseconds.
        self._grown: dict[Group, int] = {}
        self.delays = Durations(DELAY_BOUNDS)
        self._due: dict[Attachment, None] = {}  # in the order in which they became so
        self._handed_out: dict[Group, None] = {}  # whose present epoch's keys went out in this turn
        self._keys_left = 0
        self._pass_due = False

    # Who reads

    def attach(self, attachment: Attachment, start: int) -> None:
        """A member has caught up: from here on it reads the log. `start`: of its membership.

        While its group's epoch does not count it in, nothing happens: that epoch is about to begin, and will attach it.
        """
        session, group = attachment.session, self._groups[attachment.stream.name]
        if group.epoch is None or session.patient_id not in group.roster:
            return
        attachment.attached, attachment.write = True, session.stream.shared_write
        group.lagging[attachment] = group.log.end
        self._send_group_key(attachment, group.epoch, start)
        self.resume((attachment,))

    def detach(self, attachment: Attachment) -> None:
        """It reads the log no more."""
        if attachment.attached:
            group = self._groups[attachment.stream.name]
            attachment.attached = False
            group.abreast.pop(attachment, None)
            group.lagging.pop(attachment, None)
            self._due.pop(attachment, None)

    def pause(self, attachments: Iterable[Attachment]) -> None:
        """Their socket takes no more."""
        for attachment in attachments:
            if attachment.attached:
                group = self._groups[attachment.stream.name]
                if attachment in group.abreast:
                    self._fall_behind(group, attachment)
                self._due.pop(attachment, None)

    def resume(self, attachments: Iterable[Attachment]) -> None:
        """Their socket takes more again, unless it is about to close."""
        for attachment in attachments:
            lags = attachment.attached and attachment in self._groups[attachment.stream.name].lagging
            if lags and attachment.session.writable:
                self._due[attachment] = None
        self._pass_soon()

    # The turns

    def write_soon(self, group: Group) -> None:
        """Its log has grown."""
        if group not in self._grown:
            self._grown[group] = time.monotonic_ns()
        self._pass_soon()

    def write_pass(self) -> None:
        """One turn: what is new goes to those who are abreast; then those who lag and can go on do."""
        self._pass_due = False
        elapsed = clock().elapsed
        grown, self._grown = self._grown, {}
        for group in grown:
            self._write_to_abreast(group, elapsed)
        self._keys_left = GROUP_KEYS_A_TURN
        for attachment in list(self._due):
            if not self._bring_on(attachment, elapsed):
                break  # the others wait for their turn: to look at all of them in each would take n² / 256 looks for an epoch
        self._note_distributions()
        self._note_delays(grown)
        self._pass_soon()

    def _note_distributions(self) -> None:
        """How long handing out the epochs has taken until now: once for each group, and not for each key."""
        now = clock().elapsed
        for group in self._handed_out:
            group.distribution = (now - group.began) / 1000
        self._handed_out.clear()

    def _note_delays(self, grown: Mapping[Group, int]) -> None:
        """Once for each group, with the moment when the last of them had it: a look at the clock for each would cost what a write does."""
        now = time.monotonic_ns()
        for group, since in grown.items():
            self.delays.note((now - since) / 1e9, len(group.abreast))

    def _pass_soon(self) -> None:
        if not self._pass_due and (self._grown or self._due):
            self._pass_due = True
            asyncio.get_running_loop().call_soon(self.write_pass)

    def _write_to_abreast(self, group: Group, elapsed: int) -> None:
        """The hot path: one write for each slice and member, and nothing else but noting it."""
        log = group.log
        while group.abreast and group.cursor >= log.base and (entry := log.at(group.cursor)) is not None:
            if isinstance(entry, Epoch):
                break
            group.cursor = entry.end  # before the writes: a socket that one of them fills lags from there
            frames, size, last = entry.frames, len(entry.frames), entry.last
            for attachment in list(group.abreast):
                attachment.write(frames)
                attachment.note_shared(size, last, elapsed)
        if group.cursor < log.end:  # at a marker, or so much came in one turn that the log has let go of it
            for attachment in list(group.abreast):
                self._fall_behind(group, attachment)
                self._due[attachment] = None
            group.cursor = log.end

    def _bring_on(self, attachment: Attachment, elapsed: int) -> bool:
        """Write what an attachment lacks, as far as its socket takes it; False where it needs a key in a later turn."""
        group = self._groups[attachment.stream.name]
        while attachment in self._due:  # until it is abreast, full, or cut
            cursor = group.lagging[attachment]
            if cursor < group.log.base:
                self._cut_lagging(attachment)
                break
            entry = group.log.at(cursor)
            if entry is None:
                del group.lagging[attachment], self._due[attachment]
                group.abreast[attachment] = None
            elif isinstance(entry, Epoch):
                if not self._keys_left:
                    return False
                self._keys_left -= 1
                group.lagging[attachment] = cursor + 1
                self._send_group_key(attachment, entry, attachment.intervals[-1][0])
                if entry is group.epoch:
                    self._handed_out[group] = None
            else:
                group.lagging[attachment] = entry.end
                attachment.write(entry.frames)
                attachment.note_shared(len(entry.frames), entry.last, elapsed)
        return True

    def _fall_behind(self, group: Group, attachment: Attachment) -> None:
        del group.abreast[attachment]
        group.lagging[attachment] = group.cursor

    def _send_group_key(self, attachment: Attachment, epoch: Epoch, start: int) -> None:
        """Written at once, as slices are, behind whatever else there is to send: `flush` would look at what a key cannot change."""
        connection = attachment.session.connection
        connection.send_group_key(epoch, start)
        record = connection.data_to_send()
        attachment.write(record)
        attachment.shared += len(record)
        attachment.held_epoch = epoch.number

    def _cut_lagging(self, attachment: Attachment) -> None:
        """It fell behind the log's retention: it comes back and catches up message by message."""
        attachment.session.disconnect(DisconnectReason.LAGGING)
        self.detach(attachment)

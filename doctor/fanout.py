"""Streams at work: epochs begin, and messages go into their group's log, from which `doctor.log_writer` writes them to every member.
Who was away is caught up in `doctor.catching_up`, and so is each patient's own stream, which has neither epoch nor log.

Everything here runs on the event loop and in commit order: what is published after a leave is sealed under a key that the
leaver never held, because the leave's epoch marker stands in the log before it. The methods are called from the writer's
`on_commit` callbacks, so that order is the database's order.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable

from doctor import streams
from doctor.catching_up import CatchUp
from doctor.feed import Feed, Topic
from doctor.log_writer import LogWriter
from doctor.outbox import Accepted, Outbox
from doctor.sessions import Attachment, Group, Session
from doctor.streams import Join, Leave, Membership
from doctor.troubles import Troubles
from shared.logs import get_logger
from shared.net.stream import clock
from shared.protocol.epochs import MESSAGE_LIMIT, Epoch
from shared.wire.messages import Stream, TargetKind
from shared.wire.opcodes import DisconnectReason

JOIN_WINDOW = 0.1  # seconds; joins within it share one epoch
LONGEST_JOIN_WINDOW = 2.0  # whatever the last distribution took: who joins has ten seconds for its handshake

_log = get_logger("fanout")


class Fanout:
    """All groups and all sessions of one doctor.

    Args:
        doctor_id: goes into each epoch's derivation.
        outbox: gives back accepted messages.
        reader: a connection that sees what is committed.
        random: entropy.
        on_epoch: told of each new epoch, so that its number is kept and audited.
        floor: the number that the last confirmed restore has burned.
        feed: told when a patient has caught up, and so is established.
    """

    def __init__(
        self,
        doctor_id: str,
        outbox: Outbox,
        reader: sqlite3.Connection,
        random: Callable[[int], bytes],
        on_epoch: Callable[[str, int, int], None],
        floor: int = 0,
        feed: Feed | None = None,
    ) -> None:
        self.groups: dict[str, Group] = {}
        self.last: dict[Stream, int] = {}  # the last number that was accepted in each stream
        self.sessions: dict[str, Session] = {}
        self.accepted = 0  # messages, since the start
        self._doctor_id = doctor_id
        self._reader = reader
        self._random = random
        self._on_epoch = on_epoch
        self._floor = floor
        self._feed = feed or Feed()
        self.log_writer = LogWriter(self.groups)
        self.troubles = Troubles()
        self.catch_up = CatchUp(outbox, reader, self.last, self._caught_up, self.troubles)

    def load(self) -> None:
        """Read groups and members, and begin an epoch in each: no key outlives a restart."""
        self.last.update(streams.last_numbers(self._reader))
        rows = self._reader.execute("SELECT name, epoch FROM groups ORDER BY name").fetchall()
        for name, _ in rows:
            self.groups[name] = Group(name)
        for name, patient_id in streams.current_members(self._reader):
            self.groups[name].members.add(patient_id)
        for name, epoch in rows:
            self._begin_epoch(self.groups[name], epoch + 1)

    # What was committed

    def add_group(self, name: str, last: int) -> None:
        """A group was created; its stream begins after `last`."""
        self.groups[name] = Group(name)
        self.last[streams.of_group(name)] = last
        self._begin_epoch(self.groups[name], 1)

    def join(self, join: Join) -> None:
        """A patient became a member. A group's epoch begins within the window, or with the next message if that is sooner."""
        if join.stream.kind is TargetKind.PATIENT:
            self.last.setdefault(join.stream, join.start)
            return
        group = self.groups[join.stream.name]
        group.members.add(join.patient_id)
        if group.timer is None:
            window = min(max(JOIN_WINDOW, 10 * group.distribution), LONGEST_JOIN_WINDOW)
            group.timer = asyncio.get_running_loop().call_later(window, self.next_epoch, group)

    def extend(self, join: Join) -> None:
        """A patient that may be connected was added to one more group."""
        session = self.sessions.get(join.patient_id)
        if session is None:
            return
        earlier = session.attachments.get(join.stream)
        if earlier is not None and earlier.held_epoch:
            # This session has held an earlier epoch of the group, and accepts none but its successor: a fresh session may
            # begin with any. The device reconnects at once.
            session.disconnect(DisconnectReason.CLOSING)
            return
        attachment = earlier or Attachment(session, join.stream)
        attachment.begin_membership(join.start)
        session.attachments[join.stream] = attachment

    def leave(self, *leaves: Leave) -> None:
        """Memberships ended; in each group the next epoch begins before anything else is published."""
        left = [leave for leave in leaves if leave.stream.kind is TargetKind.GROUP]
        for leave in left:
            self.groups[leave.stream.name].members.discard(leave.patient_id)
        for leave in leaves:
            session = self.sessions.get(leave.patient_id)
            attachment = session.attachments.get(leave.stream) if session else None
            if attachment is not None and attachment.member:
                self.log_writer.detach(attachment)
                attachment.end_membership(leave.until)
                self.catch_up.soon(attachment)
        for leave in left:
            self.next_epoch(self.groups[leave.stream.name])

    def publish(self, accepted: Accepted) -> None:
        """A message was accepted: seal it once for all that read the log, or send it to the one patient it is for."""
        self.accepted += 1
        if accepted.stream.kind is TargetKind.PATIENT:
            self._publish_private(accepted)
            return
        group = self.groups[accepted.stream.name]
        if group.timer is not None or group.sequence >= MESSAGE_LIMIT:
            self.next_epoch(group)
        self.last[accepted.stream] = accepted.number
        if group.read and group.epoch is not None:
            frame = group.epoch.seal(group.sequence, accepted.message)
            group.sequence += 1
            group.log.append(frame, accepted.number)
            self.log_writer.write_soon(group)

    def _publish_private(self, accepted: Accepted) -> None:
        self.last[accepted.stream] = accepted.number
        session = self.sessions.get(accepted.stream.name)
        if session is not None:
            self.catch_up.soon(session.attachments[accepted.stream])

    # Sessions

    def add_session(self, session: Session, memberships: tuple[Membership, ...]) -> Session | None:
        """A patient was admitted; returns the session that this one replaces."""
        replaced = self.sessions.get(session.patient_id)
        if replaced is not None:
            self.drop_session(replaced)
        self.sessions[session.patient_id] = session
        histories: dict[Stream, list[Membership]] = {}
        for membership in memberships:
            histories.setdefault(membership.stream, []).append(membership)
        for stream, history in histories.items():
            attachment = session.attachments[stream] = Attachment(session, stream)
            attachment.remember(history)
        return replaced

    def drop_session(self, session: Session) -> None:
        """A session ended. Its patient stays a member: being away is not leaving."""
        if self.sessions.get(session.patient_id) is session:
            del self.sessions[session.patient_id]
        for attachment in session.attachments.values():
            self.log_writer.detach(attachment)
        session.attachments.clear()  # each holds its session: so both are freed now, and not by the collector

    def begin_delivery(self, session: Session, reported: dict[Stream, int]) -> None:
        """The patient has said where it stands: send what it missed, then attach it.

        Args:
            reported: the last number of each stream that the patient has. It may be below what is known as delivered, where
                its disk was put back to an earlier state: it is sent again what it lost.
        """
        session.positioned = True
        for stream, attachment in list(session.attachments.items()):
            attachment.written = reported.get(stream, 0)
            self.catch_up.soon(attachment)

    def last_issued(self, attachment: Attachment | None) -> int:
        """The highest number that can ever have been sent to the patient of this attachment; None: of a stream that is unknown,
        or was never meant for it.

        What was issued in a time that a restored database has lost is at or below the number that its confirmation burned.
        """
        if attachment is None:
            return self._floor
        if attachment.member:
            return self.last[attachment.stream]
        return max(attachment.delivered, attachment.issued, self._floor)

    def begin_anew(self, floor: int) -> None:
        """A restored database was confirmed: every stream goes on above this number, every group in a new epoch."""
        self._floor = floor
        for stream in self.last:
            self.last[stream] = floor
        for group in self.groups.values():
            self.next_epoch(group)

    def pause(self, session: Session) -> None:
        """The patient's socket takes no more, for now or for good."""
        self.log_writer.pause(session.attachments.values())

    def resume(self, session: Session) -> None:
        """The patient's socket takes more again."""
        for attachment in session.attachments.values():
            self.catch_up.soon(attachment)
        self.log_writer.resume(session.attachments.values())

    def send_unreceipted_again(self) -> None:
        """Called now and then: see `CatchUp`."""
        for session in list(self.sessions.values()):
            self.catch_up.send_unreceipted_again(session)

    def forget_read(self) -> None:
        """Let go of what every cursor has passed: frames, and with the markers the secrets of past epochs."""
        for group in self.groups.values():
            shared = group.cursor if group.abreast else group.log.end
            group.log.forget_before(min([shared, *group.lagging.values()]))

    def close(self) -> None:
        """The doctor stops: begin no further epochs."""
        for group in self.groups.values():
            if group.timer is not None:
                group.timer.cancel()

    def next_epoch(self, group: Group) -> None:
        """Begin the group's next epoch now."""
        self._begin_epoch(group, group.epoch_number + 1)

    # Inside

    def _begin_epoch(self, group: Group, number: int) -> None:
        if group.timer is not None:
            group.timer.cancel()
            group.timer = None
        roster = sorted(group.members)
        online = [self.sessions[member].contribution for member in roster if member in self.sessions]
        group.epoch = Epoch.begin(self._doctor_id, group.name, number, online, roster, self._random)
        group.roster = frozenset(roster)
        group.sequence = 0
        group.began = clock().elapsed
        self._on_epoch(group.name, number, len(roster))
        if group.read:
            group.log.mark(group.epoch)
            self.log_writer.write_soon(group)
        stream = streams.of_group(group.name)
        for member in group.roster:
            session = self.sessions.get(member)
            attachment = session.attachments.get(stream) if session and session.positioned else None
            if attachment is not None and not attachment.attached:
                self.catch_up.soon(attachment)

    def _caught_up(self, attachment: Attachment, start: int) -> None:
        if not attachment.private:
            self.log_writer.attach(attachment, start)
            self._feed.tell(Topic.PATIENTS)

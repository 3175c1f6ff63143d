"""Sockets that fill and empty, members that come, go and lag, epochs and messages, in any order and in one turn of the loop or many:
every member sees each of its messages once and in order, under a key that it was given before, and nobody is forgotten.

Fan-out, its log and its catching up are the real ones, over streams whose sockets are in memory; what is left out is the disk and the
sessions' own encryption. So it plays games by the thousand that `test_membership` plays whole.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from doctor import broadcast_log, catching_up, fanout, log_writer, streams
from doctor.fanout import Fanout
from doctor.outbox import Accepted, Outbox
from doctor.sessions import Session
from doctor.streams import Join, Leave, Membership
from shared.crypto.secret import Secret
from shared.net import stream as net_stream
from shared.protocol.doctor_connection import DoctorConnection
from shared.protocol.epochs import Epoch
from shared.wire import framing
from shared.wire.framing import HEADER_SIZE
from shared.wire.messages import SignedMessage, Stream
from shared.wire.opcodes import DisconnectReason, Opcode
from tests.crypto_tools import entropy
from tests.protocol_bench import frame_of, split

GROUPS = ("everyone", "ward")
NAMES = tuple("abcde")
HIGH_WATER = 1500


class Socket(asyncio.Transport):
    """A socket in memory that is emptied by hand."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__(extra={"peername": ("memory", 1)})
        self.protocol = protocol
        self.held = False  # the device reads nothing by itself
        self.buffer, self.taken = b"", b""
        self.full = self.closing = False

    def write(self, data: Any) -> None:
        """Keep it, and say at once when it is too much."""
        assert not self.closing, "written to after the end"
        self.buffer += data
        if len(self.buffer) > HIGH_WATER and not self.full:
            self.full = True
            self.protocol.pause_writing()

    def take(self, size: int) -> None:
        """The device reads so many bytes."""
        self.taken, self.buffer = self.taken + self.buffer[:size], self.buffer[size:]
        if self.full and len(self.buffer) <= HIGH_WATER // 4:
            self.full = False
            self.protocol.resume_writing()
        if self.closing and not self.buffer:
            self.protocol.connection_lost(None)

    def close(self) -> None:
        """End when everything is taken."""
        self.closing = True

    def abort(self) -> None:
        """End now."""
        self.closing, self.buffer = True, b""
        self.protocol.connection_lost(None)

    def is_closing(self) -> bool:
        """Whether nothing can be written any more."""
        return self.closing

    def get_write_buffer_size(self) -> int:
        """What the device has not read."""
        return len(self.buffer)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Fixed."""

    def pause_reading(self) -> None:
        """Nothing ever comes."""

    def resume_reading(self) -> None:
        """Nothing ever comes."""


class PlainConnection:
    """The doctor's side of a session without its encryption: frames say what a session's records would."""

    def __init__(self) -> None:
        self.ended = False
        self._outgoing = b""

    def send_group_key(self, epoch: Epoch, start: int) -> None:
        """A frame that holds the key's id."""
        self._send(Opcode.GROUP_KEY, epoch.key_id + start.to_bytes(8, "big"))

    def send_direct(self, start: int, message: SignedMessage) -> None:
        """A frame that holds the envelope."""
        self._send(Opcode.DIRECT, start.to_bytes(8, "big") + message.envelope)

    def disconnect(self, reason: DisconnectReason) -> None:
        """No record follows."""
        self._send(Opcode.DISCONNECT, bytes([reason]))
        self.ended = True

    def _send(self, opcode: Opcode, payload: bytes) -> None:
        if not self.ended:
            self._outgoing += framing.header(opcode, len(payload)) + payload

    def data_to_send(self) -> bytes:
        """As the real one."""
        data, self._outgoing = self._outgoing, b""
        return data

    def take_events(self) -> list[Any]:
        """None."""
        return []

    def next_deadline(self) -> int | None:
        """None."""
        return None

    def receive_eof(self, now: object) -> None:
        """The socket is gone."""
        self.ended = True


@dataclass
class Member:
    """A patient: what is meant for it, what its device has, and its present connection."""

    name: str
    memberships: dict[str, list[list[int | None]]] = field(default_factory=lambda: defaultdict(list))
    owed: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    shown: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    position: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    held: dict[str, Epoch] = field(default_factory=dict)
    socket: Socket | None = None
    session: Session | None = None

    def in_group(self, group: str) -> bool:
        """Whether what is accepted now is meant for it."""
        return bool(self.memberships[group]) and self.memberships[group][-1][1] is None


class LiveFanout(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.troubles: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _, context: self.troubles.append(context))
        self.db = sqlite3.connect(":memory:")
        self.random = entropy("live fan-out")
        self.messages: dict[str, list[tuple[int, int]]] = {group: [] for group in GROUPS}  # number, previous
        self.last = dict.fromkeys(GROUPS, 0)
        self.epochs: dict[bytes, Epoch] = {}
        self.members: dict[str, Member] = {}
        self.sound = True
        self.fanout = Fanout("doctor", cast(Outbox, self), self.db, self.random, self.note_epoch)
        self.play([partial(self.fanout.add_group, group, 0) for group in GROUPS], 1)

    # What stands for the disk

    def load(
        self, db: object, stream: Stream, after: int, up_to: int, now: int, limit: int
    ) -> list[tuple[int, SignedMessage]]:
        """As `Outbox.load`."""
        numbers = [number for number, _ in self.messages[stream.name] if after < number <= up_to]
        return [(number, self.message(stream.name, number)) for number in numbers[:limit]]

    def message(self, group: str, number: int) -> SignedMessage:
        """A message says in its envelope what it is."""
        previous = dict(self.messages[group])[number]
        envelope = b"%s %d %d" % (group.encode(), number, previous)
        return SignedMessage(envelope, bytes(64), bytes(16), b"x" * (number % 5 * 100))

    def note_epoch(self, group: str, number: int, members: int) -> None:
        """An epoch has begun: devices know it by its key's id."""
        epoch = self.fanout.groups[group].epoch
        assert epoch is not None
        self.epochs[epoch.key_id] = epoch

    # Turns of the loop

    def play(self, acts: list[Callable[[], object]], turns: int) -> None:
        """Do all this in one turn, and then let so many turns pass, after each of which sockets that are not held are emptied."""

        async def together() -> None:
            for act in acts:
                act()
            for _ in range(turns):
                await asyncio.sleep(0)
                self.read()

        try:
            self.loop.run_until_complete(together())
            assert self.troubles == []
        except BaseException:
            self.sound = False
            raise

    def read(self) -> None:
        """Devices that read take what there is."""
        for member in self.members.values():
            if member.socket is not None and not member.socket.held and member.socket.buffer:
                member.socket.take(len(member.socket.buffer))
            self.apply(member)

    # The device

    def apply(self, member: Member) -> None:
        """Take whole frames off the wire and judge each."""
        socket = member.socket
        if socket is None:
            return
        for frame in split(socket.taken):
            if len(frame) < HEADER_SIZE or len(frame) < HEADER_SIZE + int.from_bytes(frame[2:6], "big"):
                socket.taken = frame
                return
            self.judge(member, frame)
        socket.taken = b""

    def judge(self, member: Member, frame: bytes) -> None:
        """Never a key but the next, never a frame that does not open, never a message but the next."""
        payload = frame[HEADER_SIZE:]
        if frame[1] == Opcode.GROUP_KEY:
            epoch, start = self.epochs[payload[:16]], int.from_bytes(payload[16:], "big")
            held = member.held.get(epoch.group)
            assert held is None or epoch.number == held.number + 1
            member.held[epoch.group] = epoch
            member.position[epoch.group] = max(member.position[epoch.group], start)
        elif frame[1] == Opcode.DIRECT:
            group = payload[8:].split()[0].decode()
            member.position[group] = max(member.position[group], int.from_bytes(payload[:8], "big"))
            self.show(member, payload[8:])
        elif frame[1] == Opcode.BROADCAST:
            epoch = self.epochs[payload[:16]]
            assert member.held[epoch.group] is epoch, "sealed under a key that it was not given, or not yet"
            opened = epoch.open(int.from_bytes(payload[16:24], "big"), frame_of(frame))
            self.show(member, opened.envelope)

    def show(self, member: Member, envelope: bytes) -> None:
        """The next message of its stream, and one that is meant for it."""
        name, number, previous = envelope.split()
        group = name.decode()
        assert int(previous) == member.position[group], "a gap, or once more"
        assert int(number) in member.owed[group], "not meant for it"
        member.position[group] = int(number)
        member.shown[group].append(int(number))

    # What happens

    def connect(self, member: Member, joins: tuple[str, ...] = ()) -> None:
        """A new connection, which replaces the present one."""
        connection = PlainConnection()
        stream = net_stream.Stream(
            cast(DoctorConnection, connection),
            lambda events: None,
            lambda: self.fanout.drop_session(session),
            lambda: self.fanout.resume(session),
            lambda: self.fanout.pause(session),
        )
        session = Session(member.name, stream, Secret(self.random(32)), "suite")
        replaced = self.fanout.add_session(session, tuple(self.history(member)))
        if replaced is not None:
            replaced.disconnect(DisconnectReason.REPLACED)
            assert member.socket is not None
            member.socket.abort()
        member.session, member.socket, member.held = session, Socket(stream), {}
        stream.connection_made(member.socket)
        for group in joins:
            start = cast(int, member.memberships[group][-1][0])
            self.fanout.join(Join(streams.of_group(group), member.name, start))
        positions = {streams.of_group(group): number for group, number in member.position.items()}
        self.fanout.begin_delivery(session, positions)

    def history(self, member: Member) -> list[Membership]:
        """Its memberships as the disk has them, with what the device has as acknowledged."""
        return [
            Membership(
                streams.of_group(group),
                member.name,
                cast(int, start),
                until,
                None if until is None else "removed",
                max(
                    cast(int, start),
                    member.position[group] if until is None else min(member.position[group], until),
                ),
            )
            for group, intervals in member.memberships.items()
            for start, until in intervals
        ]

    def act(self, data: st.DataObject) -> Callable[[], object]:
        """Something that happens."""
        kinds = (
            self.publish,
            self.publish,
            self.come,
            self.hold,
            self.release,
            self.sip,
            self.cut,
            self.join,
            self.leave,
        )
        kind = data.draw(st.sampled_from([*kinds, self.roll]), label="what")
        name, group = data.draw(st.sampled_from(NAMES)), data.draw(st.sampled_from(GROUPS))
        size = data.draw(st.integers(1, HIGH_WATER))
        return partial(kind, name, group, size)

    def publish(self, name: str, group: str, size: int) -> None:
        """A message is accepted."""
        number = self.last[group] + 1 + size % 3
        self.messages[group].append((number, self.last[group]))
        self.last[group] = number
        recipients = [member for member in self.members.values() if member.in_group(group)]
        for member in recipients:
            member.owed[group].append(number)
        stream = streams.of_group(group)
        message = self.message(group, number)
        self.fanout.publish(Accepted(f"{group}.{number}", stream, number, len(recipients), message))

    def come(self, name: str, group: str, size: int) -> None:
        """Enrol, or connect anew."""
        member, joins = self.members.get(name), tuple[str, ...]()
        if member is None:
            member = self.members[name] = Member(name)
            member.memberships["everyone"].append([self.last["everyone"], None])
            joins = ("everyone",)
        self.connect(member, joins)

    def hold(self, name: str, group: str, size: int) -> None:
        """A device stops reading."""
        if name in self.members and self.members[name].socket is not None:
            cast(Socket, self.members[name].socket).held = True

    def release(self, name: str, group: str, size: int) -> None:
        """It reads again."""
        if name in self.members and self.members[name].socket is not None:
            cast(Socket, self.members[name].socket).held = False

    def sip(self, name: str, group: str, size: int) -> None:
        """It reads a little."""
        socket = self.members[name].socket if name in self.members else None
        if socket is not None and socket.buffer:
            socket.take(size)
            self.apply(self.members[name])

    def cut(self, name: str, group: str, size: int) -> None:
        """Its connection breaks; what was under way is lost."""
        socket = self.members[name].socket if name in self.members else None
        if socket is not None:
            socket.abort()

    def join(self, name: str, group: str, size: int) -> None:
        """Into the ward."""
        member = self.members.get(name)
        if member is None or member.in_group("ward"):
            return
        intervals = member.memberships["ward"]
        if intervals and intervals[-1][1] == self.last["ward"]:
            return  # nothing was accepted since: its last interval would go on, which the disk's side of it decides
        intervals.append([self.last["ward"], None])
        joined = Join(streams.of_group("ward"), name, self.last["ward"])
        self.fanout.join(joined)
        self.fanout.extend(joined)

    def leave(self, name: str, group: str, size: int) -> None:
        """Out of it; what was accepted before is still owed."""
        member = self.members.get(name)
        if member is None or not member.in_group("ward"):
            return
        member.memberships["ward"][-1][1] = self.last["ward"]
        self.fanout.leave(Leave(streams.of_group("ward"), name, self.last["ward"], "removed"))

    def roll(self, name: str, group: str, size: int) -> None:
        """A new epoch."""
        self.fanout.next_epoch(self.fanout.groups[group])

    @rule(data=st.data(), acts=st.integers(1, 4), turns=st.integers(0, 3), forget=st.booleans())
    def go_on(self, data: st.DataObject, acts: int, turns: int, forget: bool) -> None:
        """Some of it in one turn of the loop."""
        self.play([self.act(data) for _ in range(acts)], turns)
        if forget:
            self.fanout.forget_read()

    # What holds

    @invariant()
    def nobody_is_forgotten_or_in_two_places(self) -> None:
        """The states of `doctor.log_writer`, between any two acts."""
        writer = self.fanout.log_writer
        for group in self.fanout.groups.values():
            assert not set(group.abreast) & set(group.lagging)
            assert group.cursor <= group.log.end
            assert all(cursor <= group.log.end for cursor in group.lagging.values())
            assert all(attachment.session.writable for attachment in group.abreast)
            for attachment in group.lagging:
                assert (attachment in writer._due) == attachment.session.writable
            assert group.cursor == group.log.end or group in writer._grown or not group.abreast
        assert all(attachment.attached for attachment in writer._due)
        assert writer._pass_due or not (writer._due or writer._grown)

    def come_home(self) -> None:
        """Every epoch that is due begins, who is away connects, and so many turns pass that all comes to rest."""
        acts: list[Callable[[], object]] = [
            partial(self.fanout.next_epoch, group)
            for group in self.fanout.groups.values()
            if group.timer is not None
        ]
        for member in self.members.values():
            if member.session is None or not member.session.live:
                acts.append(partial(self.connect, member))
        self.play(acts, 60)

    def teardown(self) -> None:
        """Everybody reads again and comes back, as often as it is sent away: then it has all of it."""
        try:
            if self.sound:
                self.play([partial(self.release, name, "", 0) for name in self.members], 1)
                for _ in range(3):
                    self.come_home()
                for member in self.members.values():
                    for name in GROUPS:
                        assert member.shown[name] == member.owed[name]
                        if member.in_group(name):
                            assert member.session is not None
                            of = member.session.attachments[streams.of_group(name)]
                            assert of in self.fanout.groups[name].abreast
        finally:
            self.fanout.close()
            self.loop.close()
            self.db.close()


def play(examples: int, steps: int, random: bool) -> None:
    """Play so many games with small buffers, so that little is much."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fanout, "JOIN_WINDOW", 3600.0)
        patch.setattr(fanout, "LONGEST_JOIN_WINDOW", 3600.0)
        patch.setattr(catching_up, "BATCH", 3)
        patch.setattr(broadcast_log, "SLICE_BYTES", 1000)
        patch.setattr(broadcast_log, "SLICES_KEPT", 2)
        patch.setattr(broadcast_log, "RETENTION_BYTES", 4000)
        patch.setattr(log_writer, "GROUP_KEYS_A_TURN", 2)
        run_state_machine_as_test(
            LiveFanout,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                derandomize=not random,
                database=None,
                deadline=None,
            ),
        )


def test_every_member_sees_each_message_once_and_in_order() -> None:
    """The sampled form: the same games each time."""
    play(examples=60, steps=25, random=False)


@pytest.mark.slow
def test_every_member_sees_each_message_once_and_in_order_in_other_games() -> None:
    """The exhaustive form: other games each time."""
    play(examples=3000, steps=60, random=True)

"""Our own subscribers for the drain: lean patients whose handshake was real, of whom the first reads and verifies everything.

The others' bytes are counted only: it is the doctor that is measured. What the first one learns, the number of the last message,
lets all of them acknowledge it in a receipt of their own, sealed under their session.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

from lab.bench import crowd
from lab.bench.lean import LeanPatient, LeanSession
from shared.crypto.signatures import ECDSA_P256
from shared.crypto.suites import suite_by_name
from shared.net.stream import clock
from shared.protocol import envelopes
from shared.protocol.envelopes import Draft
from shared.protocol.epochs import Epoch
from shared.protocol.events import MessageReceived
from shared.protocol.invitations import from_text
from shared.protocol.records import RecordSealer
from shared.wire import messages
from shared.wire.messages import KEY_SIZE, Position, Stream, TargetKind
from shared.wire.opcodes import Opcode

AT_ONCE = 1000  # handshakes: each of them may take ten seconds


@dataclass(slots=True)
class OurSubscribers:
    """Patients of one doctor. `invitation`: a fleet's, as text."""

    invitation: str
    suite: str
    address: tuple[str, int]
    patients: list[LeanPatient] = field(default_factory=list)
    sessions: list[LeanSession] = field(default_factory=list)
    last: Position | None = None
    read: list[bytes] = field(default_factory=list)  # by the first patient, in this round

    def connect(self, count: int) -> list[socket.socket]:
        """Enrol so many more, then let all come back: nobody joins any more, and the group stays in its epoch."""
        invitation, suite = from_text(self.invitation), suite_by_name(self.suite)
        newcomers = [LeanPatient(invitation, suite) for _ in range(count)]
        for wave in _waves(newcomers):
            for session in crowd.connect(wave, self.address):
                session.close()
        for session in self.sessions:
            session.close()
        self.patients += newcomers
        self.sessions = []
        for wave in _waves(self.patients):
            self.sessions += crowd.connect(wave, self.address)
            self.finish()  # a large ward takes longer than a device may be silent
        return [session.socket for session in self.sessions]

    def round_size(self, sockets: list[socket.socket], messages: int, body: int) -> int:
        """Every broadcast of the same body's length is a frame of the same length."""
        return messages * frame_size(body)

    def answer(self, number: int, data: memoryview) -> bytes:
        """What the first patient has read is opened and verified in `finish`: while time is taken, a drain only reads."""
        if number == 0:
            self.read.append(bytes(data))
        return b""

    def finish(self) -> None:
        """Everyone acknowledges the last message; also where nothing was sent, for who says nothing is taken for gone."""
        whole, self.read = b"".join(self.read), []
        for event in self.sessions[0].take(whole) if whole else ():
            if isinstance(event, MessageReceived):
                self.last = Position(event.envelope.stream, event.envelope.number, [])
        for session in self.sessions:
            session.socket.setblocking(True)
            session.connection.acknowledge([] if self.last is None else [self.last])
            session.flush()


def _waves(patients: list[LeanPatient]) -> Iterator[list[LeanPatient]]:
    for first in range(0, len(patients), AT_ONCE):
        yield patients[first : first + AT_ONCE]


def group_key_size(epoch: int) -> int:
    """Bytes of the record that brings a patient this epoch of everyone's group."""
    key = Epoch.begin("doctor", "everyone", epoch, [], [], os.urandom).group_key(0)
    return len(RecordSealer(bytes(KEY_SIZE)).seal(Opcode.GROUP_KEY, messages.encode(key)))


def frame_size(body: int) -> int:
    """Bytes of the BROADCAST frame of a message to everyone with a body of so many bytes."""
    now = clock().wall
    key = ECDSA_P256.generate(os.urandom)
    draft = Draft(Stream(TargetKind.GROUP, "everyone"), "", now, now + 1, b"x" * body)
    message = envelopes.sign("doctor", key, draft, now * 1000 + 1, now * 1000, os.urandom)
    return len(Epoch.begin("doctor", "everyone", 1, [], [], os.urandom).seal(0, message))

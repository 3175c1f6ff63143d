"""Our own subscribers for the drain: lean patients whose handshake was real, of whom the first reads and verifies everything.

The others' bytes are counted only: it is the doctor that is measured. What the first one learns, the number of the last message,
lets all of them acknowledge it in a receipt of their own, sealed under their session.
"""

from __future__ import annotations

import os
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from lab.bench.lean import LeanPatient, LeanSession
from shared.crypto.signatures import ECDSA_P256
from shared.crypto.suites import suite_by_name
from shared.net.stream import clock
from shared.protocol import envelopes
from shared.protocol.envelopes import Draft
from shared.protocol.epochs import Epoch
from shared.protocol.events import MessageReceived
from shared.protocol.invitations import from_text
from shared.wire.messages import Position, Stream, TargetKind

ENROLLING = 32  # at once


@dataclass(slots=True)
class OurSubscribers:
    """Patients of one doctor. `invitation`: a fleet's, as text."""

    invitation: str
    suite: str
    address: tuple[str, int]
    sessions: list[LeanSession] = field(default_factory=list)
    last: Position | None = None

    def connect(self, count: int) -> list[socket.socket]:
        """Enrol all, then let all come back: nobody joins any more, and the group stays in its epoch."""
        invitation, suite = from_text(self.invitation), suite_by_name(self.suite)
        patients = [LeanPatient(invitation, suite) for _ in range(count)]
        # Those who join together share an epoch, and the wait for it.
        with ThreadPoolExecutor(ENROLLING) as pool:
            for session in pool.map(lambda patient: patient.connect(self.address), patients):
                session.close()
        self.sessions += [patient.connect(self.address) for patient in patients]
        return [session.socket for session in self.sessions]

    def round_size(self, sockets: list[socket.socket], messages: int, body: int) -> int:
        """Every broadcast of the same body's length is a frame of the same length."""
        return messages * frame_size(body)

    def answer(self, number: int, data: memoryview) -> bytes:
        """The first patient reads; it answers in `finish`, with the others."""
        if number == 0:
            for event in self.sessions[0].take(bytes(data)):
                if isinstance(event, MessageReceived):
                    self.last = Position(event.envelope.stream, event.envelope.number, [])
        return b""

    def finish(self) -> None:
        """Everyone acknowledges the last message."""
        if self.last is None:
            return
        for session in self.sessions:
            session.socket.setblocking(True)
            session.connection.acknowledge([self.last])
            session.flush()


def frame_size(body: int) -> int:
    """Bytes of the BROADCAST frame of a message to everyone with a body of so many bytes."""
    now = clock().wall
    key = ECDSA_P256.generate(os.urandom)
    draft = Draft(Stream(TargetKind.GROUP, "everyone"), "", now, now + 1, b"x" * body)
    message = envelopes.sign("doctor", key, draft, now * 1000 + 1, now * 1000, os.urandom)
    return len(Epoch.begin("doctor", "everyone", 1, [], [], os.urandom).seal(0, message))

"""A doctor that is small and real: the protocol's own connections over loopback sockets, a roster in memory, no database.

What it does with a session is decided by the test: `admit`, `greet`, `skew` and `keep_reports` are its switches. Nothing here sleeps: `until` waits
until something has happened that makes a condition true.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from msgspec.structs import replace

from shared.crypto.signatures import SIGNERS, Algorithm, SigningKey, fingerprint
from shared.crypto.suites import SUITES, SuiteId
from shared.net import stream as net
from shared.protocol import envelopes, rotation
from shared.protocol.clock import SECOND, Instant
from shared.protocol.doctor_connection import DoctorConnection
from shared.protocol.doctor_handshake import Member, OpenInvitation, Practice, Standing
from shared.protocol.envelopes import Draft
from shared.protocol.epochs import Epoch
from shared.protocol.events import Disconnected, Event, Positioned, Receipted, Reported, Verified
from shared.protocol.invitations import DoctorKey, Invitation
from shared.protocol.prekeys import PrekeyRing
from shared.protocol.replay import ReplayCache
from shared.wire.checks import Check
from shared.wire.messages import Position, Report, Rotation, SignedMessage, Stream, TargetKind
from tests.protocol_bench import FakeDirectory

DAY = 24 * 3600 * SECOND
EVERYONE = Stream(TargetKind.GROUP, "everyone")
PATIENCE_S = 10.0

random = os.urandom


class Happenings:
    """Something that tests wait for."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Something has happened: let those who wait look again."""
        self._changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until the condition holds."""
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


class SkewedConnection(DoctorConnection):
    """A doctor's connection whose wall clock is off by `skew` milliseconds."""

    skew = 0

    def receive_data(self, data: bytes, now: Instant) -> None:
        """As the base, later or earlier."""
        super().receive_data(data, Instant(now.wall + self.skew, now.elapsed))


class Visit:
    """One connection to the doctor."""

    def __init__(self, doctor: SmallDoctor) -> None:
        self.doctor = doctor
        self.patient_id = ""
        self.events: list[Event] = []
        self.first: tuple[Position, ...] | None = None
        self.receipts: list[tuple[Position, ...]] = []
        self.reports: list[Report] = []
        self.closed = False
        connection = SkewedConnection(doctor.practice, net.clock())
        connection.skew = doctor.skew
        self.stream = net.Stream(connection, self._take, self._lost)

    @property
    def goodbye(self) -> bool:
        """Whether the patient has ended the session in good order."""
        return any(isinstance(event, Disconnected) for event in self.events)

    def direct(self, message: SignedMessage, start: int = 0) -> None:
        """Send one message to this patient alone."""
        self.stream.connection.send_direct(start, message)
        self.stream.flush()

    def broadcast(self, frame: bytes) -> None:
        """Send a finished frame."""
        self.stream.flush()
        self.stream.shared_write(frame)

    def _take(self, events: list[Event]) -> None:
        for event in events:
            self.events.append(event)
            if isinstance(event, Verified):
                self._verified(event)
            elif isinstance(event, Positioned):
                self.first = event.positions
                self.doctor.greet(self)
            elif isinstance(event, Receipted):
                self.receipts.append(event.positions)
            elif isinstance(event, Reported):
                self._take_report(event.report)
        self.doctor.changed()

    def receipt(self, *reports: Report) -> None:
        """Say that these reports are kept."""
        self.stream.connection.acknowledge_reports([report.report_id for report in reports])
        self.stream.flush()

    def _take_report(self, report: Report) -> None:
        self.reports.append(report)
        if self.doctor.keep_reports:
            self.doctor.reports.setdefault(report.report_id, report)
            self.receipt(report)

    def _verified(self, event: Verified) -> None:
        self.patient_id = event.patient_id
        doctor, now = self.doctor, net.clock()
        if doctor.refuse_with is not None:
            self.stream.connection.refuse(doctor.refuse_with, "as the test wants it", now)
        elif doctor.admit:
            if event.invitation_id is not None:
                doctor.enrol(event)
            self.stream.connection.admit(now)
        elif doctor.cut:
            self.stream.abort()

    def _lost(self) -> None:
        self.closed = True
        self.doctor.changed()


class SmallDoctor(Happenings):
    """A doctor on a loopback port; `async with` opens and closes it.

    Args:
        keys: its signing keys; two doctors with one id and different keys are an impostor's case.
        port: 0 takes a free one.
    """

    def __init__(
        self,
        *,
        doctor_id: str = "doctor",
        keys: dict[Algorithm, SigningKey] | None = None,
        directory: FakeDirectory | None = None,
        suites: Sequence[SuiteId] = tuple(SUITES),
        port: int = 0,
    ) -> None:
        super().__init__()
        self.keys = keys or {algorithm: SIGNERS[algorithm].generate(random) for algorithm in SIGNERS}
        self.directory = directory or FakeDirectory()
        self.doctor_id = doctor_id
        self.practice = Practice(
            doctor_id,
            self.keys,
            frozenset(suites),
            self.directory,
            PrekeyRing(doctor_id, self.keys, random),
            ReplayCache(60 * SECOND),
            random,
            rotation=lambda _: self.announced,
        )
        self.announced: Rotation | None = None
        self.port = port
        self.visits: list[Visit] = []
        self.epoch = Epoch.begin(doctor_id, "everyone", 1, [], [], random)
        self.sequence = 0
        self.admit = True
        self.cut = False
        self.refuse_with: Check | None = None
        self.skew = 0
        self.keep_reports = True
        self.reports: dict[bytes, Report] = {}
        self.greet: Callable[[Visit], None] = self.send_group_key
        self._last: dict[Stream, int] = {}

    async def __aenter__(self) -> SmallDoctor:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for visit in self.visits:
            visit.stream.abort()
        await self.until(lambda: all(visit.closed for visit in self.visits))
        await self._server.wait_closed()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    @property
    def last(self) -> Visit:
        """The newest connection."""
        return self.visits[-1]

    # What a doctor does

    def invite(
        self,
        patient_id: str | None = "alice",
        *,
        uses: int = 1,
        lifetime: int = DAY,
        addresses: Sequence[str] = (),
        algorithms: Sequence[Algorithm] = tuple(Algorithm),
    ) -> Invitation:
        """An open invitation. `patient_id` None: a fleet's."""
        expires = net.clock().wall + lifetime
        invitation_id, secret = random(16), random(32)
        self.directory.invitations[invitation_id] = OpenInvitation(secret, expires, uses, patient_id)
        keys = [DoctorKey(algorithm, self.keys[algorithm].public) for algorithm in algorithms]
        where = list(addresses) or [self.address]
        return Invitation(
            self.doctor_id, keys, where, ["everyone"], invitation_id, secret, expires, uses, patient_id
        )

    def rotate(self, sequence: int = 1, doctor_id: str | None = None) -> None:
        """Give itself new keys, and show from now on that the former ones vouch for them."""
        new = {algorithm: SIGNERS[algorithm].generate(random) for algorithm in self.keys}
        now = net.clock().wall + 1
        self.announced = rotation.state(doctor_id or self.doctor_id, sequence, now, self.keys, new)
        self.keys.update(new)

    def enrol(self, event: Verified) -> None:
        """Put a patient on the roster and use its invitation up."""
        assert event.invitation_id is not None
        self.directory.members[event.patient_id] = Member(
            event.patient_id, event.algorithm, event.public_key, Standing.ACTIVE
        )
        found = self.directory.invitations[event.invitation_id]
        self.directory.invitations[event.invitation_id] = OpenInvitation(
            found.secret, found.expires, found.uses_left - 1, found.patient_id
        )

    def revoke(self, patient_id: str) -> None:
        """Leave a tombstone."""
        member = self.directory.members[patient_id]
        self.directory.members[patient_id] = Member(
            patient_id, member.algorithm, member.public_key, Standing.REVOKED
        )

    def send_group_key(self, visit: Visit) -> None:
        """The default greeting: the epoch of everyone, from the start of its stream."""
        visit.stream.connection.send_group_key(self.epoch, 0)

    def sign(
        self, body: bytes, stream: Stream = EVERYONE, *, previous: int | None = None, lifetime: int = DAY
    ) -> SignedMessage:
        """The next message of a stream."""
        before = self._last.get(stream, 0)
        number = self._last[stream] = before + 10
        created = net.clock().wall
        name = ""
        if stream.kind is TargetKind.PATIENT:
            member = self.directory.members[stream.name]
            name = fingerprint(member.algorithm, member.public_key)
        draft = Draft(stream, name, created, created + lifetime, body)
        following = before if previous is None else previous
        key = self.keys[Algorithm.ECDSA_P256]
        return envelopes.sign(self.doctor_id, key, draft, number, following, random)

    def seal(self, message: SignedMessage) -> bytes:
        """The BROADCAST frame of a message."""
        self.sequence += 1
        return self.epoch.seal(self.sequence, message)

    def say(self, text: str) -> SignedMessage:
        """Broadcast to everyone who is connected."""
        message = self.sign(text.encode())
        frame = self.seal(message)
        for visit in self.visits:
            if visit.first is not None and not visit.closed:
                visit.broadcast(frame)
        return message

    def _accept(self) -> asyncio.Protocol:
        visit = Visit(self)
        self.visits.append(visit)
        return visit.stream


def replace_practice(doctor: SmallDoctor, **changes: Any) -> None:
    """Let the doctor's next connections work by other rules."""
    doctor.practice = dataclasses.replace(doctor.practice, **changes)


def without_body(message: SignedMessage) -> SignedMessage:
    """What is sent of a message that has expired."""
    return replace(message, body=None)

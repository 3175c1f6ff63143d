"""Peers that are honest up to one frame, and say something else in its place: a patient to a real doctor, a doctor to real patients.

Law: everything before that frame is the protocol's own state machine at work, so the other side really is in the state that the frame
meets. What comes back is read by the same state machine, so an alert is told as what it says, sealed or not.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from lab.faults.fuzzing.stages import frames_of
from patient.link import Link
from shared.crypto.signatures import SIGNERS, Algorithm, SigningKey, fingerprint
from shared.crypto.suites import DEFAULT_SUITE, Suite
from shared.net.stream import clock
from shared.protocol.clock import SECOND
from shared.protocol.doctor_connection import DoctorConnection
from shared.protocol.doctor_handshake import Member, OpenInvitation, Practice, Standing
from shared.protocol.envelopes import Positions, Reader
from shared.protocol.epochs import Epoch
from shared.protocol.events import Alerted, Confirmed, Event, Failed, Positioned, Verified
from shared.protocol.invitations import Invitation
from shared.protocol.patient_connection import PatientConnection
from shared.protocol.patient_handshake import Enrolment, Identity
from shared.protocol.prekeys import PrekeyRing
from shared.protocol.replay import ReplayCache
from shared.wire.messages import Report, ReportKind
from shared.wire.opcodes import AlertCode

PATIENCE = 15.0  # seconds that a peer may take to close; its own deadline is 10
CHUNK = 64 * 1024

PATIENT_FRAMES = ("KEY_EXCHANGE", "AUTH_REQUEST", "SESSION_VERIFIER", "RECEIPT", "REPORT")
"""What a patient sends, one after the other: frame n meets the doctor's n-th state."""

DOCTOR_FRAMES = ("KEY_EXCHANGE_REPLY", "AUTH_RESPONSE", "GROUP_KEY", "GROUP_KEY")
"""What a doctor sends, likewise."""

Spoil = Callable[[bytes], Sequence[bytes]]
"""Takes the honest frame, gives what is written in its place, each part in a write of its own."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to do.

    Args:
        place: how many frames are said before the spoiled one; behind it nothing is said.
        spoil: what becomes of that one.
        hang_up: close our half of the connection behind it.
        before: what becomes of the frames before it.
    """

    place: int
    spoil: Spoil
    hang_up: bool = False
    before: Spoil = lambda frame: [frame]

    async def write(self, writer: asyncio.StreamWriter, frame: bytes, said: int) -> None:
        """Say the frame of a place, honestly or not."""
        for part in (self.spoil if said == self.place else self.before)(frame):
            writer.write(part)
            await writer.drain()
        if self.hang_up and said == self.place:
            writer.write_eof()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a spoiled connection ended.

    Args:
        closed: whether the other side closed it in time.
        alert: what the other side said why, if it did.
        established: whether there was a session.
        length: bytes of the honest frame.
    """

    closed: bool
    alert: AlertCode | None
    established: bool
    length: int


class Caller:
    """A device with an identity, whose connections go wrong where they are told to.

    Args:
        invitation: what it pins and enrols by; afterwards its key is on the roster.
    """

    def __init__(self, invitation: Invitation, suite: Suite = DEFAULT_SUITE) -> None:
        key = suite.signer.generate(os.urandom)
        pinned = invitation.doctor_key(suite.signer.algorithm)
        envelopes = invitation.doctor_key(Algorithm.ECDSA_P256)
        name = invitation.patient_id
        if name is None or pinned is None or envelopes is None:
            raise ValueError("not a personal invitation of a doctor that has this suite")
        enrolment = Enrolment(invitation.invitation_id, invitation.secret)
        self._identity = Identity(name, key, suite, invitation.doctor_id, pinned, enrolment)
        self._reader = Reader(name, fingerprint(key.algorithm, key.public), invitation.doctor_id, envelopes)

    async def call(self, port: int, order: Order) -> Outcome:
        """Connect, carry the order out, and listen until the doctor closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        connection = PatientConnection(
            self._identity, self._reader, Positions(), clock(), os.urandom, report=_nothing
        )
        try:
            async with asyncio.timeout(PATIENCE):
                return await self._talk(reader, writer, connection, order)
        except (TimeoutError, ConnectionError) as error:
            return _outcome(connection, [], not isinstance(error, TimeoutError), 0)
        finally:
            writer.transport.abort()

    async def _talk(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        connection: PatientConnection,
        order: Order,
    ) -> Outcome:
        waiting: deque[bytes] = deque()
        events: list[Event] = []
        said, length = 0, 0
        while True:
            events += connection.take_events()
            if any(isinstance(event, Confirmed) for event in events) and said == len(PATIENT_FRAMES) - 1:
                connection.report(Report(os.urandom(16), ReportKind.REPLY, clock().wall, b"better"))
            waiting += frames_of(connection.data_to_send())
            while waiting and said <= order.place:
                frame = waiting.popleft()
                length = len(frame)
                await order.write(writer, frame, said)
                said += 1
            data = await reader.read(CHUNK)
            if not data:
                return _outcome(connection, events, True, length)
            connection.receive_data(data, clock())


def _outcome(connection: PatientConnection, events: list[Event], closed: bool, length: int) -> Outcome:
    found = [*events, *connection.take_events()]
    alerts = [event.code for event in found if isinstance(event, Alerted)]
    established = any(isinstance(event, Confirmed) for event in found)
    return Outcome(closed, alerts[-1] if alerts else None, established, length)


class RogueDoctor:
    """A doctor with the right keys on a port of its own, which says something else in place of one frame.

    One connection at a time. `async with` opens and closes it.
    """

    def __init__(self, suite: Suite = DEFAULT_SUITE) -> None:
        self.port = 0
        self._suite = suite
        self._keys: dict[Algorithm, SigningKey] = {a: SIGNERS[a].generate(os.urandom) for a in SIGNERS}
        self._key = suite.signer.generate(os.urandom)
        self._practice = Practice(
            "rogue",
            self._keys,
            frozenset({suite.id}),
            _OneMember(Member("victim", self._key.algorithm, self._key.public, Standing.ACTIVE)),
            PrekeyRing("rogue", self._keys, os.urandom),
            ReplayCache(60 * SECOND),
            os.urandom,
        )
        self._server: asyncio.Server | None = None
        self._order = Order(0, lambda frame: [frame])
        self._outcome: asyncio.Future[Outcome] | None = None

    async def __aenter__(self) -> RogueDoctor:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None  # noqa: S101  entered
        self._server.close()

    async def receive(self, order: Order) -> tuple[Outcome, Link]:
        """Have a real patient's link call: what became of it by this side's account, and the link by its own."""
        self._order = order
        self._outcome = asyncio.get_running_loop().create_future()
        link = Link(f"127.0.0.1:{self.port}", Positions(), lambda _, __: None)
        opening = asyncio.create_task(link.open(self._patient))
        try:
            async with asyncio.timeout(PATIENCE):
                outcome = await self._outcome
                await opening
                await link.closed_within(PATIENCE)
        except TimeoutError:
            outcome = Outcome(False, None, link.established, 0)
        finally:
            link.abort()
            await asyncio.gather(opening, return_exceptions=True)
        return outcome, link

    def _patient(self) -> PatientConnection:
        pinned = self._keys[self._suite.signer.algorithm].public
        identity = Identity("victim", self._key, self._suite, "rogue", pinned)
        name = fingerprint(self._key.algorithm, self._key.public)
        reader = Reader("victim", name, "rogue", self._keys[Algorithm.ECDSA_P256].public)
        return PatientConnection(identity, reader, Positions(), clock(), os.urandom, report=_nothing)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._outcome is not None  # noqa: S101  somebody called because of `receive`
        try:
            async with asyncio.timeout(PATIENCE):
                outcome = await self._talk(reader, writer)
        except (TimeoutError, ConnectionError) as error:
            outcome = Outcome(not isinstance(error, TimeoutError), None, False, 0)
        finally:
            writer.transport.abort()
        if not self._outcome.done():
            self._outcome.set_result(outcome)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Outcome:
        connection = DoctorConnection(self._practice, clock())
        waiting: deque[bytes] = deque()
        events: list[Event] = []
        said, length = 0, 0
        while data := await reader.read(CHUNK):
            connection.receive_data(data, clock())
            while new := connection.take_events():
                events += new
                self._answer(connection, new)
            waiting += frames_of(connection.data_to_send())
            while waiting and said <= self._order.place:
                frame = waiting.popleft()
                length = len(frame)
                await self._order.write(writer, frame, said)
                said += 1
        alerts = [event.code for event in events if isinstance(event, Alerted)]
        established = any(isinstance(event, Positioned) for event in events)
        return Outcome(True, alerts[-1] if alerts else None, established, length)

    def _answer(self, connection: DoctorConnection, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Verified):
                connection.admit(clock())
            elif isinstance(event, Positioned):
                for number, group in enumerate(("everyone", "ward"), start=1):
                    connection.send_group_key(Epoch.begin("rogue", group, number, [], [], os.urandom), 0)
            elif isinstance(event, Failed):
                raise AssertionError(f"an honest patient was refused: {event.check.number} {event.detail}")


@dataclass(frozen=True, slots=True)
class _OneMember:
    """A roster of one."""

    row: Member

    def member(self, patient_id: str) -> Member | None:
        """The row, if it is asked for."""
        return self.row if patient_id == self.row.patient_id else None

    def owner(self, key_fingerprint: str) -> Member | None:
        """Likewise."""
        return self.row if key_fingerprint == fingerprint(self.row.algorithm, self.row.public_key) else None

    def invitation(self, invitation_id: bytes) -> OpenInvitation | None:
        """There is none."""
        return None


def _nothing() -> list[Any]:
    return []

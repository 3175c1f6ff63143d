"""A bench for the protocol: a doctor's practice in memory, patients, and a link that joins two real connections.

Entropy is seeded and the clock is a value, so a run repeats itself (P-256 ephemeral keys excepted: the library draws those).
`FakeLink` asserts by default that what one side sent is what the other one got. Peers that lie are in `protocol_puppets`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

from shared.crypto.aead import Aead
from shared.crypto.secret import Random
from shared.crypto.signatures import SIGNERS, Algorithm, SigningKey, fingerprint
from shared.crypto.suites import DEFAULT_SUITE, SUITES, Suite
from shared.protocol import envelopes
from shared.protocol.clock import SECOND, Instant
from shared.protocol.connection import Connection
from shared.protocol.doctor_connection import DoctorConnection
from shared.protocol.doctor_handshake import Member, OpenInvitation, Practice, Standing
from shared.protocol.envelopes import Draft, Positions, Reader
from shared.protocol.epochs import Epoch
from shared.protocol.events import Alerted, Direction, Event, Failed, Positioned, Traced, Verified
from shared.protocol.patient_connection import PatientConnection
from shared.protocol.patient_handshake import Enrolment, Hello, Identity
from shared.protocol.prekeys import PrekeyRing
from shared.protocol.replay import ReplayCache
from shared.protocol.transitions import State
from shared.wire import framing, messages
from shared.wire.checks import Check
from shared.wire.framing import HEADER_SIZE, Frame, FrameBuffer
from shared.wire.messages import (
    Alert,
    SignedMessage,
    Stream,
    TargetKind,
)
from shared.wire.opcodes import AlertCode, Opcode
from tests.crypto_tools import entropy

WALL = 1_800_000_000_000  # the bench's date, in January 2027
DAY = 24 * 3600 * SECOND
DOCTOR = "doctor"
GROUP = "everyone"
EVERYONE = Stream(TargetKind.GROUP, GROUP)

E = TypeVar("E")
Changes = Mapping[str, Any]


class Clock:
    """Both clocks of the bench, moved by hand."""

    def __init__(self) -> None:
        self.now = Instant(WALL, 0)

    def advance(self, milliseconds: int) -> Instant:
        """Let time pass."""
        self.now = Instant(self.now.wall + milliseconds, self.now.elapsed + milliseconds)
        return self.now

    def jump(self, milliseconds: int) -> Instant:
        """Set the wall clock; no time passes."""
        self.now = Instant(self.now.wall + milliseconds, self.now.elapsed)
        return self.now


@dataclass
class FakeDirectory:
    """The roster and the open invitations as dictionaries."""

    members: dict[str, Member] = field(default_factory=dict)
    invitations: dict[bytes, OpenInvitation] = field(default_factory=dict)

    def member(self, patient_id: str) -> Member | None:
        """The row of an id."""
        return self.members.get(patient_id)

    def owner(self, key_fingerprint: str) -> Member | None:
        """The row that holds a key."""
        rows = self.members.values()
        return next(
            (row for row in rows if fingerprint(row.algorithm, row.public_key) == key_fingerprint), None
        )

    def invitation(self, invitation_id: bytes) -> OpenInvitation | None:
        """An open invitation."""
        return self.invitations.get(invitation_id)


@dataclass
class Device:
    """One patient: who it is, whom it believes, how far it has come."""

    identity: Identity
    reader: Reader
    positions: Positions

    @property
    def patient_id(self) -> str:
        """Its id."""
        return self.identity.patient_id

    @property
    def stream(self) -> Stream:
        """The stream of messages to this patient alone."""
        return Stream(TargetKind.PATIENT, self.patient_id)


@cache
def doctor_keys(seed: str) -> dict[Algorithm, SigningKey]:
    """A doctor's signature keys, the same for a seed: the one modulo p takes most of the time that a clinic takes."""
    random = entropy(f"{seed}, the doctor's keys")
    return {algorithm: SIGNERS[algorithm].generate(random) for algorithm in SIGNERS}


class Clinic:
    """One doctor and what its connections share, and the patients that trust it."""

    def __init__(
        self,
        seed: str = "clinic",
        *,
        doctor_id: str = DOCTOR,
        suites: frozenset[Any] = frozenset(SUITES),
        clock: Clock | None = None,
    ) -> None:
        self.random: Random = entropy(seed)
        self.clock = clock or Clock()
        self.directory = FakeDirectory()
        self.keys = dict(doctor_keys(seed))
        self.practice = Practice(
            doctor_id,
            self.keys,
            suites,
            self.directory,
            PrekeyRing(doctor_id, self.keys, self.random),
            ReplayCache(60 * SECOND),
            self.random,
        )
        self.envelope_key = self.keys[Algorithm.ECDSA_P256]

    def patient(
        self,
        patient_id: str = "patient-a",
        suite: Suite = DEFAULT_SUITE,
        *,
        key: SigningKey | None = None,
        standing: Standing | None = Standing.ACTIVE,
        enrolment: Enrolment | None = None,
        doctor_key: bytes | None = None,
    ) -> Device:
        """A patient that pinned this doctor (or `doctor_key`). `standing` None: it is not on the roster."""
        algorithm = suite.signer.algorithm
        key = key or suite.signer.generate(self.random)
        if standing is not None:
            self.directory.members[patient_id] = Member(patient_id, algorithm, key.public, standing)
        pinned = doctor_key or self.keys[algorithm].public
        name = fingerprint(algorithm, key.public)
        identity = Identity(patient_id, key, suite, self.practice.doctor_id, pinned, enrolment)
        reader = Reader(patient_id, name, self.practice.doctor_id, self.envelope_key.public)
        return Device(identity, reader, Positions())

    def invite(
        self, patient_id: str | None, *, uses: int = 1, expires: int = WALL + DAY, secret: bytes = b"s" * 32
    ) -> Enrolment:
        """An open invitation. `patient_id` None: a fleet's."""
        invitation_id = self.random(16)
        self.directory.invitations[invitation_id] = OpenInvitation(secret, expires, uses, patient_id)
        return Enrolment(invitation_id, secret)

    def doctor_connection(self) -> DoctorConnection:
        """The doctor's side of a new connection."""
        return DoctorConnection(self.practice, self.clock.now)

    def patient_connection(self, device: Device, hello: Hello | None = None) -> PatientConnection:
        """The patient's side of a new connection, or with `hello` of the one that a RETRY asks for."""
        return PatientConnection(
            device.identity, device.reader, device.positions, self.clock.now, self.random, hello=hello
        )

    def link(self, device: Device | None = None, **options: Any) -> FakeLink:
        """Two real connections, joined."""
        device = device or self.patient()
        return FakeLink(self.patient_connection(device), self.doctor_connection(), self.clock, **options)

    def epoch(self, number: int = 1, group: str = GROUP) -> Epoch:
        """An epoch of a group without contributions."""
        return Epoch.begin(self.practice.doctor_id, group, number, [], [], self.random)

    def sign(
        self,
        number: int,
        previous: int,
        body: bytes = b"take two",
        *,
        stream: Stream = EVERYONE,
        name: str = "",
        expires: int = WALL + DAY,
        key: SigningKey | None = None,
        doctor_id: str | None = None,
    ) -> SignedMessage:
        """A message of the doctor's, or of whoever holds `key`."""
        draft = Draft(stream, name, self.clock.now.wall, expires, body)
        signer = key or self.envelope_key
        return envelopes.sign(
            doctor_id or self.practice.doctor_id, signer, draft, number, previous, self.random
        )


Tamper = Callable[[Direction, int, bytes], list[bytes]]


def faithful(direction: Direction, index: int, frame: bytes) -> list[bytes]:
    """Deliver every frame once, as it is."""
    return [frame]


def split(data: bytes) -> list[bytes]:
    """Cut whole frames apart, by the lengths in their headers alone."""
    frames = []
    while data:
        end = HEADER_SIZE + int.from_bytes(data[2:6], "big")
        frames.append(data[:end])
        data = data[end:]
    return frames


def frame_of(data: bytes) -> Frame:
    """Read one whole frame."""
    buffer = FrameBuffer(framing.AUTHENTICATED_LIMIT)
    buffer.receive(data)
    frame = buffer.next_frame()
    assert frame is not None
    assert len(buffer) == 0
    return frame


class FakeLink:
    """Joins two connections; `Direction.SENT` is patient to doctor.

    Args:
        chunk: how many bytes are handed over at once; None: all there are.
        tamper: what becomes of a frame: a list of frames that are delivered instead, in order.
        admit: whether the doctor admits whoever is verified.
        greet: what the doctor does first with a session that has said where it stands; by default it sends a group key.
    """

    def __init__(
        self,
        patient: PatientConnection,
        doctor: DoctorConnection,
        clock: Clock,
        *,
        chunk: int | None = None,
        tamper: Tamper = faithful,
        admit: bool = True,
        greet: Callable[[DoctorConnection], None] | None = None,
    ) -> None:
        self.patient = patient
        self.doctor = doctor
        self.clock = clock
        self.chunk = chunk
        self.tamper = tamper
        self.admit = admit
        self.greet = greet or _send_first_group_key
        self.patient_events: list[Event] = []
        self.doctor_events: list[Event] = []
        self.sent: dict[Direction, list[bytes]] = {Direction.SENT: [], Direction.RECEIVED: []}

    def run(self) -> FakeLink:
        """Deliver until nothing moves any more; then, on a faithful link, compare the two sides' stories."""
        while self._turn(Direction.SENT) | self._turn(Direction.RECEIVED):
            pass
        self.collect()
        if self.tamper is faithful:
            self.assert_one_story()
        return self

    def collect(self) -> None:
        """Take the events of both sides and react as the doctor's program would."""
        self.patient_events += self.patient.take_events()
        for event in self.doctor.take_events():
            self.doctor_events.append(event)
            if isinstance(event, Verified) and self.admit:
                self.doctor.admit(self.clock.now)
            elif isinstance(event, Positioned):
                self.greet(self.doctor)

    def _turn(self, direction: Direction) -> bool:
        self.collect()
        source: Connection = self.patient if direction is Direction.SENT else self.doctor
        target: Connection = self.doctor if direction is Direction.SENT else self.patient
        frames = split(source.data_to_send())
        for frame in frames:
            log = self.sent[direction]
            log.append(frame)
            for delivered in self.tamper(direction, len(log) - 1, frame):
                self._deliver(target, delivered)
        return bool(frames)

    def _deliver(self, target: Connection, data: bytes) -> None:
        step = self.chunk or max(1, len(data))
        for start in range(0, len(data), step):
            target.receive_data(data[start : start + step], self.clock.now)
            self.collect()

    def assert_one_story(self) -> None:
        """What one side sent, the other one got."""

        def told(events: list[Event], direction: Direction) -> list[tuple[str, int, int]]:
            traces = [event for event in events if isinstance(event, Traced)]
            return [(t.message, t.opcode, t.size) for t in traces if t.direction is direction]

        patient, doctor = self.patient_events, self.doctor_events
        failed = events_of(Failed, patient + doctor)
        if not failed:
            assert told(patient, Direction.SENT) == told(doctor, Direction.RECEIVED)
            assert told(doctor, Direction.SENT) == told(patient, Direction.RECEIVED)
        for failure in failed:
            codes = [alert.code for alert in events_of(Alerted, patient + doctor)]
            assert codes in ([], [failure.check.alert], [AlertCode.REFUSED])

    @property
    def states(self) -> tuple[State, State]:
        """The patient's and the doctor's state."""
        return self.patient.state, self.doctor.state


ESTABLISHED = (State.ESTABLISHED, State.ESTABLISHED)


def _send_first_group_key(doctor: DoctorConnection) -> None:
    doctor.send_group_key(Epoch.begin(DOCTOR, GROUP, 1, [], [], entropy("first epoch")), 0)


def events_of(kind: type[E], events: list[Event]) -> list[E]:
    """The events of one kind."""
    return [event for event in events if isinstance(event, kind)]


def only(kind: type[E], events: list[Event]) -> E:
    """The one event of its kind."""
    found = events_of(kind, events)
    assert len(found) == 1, f"{len(found)} {kind.__name__} in {events}"
    return found[0]


@dataclass(frozen=True)
class Outcome:
    """What became of a connection: the check it failed, the alert it sent, and the checks that passed."""

    failed: Check | None
    alert: AlertCode | None
    sealed: bool
    passed: frozenset[Check]

    @property
    def verdict(self) -> tuple[str, AlertCode, bool] | None:
        """The failed check's number, the code that the peer was told, and whether it was sealed; None: nothing failed."""
        if self.failed is None:
            return None
        assert self.alert is not None
        return self.failed.number, self.alert, self.sealed


def outcome(connection: Connection, alert_key: bytes | None = None) -> Outcome:
    """Take a connection's events and its last frame, and read its alert with `alert_key` where it is sealed."""
    events = connection.take_events()
    passed = frozenset(check for trace in events_of(Traced, events) for check in trace.checks)
    if connection.state is not State.FAILED:
        return Outcome(None, None, False, passed)
    alert = messages.decode(Alert, frame_of(split(connection.data_to_send())[-1]).payload)
    sealed = alert.code is AlertCode.SEALED
    if sealed:
        assert alert_key is not None
        alert = messages.decode(Alert, Aead(alert_key).open(0, alert.sealed, bytes([Opcode.ALERT])))
    return Outcome(only(Failed, events).check, alert.code, sealed, passed)

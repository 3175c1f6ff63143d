"""A small trial made of the protocol's own connections, in memory: a doctor that may be made to misbehave, and what the checker gets.

Every act is recorded as a campaign's row would record it. The clock of the history is a counter: each act takes two ticks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lab.faults.capture import Capture, Way
from lab.faults.evidence import Audit, Evidence
from lab.faults.history import Accepted, Applied, History, Joined, Left, Receipted, Refused
from lab.faults.keys import KeyRing, watched
from shared.protocol.epochs import Epoch
from shared.protocol.events import Direction, MessageReceived
from shared.wire.messages import SignedMessage, Stream
from tests.protocol_bench import EVERYONE, GROUP, Clinic, Device, FakeLink, events_of

CANARY = b"CANARY-7f3a"
WAYS = {Direction.SENT: Way.TO_DOCTOR, Direction.RECEIVED: Way.TO_PATIENT}


@dataclass
class Desk:
    """One device of the trial and its present connection."""

    device: Device
    start: int = 0  # the last number before it joined
    life: int = 1
    link: FakeLink | None = None
    heard: int = 0


@dataclass
class SmallTrial:
    """One doctor, its patients, and the record of what they do.

    `rekeys` False: this doctor forgets to begin an epoch when somebody leaves.
    """

    rekeys: bool = True
    clinic: Clinic = field(default_factory=Clinic)
    capture: Capture = field(default_factory=Capture)
    keys: KeyRing = field(default_factory=KeyRing)
    history: History = field(default_factory=History)
    desks: dict[str, Desk] = field(default_factory=dict)
    members: list[str] = field(default_factory=list)
    time: float = 0.0

    def __post_init__(self) -> None:
        self.connections = 0
        self.last: dict[Stream, int] = {}
        self.sequence = 0
        self.epoch = self.clinic.epoch(1)
        self.connection_class = watched(self.keys)

    def tick(self) -> float:
        """The next moment."""
        self.time += 1
        return self.time

    # Who is there

    def join(self, name: str) -> None:
        """A patient enrols and is a member of everyone."""
        asked = self.tick()
        self.desks[name] = Desk(self.clinic.patient(name), self.last.get(EVERYONE, 0))
        self.members.append(name)
        self.begin_epoch()
        self.connect(name)
        self.history.add(Joined(time=self.tick(), asked=asked, patient=name, group=GROUP))

    def connect(self, name: str) -> None:
        """A session begins, in which the device gets the epoch's key."""
        desk, device = self.desks[name], self.desks[name].device
        self.connections += 1
        number = self.connections
        clinic = self.clinic

        def keep(direction: Direction, index: int, frame: bytes) -> list[bytes]:
            self.capture.add(number, WAYS[direction], self.time, frame)
            return [frame]

        patient = self.connection_class(
            device.identity, device.reader, device.positions, clinic.clock.now, clinic.random
        )
        desk.link = FakeLink(
            patient,
            clinic.doctor_connection(),
            clinic.clock,
            tamper=keep,
            greet=lambda doctor: doctor.send_group_key(self.epoch, desk.start),
        )
        desk.heard = 0
        self.run(name)

    def run(self, name: str) -> None:
        """Let a connection come to rest, and record what the device has applied."""
        desk = self.desks[name]
        assert desk.link is not None
        desk.link.run()
        received = events_of(MessageReceived, desk.link.patient_events)
        for event in received[desk.heard :]:
            assert event.body is not None
            self.history.add(
                Applied(
                    time=self.tick(),
                    patient=name,
                    life=desk.life,
                    stream=str(event.envelope.stream),
                    number=event.envelope.number,
                    body=event.body,
                )
            )
        desk.heard = len(received)

    def restart(self, name: str) -> None:
        """A device's next life, on the positions that it has stored."""
        self.desks[name].life += 1
        self.connect(name)

    def away(self, name: str) -> None:
        """A connection is gone."""
        self.desks[name].link = None

    def leave(self, name: str, reason: str = "revoked") -> None:
        """A patient is revoked; it keeps whatever it holds."""
        asked = self.tick()
        self.members.remove(name)
        if self.rekeys:
            self.begin_epoch()
        self.history.add(Left(time=self.tick(), asked=asked, patient=name, reason=reason))
        self.history.add(
            Refused(
                time=self.tick(),
                who=name,
                code="revoked",
                sentence=f"The doctor has revoked {name}: this identity is never accepted again.",
            )
        )

    def begin_epoch(self) -> None:
        """The next epoch, told to every member that is connected."""
        self.epoch = Epoch.begin(
            "doctor", GROUP, self.epoch.number + 1, [], sorted(self.members), self.clinic.random
        )
        self.sequence = 0
        for name in self.members:
            link = self.desks[name].link
            if link is not None:
                link.doctor.send_group_key(self.epoch, self.desks[name].start)
                self.run(name)

    # What is said

    def sign(self, text: str, stream: Stream = EVERYONE, name: str = "") -> tuple[int, SignedMessage]:
        """The next message of a stream."""
        previous = self.last.get(stream, 0)
        self.last[stream] = previous + 10
        return previous + 10, self.clinic.sign(
            previous + 10, previous, self.body(text), stream=stream, name=name
        )

    @staticmethod
    def body(text: str) -> bytes:
        """What a text becomes: it bears the canary."""
        return CANARY + b" " + text.encode()

    def accept(self, text: str, stream: Stream, number: int, recipients: Sequence[str], asked: float) -> None:
        """The API has answered; at the end it lists the recipients."""
        message = f"{stream.name}.{number}"
        self.history.add(
            Accepted(
                time=self.tick(),
                asked=asked,
                message=message,
                stream=str(stream),
                number=number,
                recipients=len(recipients),
                body=self.body(text),
            )
        )
        for name in recipients:
            self.history.add(Receipted(time=self.time, message=message, patient=name, state="delivered"))

    def broadcast(self, text: str, sequence: int | None = None) -> int:
        """A message to everyone: sealed once for those who are there, DIRECT for those who come back."""
        asked = self.tick()
        number, message = self.sign(text)
        self.accept(text, EVERYONE, number, self.members, asked)
        frame = self.epoch.seal(self.sequence if sequence is None else sequence, message)
        self.sequence += 1
        for name in sorted(self.desks):
            if name in self.members and self.desks[name].link is not None:
                self.write(name, frame)
        return number

    def write(self, name: str, frame: bytes) -> None:
        """A finished frame goes to one device."""
        link = self.desks[name].link
        assert link is not None
        self.capture.add(self.connections_of(name), Way.TO_PATIENT, self.time, frame)
        link.patient.receive_data(frame, self.clinic.clock.now)
        self.run(name)

    def connections_of(self, name: str) -> int:
        """The number of a device's present connection."""
        link = self.desks[name].link
        assert link is not None
        first = link.sent[Direction.SENT][0]
        return next(
            number for (number, way), data in self.capture.streams().items() if data.startswith(first)
        )

    def direct(self, name: str, message: SignedMessage) -> None:
        """A message goes to one device under its session's key."""
        link = self.desks[name].link
        assert link is not None
        link.doctor.send_direct(0, message)
        self.run(name)

    def tell(self, name: str, text: str) -> int:
        """A private message."""
        asked, device = self.tick(), self.desks[name].device
        number, message = self.sign(text, device.stream, device.reader.patient_fingerprint)
        self.accept(text, device.stream, number, [name], asked)
        self.direct(name, message)
        return number

    def evidence(self, **changes: object) -> Evidence:
        """What the checker gets."""
        given: dict[str, object] = {
            "history": self.history,
            "capture": self.capture,
            "keys": self.keys,
            "audit": Audit(True, 7, None),
            "canary": CANARY,
            "places": [("doctor.db", b"sealed"), ("audit-heads.jsonl", b"{}")],
            **changes,
        }
        return Evidence(**given)  # type: ignore[arg-type]  # the fields by their names

"""The two ends of a link as experiments drive them: a real connection and the program around it, without a network.

Law: a side takes bytes and gives frames. It notes what it refuses, by the product's own word, and what takes effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, unique

from lab.evil.clinic import EVERYONE, Clinic, Device
from lab.evil.peer import wire
from shared.protocol.connection import Connection
from shared.protocol.doctor_connection import DoctorConnection
from shared.protocol.envelopes import Positions
from shared.protocol.events import (
    Alerted,
    Confirmed,
    Disconnected,
    Dropped,
    EpochBegun,
    Event,
    Failed,
    KeysRotated,
    MessageReceived,
    Positioned,
    Receipted,
    Repeated,
    Reported,
    ReportsReceipted,
    ResendRequested,
    RetryAsked,
    Verified,
)
from shared.protocol.patient_connection import PatientConnection
from shared.protocol.patient_handshake import Hello
from shared.protocol.transitions import State
from shared.wire.checks import Check
from shared.wire.messages import Position, Stream, TargetKind
from shared.wire.opcodes import Opcode


@unique
class How(Enum):
    """How a defender answers what it does not accept."""

    FAILED = "ends the connection"
    DROPPED = "drops the frame and goes on"
    HINT = "takes an alert as a hint"
    RETRY = "asks for a cookie"
    CUT = "closes without a word"
    KNOWN = "knows the number already"


@dataclass(frozen=True, slots=True)
class Refusal:
    """One answer; `check` where a numbered check gave it."""

    how: How
    check: Check | None = None

    def __str__(self) -> str:
        return f"{self.check.number} {self.how.value}" if self.check else self.how.value


class Side:
    """What both sides have in common.

    Attributes:
        refusals: what it has refused, in order.
        said: every frame that it has sent, in order.
    """

    def __init__(self, clinic: Clinic, connection: Connection) -> None:
        self.clinic = clinic
        self.connection = connection
        self.refusals: list[Refusal] = []
        self.said: list[bytes] = []
        self._unread: list[bytes] = []
        self._settle()

    @property
    def established(self) -> bool:
        """Whether records flow."""
        return self.connection.state is State.ESTABLISHED

    @property
    def ended(self) -> bool:
        """Whether nothing is read any more."""
        return self.connection.ended

    def take(self, *frames: bytes) -> None:
        """Bytes come in."""
        for data in frames:
            self.connection.receive_data(data, self.clinic.clock.now)
            self._settle()

    def take_end(self) -> None:
        """The peer sends no more."""
        self.connection.receive_eof(self.clinic.clock.now)
        self._settle()

    def ring(self) -> None:
        """The timer rings, if it is due."""
        self.connection.handle_timeout(self.clinic.clock.now)
        self._settle()

    def give(self) -> list[bytes]:
        """The frames that it has sent since the last call."""
        frames, self._unread = self._unread, []
        return frames

    def flush(self) -> None:
        """Collect what the connection has to send."""
        frames = wire.split(self.connection.data_to_send())
        self.said += frames
        self._unread += frames

    def _settle(self) -> None:
        while events := self.connection.take_events():
            for event in events:
                if isinstance(event, Failed):
                    self.refusals.append(Refusal(How.FAILED, event.check))
                elif isinstance(event, Dropped):
                    self.refusals.append(Refusal(How.DROPPED, event.check))
                elif isinstance(event, Alerted) and not event.authentic:
                    self.refusals.append(Refusal(How.HINT))
                elif isinstance(event, Alerted):
                    self.clinic.note(f"{self.name} believes the alert {event.code.name}")
                elif isinstance(event, Disconnected):
                    self.clinic.note(f"{self.name} believes the goodbye {event.reason.name}")
                else:
                    self.act(event)
        self.flush()

    name = "a side"

    def act(self, event: Event) -> None:
        """What the program does."""
        raise NotImplementedError


class DoctorSide(Side):
    """The real doctor's end of one connection."""

    connection: DoctorConnection

    def __init__(self, clinic: Clinic, address: str = "192.0.2.1", *, admits: bool = True) -> None:
        connection = DoctorConnection(clinic.practice, clinic.clock.now)
        connection.address = address
        self.patient_id = ""
        self.admits = admits
        self.verified: Verified | None = None
        super().__init__(clinic, connection)

    @property
    def name(self) -> str:  # type: ignore[override]
        """Who acts."""
        return f"the doctor with {self.patient_id or 'a stranger'}"

    def flush(self) -> None:
        """Collect what there is to send; a RETRY is an answer of its own."""
        before = len(self.said)
        super().flush()
        if any(frame[1] == Opcode.RETRY for frame in self.said[before:]):
            self.refusals.append(Refusal(How.RETRY))

    def act(self, event: Event) -> None:
        """Admit, say what was missed, keep receipts and reports."""
        clinic, connection = self.clinic, self.connection
        if isinstance(event, Verified):
            self.patient_id, self.verified = event.patient_id, event
            if self.admits:
                self.decide()
        elif isinstance(event, Positioned):
            clinic.note(f"a session of {self.patient_id} is established")
            if self._take_receipt(event.positions):
                self._greet(event.positions)
        elif isinstance(event, Receipted):
            self._take_receipt(event.positions)
        elif isinstance(event, ResendRequested):
            for position in event.positions:
                self._send_missed(position.stream, position.last)
        elif isinstance(event, Reported):
            key = (self.patient_id, event.report.report_id)
            if key not in clinic.ledger.reports:
                clinic.ledger.reports[key] = event.report.body
                clinic.note(f"a report of {self.patient_id} is stored: {event.report.report_id.hex()}")
            connection.acknowledge_reports([event.report.report_id])

    def decide(self) -> None:
        """The roster's transaction is through."""
        if self.verified is not None and self.clinic.admit(self.verified):
            self.connection.admit(self.clinic.clock.now)
        else:
            self.connection.refuse(Check.ADMISSION, "the last use is gone", self.clinic.clock.now)
        self._settle()

    def send_group_key(self) -> None:
        """Give the member the present epoch."""
        self.connection.send_group_key(self.clinic.epoch, 0)
        self.flush()

    def broadcast(self, frame: bytes) -> None:
        """A finished BROADCAST goes out on this connection."""
        self.flush()
        self.said.append(frame)
        self._unread.append(frame)

    def _greet(self, positions: Sequence[Position]) -> None:
        stands = {position.stream: position.last for position in positions}
        mine = Stream(TargetKind.PATIENT, self.patient_id)
        for stream in (EVERYONE, mine):
            self._send_missed(stream, stands.get(stream, 0))
        self.connection.send_group_key(self.clinic.epoch, 0)

    def _send_missed(self, stream: Stream, position: int) -> None:
        for message in self.clinic.owed(self.patient_id, stream, position):
            self.connection.send_direct(0, message)

    def _take_receipt(self, positions: Sequence[Position]) -> bool:
        delivered = self.clinic.ledger.delivered
        for position in positions:
            if position.last > self.clinic.issued_to(self.patient_id, position.stream):
                self.connection.fail(Check.RECEIPT_ISSUED, str(position.stream), self.clinic.clock.now)
                return False
        for position in positions:
            key = (self.patient_id, position.stream)
            if position.last > delivered.get(key, 0):
                delivered[key] = position.last
                self.clinic.note(f"{self.patient_id} has {position.stream} up to {position.last}")
        return True


class PatientSide(Side):
    """A real patient's end of one connection."""

    connection: PatientConnection

    def __init__(self, clinic: Clinic, device: Device, hello: Hello | None = None) -> None:
        self.device = device
        self.hello: Hello | None = None
        self.positions = Positions(device.inbox.positions)
        super().__init__(
            clinic,
            PatientConnection(
                device.identity,
                device.reader,
                self.positions,
                clinic.clock.now,
                clinic.random,
                hello=hello,
            ),
        )

    @property
    def name(self) -> str:  # type: ignore[override]
        """Who acts."""
        return self.device.patient_id

    def act(self, event: Event) -> None:
        """Store what came, and acknowledge it."""
        note, who = self.clinic.note, self.device.patient_id
        if isinstance(event, RetryAsked):
            self.hello = event.hello
            note(f"{who} is asked to come again")
        elif isinstance(event, KeysRotated):
            note(f"{who} pins the keys of rotation {event.successors.sequence}")
        elif isinstance(event, Confirmed):
            note(f"{who} is confirmed")
        elif isinstance(event, EpochBegun):
            note(f"{who} holds epoch {event.epoch} of {event.group}")
        elif isinstance(event, MessageReceived):
            self._store(event)
        elif isinstance(event, Repeated):
            self.connection.acknowledge([Position(event.stream, self.positions[event.stream], [])])
        elif isinstance(event, ReportsReceipted):
            note(f"{who} lets go of the reports {[each.hex() for each in event.report_ids]}")

    def _store(self, event: MessageReceived) -> None:
        stream, number = event.envelope.stream, event.envelope.number
        inbox = self.device.inbox
        self.clinic.note(f"{self.device.patient_id} shows {stream} {number}: {event.body!r}")
        inbox.messages.setdefault(stream, []).append((number, event.body))
        inbox.positions[stream] = max(number, inbox.positions.get(stream, 0))
        self.connection.acknowledge([Position(stream, number, [])])

"""Sessions that are taped: everything a replay can be made of, and new connections to bring it to."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum, unique

from lab.evil.clinic import Clinic, Device, Ledger
from lab.evil.links import Link
from lab.evil.misbehaviour import BYSTANDER, Deviation
from lab.evil.peer import wire
from lab.evil.sides import DoctorSide, PatientSide, Side
from shared.crypto.suites import SUITES, SuiteId
from shared.protocol.clock import SECOND
from shared.protocol.transitions import State
from shared.wire.messages import Report, ReportKind


@unique
class Kind(Enum):
    """What is replayed. A record's opcode is drawn."""

    AUTH_REQUEST = "AUTH_REQUEST"
    AUTH_RESPONSE = "AUTH_RESPONSE"
    SESSION_VERIFIER = "SESSION_VERIFIER"
    TO_DOCTOR = "a record to the doctor"
    TO_PATIENT = "a record to the patient"
    BROADCAST = "BROADCAST"

    @property
    def opcodes(self) -> frozenset[int]:
        """Those that it may have."""
        return _OPCODES[self]

    @property
    def to_doctor(self) -> bool:
        """Which way it went."""
        return self in (Kind.AUTH_REQUEST, Kind.SESSION_VERIFIER, Kind.TO_DOCTOR)


_OPCODES = {
    Kind.AUTH_REQUEST: frozenset({wire.AUTH_REQUEST}),
    Kind.AUTH_RESPONSE: frozenset({wire.AUTH_RESPONSE}),
    Kind.SESSION_VERIFIER: frozenset({wire.SESSION_VERIFIER}),
    Kind.TO_DOCTOR: frozenset({wire.RECEIPT, wire.REPORT, wire.RESEND_REQUEST, wire.PING}),
    Kind.TO_PATIENT: frozenset({wire.GROUP_KEY, wire.DIRECT, wire.REPORT_RECEIPT, wire.PONG}),
    Kind.BROADCAST: frozenset({wire.BROADCAST}),
}


@dataclass
class Stage:
    """A clinic, somebody who looks on, and a patient whose session was taped."""

    clinic: Clinic
    bystander: Link
    alice: Link
    backup: Ledger
    dice: random.Random

    @property
    def device(self) -> Device:
        """Alice's."""
        return self.alice.patient.device

    def say(self, *links: Link) -> None:
        """A message for everyone, broadcast on these connections and the bystander's."""
        frame = self.clinic.seal(self.clinic.accept(f"message {self.clinic.sequence}".encode()))
        for link in (self.bystander, *links):
            link.doctor.broadcast(frame)
            link.run()

    def tape(self, kind: Kind) -> bytes:
        """A frame of that kind out of Alice's session."""
        frames = self.alice.to_doctor if kind.to_doctor else self.alice.to_patient
        found = [frame for frame in frames if frame[1] in kind.opcodes]
        return found[1] if kind is Kind.AUTH_REQUEST else self.dice.choice(found)


def set_stage(seed: int) -> Stage:
    """A session with everything in it that can be replayed, of a device that is new or comes back."""
    dice = random.Random(seed)  # noqa: S311  it draws cases, not keys
    clinic = Clinic(f"replay {seed}")
    suites = [SuiteId.ELGAMAL_P256, SuiteId.ELGAMAL_P256_MLKEM768]
    bystander = Link(clinic, clinic.device(BYSTANDER, SUITES[suites[0]])).run()
    device = clinic.device("alice", SUITES[dice.choice(suites)], enrolled=dice.random() < 0.5)
    stage = Stage(clinic, bystander, Link(clinic, device), clinic.ledger.copy(), dice)
    for _ in range(dice.randint(1, 3)):
        stage.say()
    alice = stage.alice.run()
    for _ in range(dice.randint(1, 3)):
        stage.say(alice)
        report = Report(clinic.random(16), ReportKind.REPLY, clinic.clock.now.wall, b"better")
        alice.patient.connection.report(report)
        alice.patient.flush()
        alice.run()
    _lose_one(stage)
    clinic.clock.advance(20 * SECOND)
    alice.patient.ring()
    alice.run()
    return stage


def _lose_one(stage: Stage) -> None:
    """One broadcast does not arrive: the patient asks for it and is sent it as DIRECT."""
    frame = stage.clinic.seal(stage.clinic.accept(b"lost on the way"))
    stage.bystander.doctor.broadcast(frame)
    stage.bystander.run()
    stage.clinic.clock.advance(2 * SECOND)
    stage.say(stage.alice)


def bring(clinic: Clinic, device: Device, to_doctor: bool, state: State) -> tuple[PatientSide, DoctorSide]:
    """A new connection of a device, gone so far that the doctor (or the patient) is in a state; frame by frame."""
    patient, doctor = PatientSide(clinic, device), DoctorSide(clinic)
    target: Side = doctor if to_doctor else patient
    while target.connection.state is not state or state is State.ESTABLISHED:
        upward, downward = patient.give(), doctor.give()
        if not upward and not downward:
            break
        for side, frames in ((doctor, upward), (patient, downward)):
            for frame in frames:
                if target.connection.state is not state or state is State.ESTABLISHED:
                    side.take(frame)
    if target.connection.state is not state:
        raise Deviation(f"an honest handshake of {device.patient_id} did not come to {state.value}")
    return patient, doctor

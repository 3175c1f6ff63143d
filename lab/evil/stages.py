"""How far an experiment goes honestly before the lie: handshakes of the second implementation with the real one."""

from __future__ import annotations

from collections.abc import Callable

from lab.evil.clinic import EVERYONE, Clinic, Device
from lab.evil.peer import wire
from lab.evil.peer.doctor import Doctor, DoctorLies
from lab.evil.peer.doctor import Practice as EvilPractice
from lab.evil.peer.equations import Surprise
from lab.evil.peer.groups import Epoch, epoch_of
from lab.evil.peer.patient import Credentials, Patient, PatientLies
from lab.evil.peer.sessions import Told, read_alert
from lab.evil.peer.suites import ECDSA, SigningPair, Suite, new_signer
from lab.evil.sides import DoctorSide, PatientSide, Side
from shared.crypto.signatures import Algorithm, fingerprint
from shared.crypto.suites import SUITES, SuiteId
from shared.protocol.doctor_handshake import Standing
from shared.protocol.envelopes import Reader
from shared.protocol.patient_handshake import Identity

HOME = wire.Stream(wire.GROUP, EVERYONE.name)


def one(side: Side) -> bytes:
    """The one frame that a side has to say. Raises Surprise where it says more or nothing."""
    frames = side.give()
    if len(frames) != 1:
        raise Surprise(f"{side.name} said {[frame[1] for frame in frames]} where one frame was expected")
    return frames[0]


# A patient of the second implementation at the real doctor


def credentials(
    clinic: Clinic,
    suite: Suite,
    patient_id: str = "mallory",
    *,
    standing: Standing | None = Standing.ACTIVE,
    key: SigningPair | None = None,
    invitation: tuple[bytes, bytes] | None = None,
) -> Credentials:
    """A patient that has pinned the clinic's doctor. `standing` None: it is not on the roster."""
    key = key or suite.new_signer(clinic.random)
    if standing is not None:
        clinic.roster(patient_id, Algorithm(key.algorithm), key.public, standing)
    return Credentials(
        patient_id,
        suite,
        key,
        clinic.practice.doctor_id,
        clinic.keys[Algorithm(suite.algorithm)].public,
        clinic.envelope_key.public,
        invitation,
    )


def call(clinic: Clinic, who: Credentials, lies: PatientLies | None = None) -> tuple[Patient, DoctorSide]:
    """A patient, and the doctor's end of its connection."""
    return Patient(who, clinic.random, lies or PatientLies()), DoctorSide(clinic)


def log_in(peer: Patient, side: DoctorSide, *positions: wire.Position) -> bool:
    """Go through the handshake as far as the doctor goes along; whether it went all the way."""
    now = side.clinic.clock.now.wall
    side.take(peer.hello())
    if not side.ended:
        side.take(peer.request(one(side), now))
    if not side.ended:
        side.take(peer.verifier(one(side), now))
    if not side.ended:
        side.take(peer.receipt(*positions))
    return not side.ended


def settle_in(peer: Patient, side: DoctorSide) -> Epoch:
    """Read what the doctor sends first: what was missed, then the group's key. Raises Surprise where it is anything else."""
    *missed, last = side.give()
    for frame in missed:
        peer.read(wire.Direct, frame, wire.DIRECT)
    return epoch_of(peer.read(wire.GroupKey, last, wire.GROUP_KEY))


def established(
    clinic: Clinic, suite: Suite, patient_id: str = "mallory"
) -> tuple[Patient, DoctorSide, Epoch]:
    """A patient of the second implementation with a session at the real doctor."""
    peer, side = call(clinic, credentials(clinic, suite, patient_id))
    if not log_in(peer, side):
        raise Surprise(f"the doctor refused an honest patient: {side.refusals}")
    return peer, side, settle_in(peer, side)


def patient_ear(peer: Patient, frame: bytes) -> Told:
    """The doctor's alert, as this patient reads it."""
    return read_alert(frame, peer.alert_key, peer.to_patient)


# A doctor of the second implementation, with a real patient


def evil_practice(clinic: Clinic, suite: Suite, doctor_id: str = "mallory-clinic") -> EvilPractice:
    """Who a doctor of the second implementation is. Its device pins these keys."""
    key = new_signer(suite.algorithm, clinic.random)
    envelope_key = key if suite.algorithm == ECDSA else new_signer(ECDSA, clinic.random)
    return EvilPractice(doctor_id, suite, key, envelope_key)


def device_of(
    clinic: Clinic, practice: EvilPractice, patient_id: str = "alice", *, enrolled: bool = True
) -> Device:
    """A real patient's device that has pinned a doctor of the second implementation."""
    made = clinic.device(patient_id, SUITES[SuiteId(practice.suite.number)], enrolled=enrolled)
    own = made.identity.key
    identity = Identity(
        patient_id, own, made.identity.suite, practice.doctor_id, practice.key.public, made.identity.enrolment
    )
    name = fingerprint(own.algorithm, own.public)
    reader = Reader(patient_id, name, practice.doctor_id, practice.envelope_key.public)
    return Device(identity, reader, made.inbox)


def visit(
    clinic: Clinic,
    suite: Suite,
    lies: DoctorLies | None = None,
    *,
    enrolled: bool = True,
    change: Callable[[EvilPractice, Device], Device] = lambda practice, device: device,
) -> tuple[Doctor, PatientSide]:
    """A doctor, and the real patient that has called it. `change`: what the device has pinned besides."""
    practice = evil_practice(clinic, suite)
    device = change(practice, device_of(clinic, practice, enrolled=enrolled))
    return Doctor(practice, clinic.random, lies or DoctorLies()), PatientSide(clinic, device)


def receive(peer: Doctor, side: PatientSide) -> bool:
    """Go through the handshake as far as the patient goes along; whether it went all the way."""
    now = side.clinic.clock.now.wall
    side.take(peer.reply(one(side), now))
    if not side.ended:
        peer.open_request(one(side))
        peer.judge_request(side.device.identity.key.public, None, now)
        side.take(peer.response(now))
    if side.ended:
        return False
    verifier, receipt = side.give()
    peer.judge_verifier(verifier, now)
    peer.read(wire.Receipt, receipt, wire.RECEIPT)
    return True


def attended(
    clinic: Clinic,
    suite: Suite,
    change: Callable[[EvilPractice, Device], Device] = lambda practice, device: device,
) -> tuple[Doctor, PatientSide, Epoch]:
    """A doctor of the second implementation with a real patient in its group."""
    peer, side = visit(clinic, suite, change=change)
    if not receive(peer, side):
        raise Surprise(f"the patient refused an honest doctor: {side.refusals}")
    if peer.keys is None:
        raise Surprise("no keys after a whole handshake")
    who = side.device.patient_id
    contributions = [peer.keys.contribution]
    epoch = Epoch.begin(peer.practice.doctor_id, HOME.name, 5, contributions, [who], clinic.random)
    side.take(peer.record(wire.GROUP_KEY, epoch.group_key()))
    return peer, side, epoch


def doctor_ear(peer: Doctor, frame: bytes) -> Told:
    """The patient's alert, as this doctor reads it."""
    return read_alert(frame, None, peer.to_doctor)

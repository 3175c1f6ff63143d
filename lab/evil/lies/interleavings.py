"""Frames that are true and in the wrong place: turned round, between two handshakes, before another patient, passed on by a doctor."""

from __future__ import annotations

from lab.evil.clinic import Clinic, Device
from lab.evil.lies.middle import go_on, meet, real_suite, row
from lab.evil.links import Link
from lab.evil.misbehaviour import Act, Attack, fails
from lab.evil.peer import equations as eq
from lab.evil.peer import wire
from lab.evil.peer.doctor import Doctor
from lab.evil.peer.doctor import Practice as EvilPractice
from lab.evil.peer.patient import PatientLies
from lab.evil.peer.sessions import FirstKeys, sealed_frame
from lab.evil.peer.suites import Suite, new_signer
from lab.evil.sides import DoctorSide, How, PatientSide, Refusal
from lab.evil.stages import call, credentials, device_of, log_in, one, patient_ear
from shared.protocol.clock import SECOND
from shared.wire.checks import Check


def _reflected_hello(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
    patient, doctor = meet(clinic, suite)
    mark = len(clinic.effects)
    if lie:
        patient.take(one(patient))
    go_on(patient, doctor)
    return Attack(patient, mark)


def _reflected_reply(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
    patient, doctor = meet(clinic, suite)
    mark = len(clinic.effects)
    doctor.take(one(patient))
    if lie:
        doctor.take(one(doctor))
    go_on(patient, doctor)
    return Attack(doctor, mark)


def _reflected_ping(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
    """PING goes both ways: a patient's own, turned round."""
    patient, doctor = meet(clinic, suite)
    go_on(patient, doctor)
    clinic.clock.advance(20 * SECOND)
    patient.ring()
    ping = one(patient)
    mark = len(clinic.effects)
    if lie:
        patient.take(ping)
    else:
        doctor.take(ping)
        doctor.broadcast(clinic.seal(clinic.accept(b"good morning")))
        go_on(patient, doctor)
    return Attack(patient, mark)


def _two_sessions(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
    """Two handshakes of one patient at a time: the answer of the one is brought to the other."""
    device = clinic.device("alice", real_suite(suite))
    first, second = PatientSide(clinic, device), PatientSide(clinic, device)
    one_doctor, other_doctor = DoctorSide(clinic), DoctorSide(clinic)
    mark = len(clinic.effects)
    one_doctor.take(one(first))
    first.take(one(one_doctor))
    one_doctor.take(one(first))
    other_doctor.take(one(second))
    second.take(one(other_doctor))
    other_doctor.take(one(second))
    first.take(one(other_doctor if lie else one_doctor))
    go_on(first, one_doctor)
    return Attack(first, mark)


def _spliced_verifier(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
    """The end of one handshake behind the beginning of another patient's."""
    patient, doctor = meet(clinic, suite)
    other, other_doctor = meet(clinic, suite, "bob")
    for side, at in ((patient, doctor), (other, other_doctor)):
        at.take(one(side))
        side.take(one(at))
        at.take(one(side))
        side.take(one(at))
    own, foreign = patient.give(), other.give()
    mark = len(clinic.effects)
    doctor.take(*(foreign if lie else own))
    if not lie:
        go_on(patient, doctor)
    return Attack(doctor, mark)


def _retry_loop(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
    """A RETRY that answers a greeting which carries a cookie already: the patient does not follow it again."""
    device = clinic.device("alice", real_suite(suite))
    retry = wire.build(wire.RETRY, wire.encode(wire.Retry(bytes(40))))
    first = PatientSide(clinic, device)
    first.take(retry)
    second, doctor = PatientSide(clinic, device, first.hello), DoctorSide(clinic)
    mark = len(clinic.effects)
    if lie:
        second.take(retry)
    else:
        go_on(second, doctor)
    return Attack(second, mark)


def _late_retry(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
    """A RETRY in place of AUTH_RESPONSE."""
    patient, doctor = meet(clinic, suite)
    doctor.take(one(patient))
    patient.take(one(doctor))
    mark = len(clinic.effects)
    if lie:
        patient.take(wire.build(wire.RETRY, wire.encode(wire.Retry(bytes(40)))))
    go_on(patient, doctor)
    return Attack(patient, mark)


def _practice(clinic: Clinic, suite: Suite, doctor_id: str) -> EvilPractice:
    key = new_signer(suite.algorithm, clinic.random)
    return EvilPractice(doctor_id, suite, key, key)


def passed_on(doctor_id: str) -> Act:
    """The patient trusts Mallory as a doctor of this name; Mallory seals its claims and its signature for the honest doctor."""

    def act(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
        if not lie:
            patient, doctor = meet(clinic, suite)
            mark = len(clinic.effects)
            go_on(patient, doctor)
            return Attack(doctor, mark)
        practice = _practice(clinic, suite, doctor_id)
        device: Device = device_of(clinic, practice)
        mallory, patient, target = (
            Doctor(practice, clinic.random),
            PatientSide(clinic, device),
            DoctorSide(clinic),
        )
        mark = len(clinic.effects)
        hello = one(patient)
        target.take(hello)
        offered = one(target)
        patient.take(mallory.reply(hello, clinic.clock.now.wall))
        mallory.open_request(one(patient))
        target.take(_sealed_for(clinic, suite, hello, offered, mallory))
        return Attack(target, mark)

    return act


def _sealed_for(clinic: Clinic, suite: Suite, hello: bytes, offered: bytes, mallory: Doctor) -> bytes:
    """What the patient proved to Mallory, in an AUTH_REQUEST to the doctor that offered this prekey."""
    reply = wire.read(wire.KeyExchangeReply, offered, wire.KEY_EXCHANGE_REPLY)
    ct_d, ss_d = suite.encapsulate(reply.kem_public, clinic.random)
    keys = FirstKeys.derive(hello, offered, ct_d, ss_d)
    proof = eq.pad(wire.encode(mallory.proof), suite.padded_to)
    return sealed_frame(wire.AUTH_REQUEST, ct_d, keys.k1, proof)


def _oracle(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
    """A patient asks the doctor to decrypt what another has sent it: the other's ciphertext, to the same prekey, in its own request."""
    patient, doctor = meet(clinic, suite)
    doctor.take(one(patient))
    patient.take(one(doctor))
    stolen = wire.read(wire.Sealed, one(patient), wire.AUTH_REQUEST).kem_ciphertext

    def bring(frame: bytes) -> bytes:
        request = wire.read(wire.Sealed, frame, wire.AUTH_REQUEST)
        return wire.build(wire.AUTH_REQUEST, wire.encode(request._replace(kem_ciphertext=stolen)))

    lies = PatientLies(request_frame=bring) if lie else PatientLies()
    peer, side = call(clinic, credentials(clinic, suite), lies)
    mark = len(clinic.effects)
    log_in(peer, side)
    return Attack(side, mark, lambda frame: patient_ear(peer, frame))


def _record_to_another(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
    """A record of one patient, on the connection of another."""
    first, second = (Link(clinic, clinic.device(name, real_suite(suite))).run() for name in ("alice", "bob"))
    message = clinic.accept(b"for the two of you")
    first.doctor.connection.send_direct(0, message)
    second.doctor.connection.send_direct(0, message)
    first.doctor.flush()
    second.doctor.flush()
    own, foreign = one(second.doctor), one(first.doctor)
    mark = len(clinic.effects)
    second.patient.take(foreign if lie else own)
    return Attack(second.patient, mark)


ROWS = (
    row(
        "reflected-hello",
        "sends a patient's greeting back to it",
        fails(Check.OPCODE_IN_STATE),
        _reflected_hello,
    ),
    row(
        "reflected-reply",
        "sends the doctor's reply back to it",
        fails(Check.OPCODE_IN_STATE),
        _reflected_reply,
    ),
    row("reflected-ping", "sends a patient's PING back to it", fails(Check.RECORD_OPENS), _reflected_ping),
    row(
        "interleaved-handshakes",
        "answers one handshake of a patient with the response to its other one",
        fails(Check.RESPONSE_OPENS),
        _two_sessions,
    ),
    row(
        "spliced-verifier",
        "ends one patient's handshake with the verifier of another",
        fails(Check.VERIFIER_OPENS),
        _spliced_verifier,
    ),
    row(
        "record-to-another",
        "brings one patient's record to another",
        fails(Check.RECORD_OPENS),
        _record_to_another,
    ),
    row(
        "decryption-oracle",
        "has the doctor decrypt another patient's request",
        fails(Check.REQUEST_OPENS),
        _oracle,
    ),
    row(
        "lowe",
        "a doctor passes its patient's request on to another doctor",
        fails(Check.REQUEST_DOCTOR),
        passed_on("mallory-clinic"),
    ),
    row(
        "lowe-same-name",
        "a doctor does so under the other's name",
        fails(Check.REQUEST_SIGNATURE),
        passed_on("doctor"),
    ),
    row("retry-loop", "answers every greeting with a RETRY", Refusal(How.HINT), _retry_loop),
    row("late-retry", "sends a RETRY in place of AUTH_RESPONSE", fails(Check.OPCODE_IN_STATE), _late_retry),
)

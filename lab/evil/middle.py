"""A man in the middle of a real patient and the real doctor, and doctors who pass their patients on. One row each."""

from __future__ import annotations

from collections.abc import Callable

from lab.evil.clinic import Clinic, Device
from lab.evil.misbehaviour import Act, Attack, Liar, Misbehaviour, fails
from lab.evil.peer import equations as eq
from lab.evil.peer import wire
from lab.evil.peer.doctor import Doctor
from lab.evil.peer.doctor import Practice as EvilPractice
from lab.evil.peer.sessions import FirstKeys, sealed_frame
from lab.evil.peer.suites import HYBRID, P256, SUITES, Suite, new_signer
from lab.evil.sides import DoctorSide, How, Link, PatientSide, Refusal
from lab.evil.stages import device_of, one
from shared.crypto import suites as real
from shared.crypto.suites import SuiteId
from shared.protocol.clock import SECOND
from shared.wire.checks import Check

Tamper = Callable[[Clinic, bytes], bytes]


def real_suite(suite: Suite) -> real.Suite:
    """The product's suite of the same number."""
    return real.SUITES[SuiteId(suite.number)]


def meet(clinic: Clinic, suite: Suite, patient_id: str = "alice") -> tuple[PatientSide, DoctorSide]:
    """A real patient and the real doctor, each with the man in the middle."""
    return PatientSide(clinic, clinic.device(patient_id, real_suite(suite))), DoctorSide(clinic)


def go_on(patient: PatientSide, doctor: DoctorSide) -> None:
    """Pass everything on faithfully until nothing moves."""
    while True:
        upward, downward = patient.give(), doctor.give()
        if not upward and not downward:
            return
        doctor.take(*upward)
        patient.take(*downward)


def changed(step: int, tamper: Tamper, *, defender: str) -> Act:
    """One frame of the handshake is changed on its way: 0 KEY_EXCHANGE, 1 its reply, 2 AUTH_REQUEST, 3 AUTH_RESPONSE, 4 the verifier."""

    def act(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
        patient, doctor = meet(clinic, suite)
        mark = len(clinic.effects)
        side = patient if defender == "patient" else doctor
        for index in range(5):
            source, target = (patient, doctor) if index % 2 == 0 else (doctor, patient)
            frames = source.give()
            if not frames or target.ended:
                break
            if index == step and lie:
                frames = [tamper(clinic, frames[0]), *frames[1:]]
            target.take(*frames)
        if not side.ended:
            go_on(patient, doctor)
        return Attack(side, mark)

    return act


def _other_key(clinic: Clinic, frame: bytes) -> bytes:
    message = wire.read(wire.KeyExchange, frame, wire.KEY_EXCHANGE)
    suite = SUITES[message.suite - 1]
    swapped = message._replace(kem_public=suite.generate(clinic.random).public)
    return wire.build(wire.KEY_EXCHANGE, wire.encode(swapped))


def _other_nonce(clinic: Clinic, frame: bytes) -> bytes:
    message = wire.read(wire.KeyExchange, frame, wire.KEY_EXCHANGE)
    return wire.build(wire.KEY_EXCHANGE, wire.encode(message._replace(nonce=clinic.random(32))))


def _weaker_suite(clinic: Clinic, frame: bytes) -> bytes:
    message = wire.read(wire.KeyExchange, frame, wire.KEY_EXCHANGE)
    weaker = message._replace(suite=P256.number, kem_public=P256.generate(clinic.random).public)
    return wire.build(wire.KEY_EXCHANGE, wire.encode(weaker))


def _own_prekey(clinic: Clinic, frame: bytes) -> bytes:
    reply = wire.read(wire.KeyExchangeReply, frame, wire.KEY_EXCHANGE_REPLY)
    suite = HYBRID if len(reply.kem_public) > 65 else P256
    swapped = reply._replace(kem_public=suite.generate(clinic.random).public)
    return wire.build(wire.KEY_EXCHANGE_REPLY, wire.encode(swapped))


def _other_reply_nonce(clinic: Clinic, frame: bytes) -> bytes:
    reply = wire.read(wire.KeyExchangeReply, frame, wire.KEY_EXCHANGE_REPLY)
    return wire.build(wire.KEY_EXCHANGE_REPLY, wire.encode(reply._replace(nonce=clinic.random(32))))


def _longer_life(clinic: Clinic, frame: bytes) -> bytes:
    reply = wire.read(wire.KeyExchangeReply, frame, wire.KEY_EXCHANGE_REPLY)
    longer = reply._replace(valid_until=reply.valid_until + SECOND)
    return wire.build(wire.KEY_EXCHANGE_REPLY, wire.encode(longer))


def _bent_seal(clinic: Clinic, frame: bytes) -> bytes:
    return frame[:-1] + bytes([frame[-1] ^ 1])


# Reflection


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


# RETRY


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


# A doctor that passes its patient on to another: Lowe's attack


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


def row(
    name: str, does: str, answer: Refusal, act: Act, suites: tuple[Suite, ...] = (HYBRID, P256)
) -> Misbehaviour:
    """A row of this table."""
    return Misbehaviour(name, Liar.MIDDLE, does, answer, act, suites)


ROWS = (
    row(
        "hello-key-swap",
        "puts its own ephemeral key into the patient's KEY_EXCHANGE",
        fails(Check.REQUEST_OPENS),
        changed(0, _other_key, defender="doctor"),
    ),
    row(
        "hello-nonce-swap",
        "puts another nonce into the patient's KEY_EXCHANGE",
        fails(Check.REQUEST_OPENS),
        changed(0, _other_nonce, defender="doctor"),
    ),
    row(
        "suite-downgrade",
        "rewrites the patient's suite to a weaker one",
        fails(Check.PREKEY_SIGNATURE),
        changed(0, _weaker_suite, defender="patient"),
        (HYBRID,),
    ),
    row(
        "reply-key-swap",
        "puts its own prekey into the doctor's reply",
        fails(Check.PREKEY_SIGNATURE),
        changed(1, _own_prekey, defender="patient"),
    ),
    row(
        "prekey-made-to-last",
        "lengthens the life of a prekey",
        fails(Check.PREKEY_SIGNATURE),
        changed(1, _longer_life, defender="patient"),
    ),
    row(
        "reply-nonce-swap",
        "puts another nonce into the doctor's reply",
        fails(Check.REQUEST_OPENS),
        changed(1, _other_reply_nonce, defender="doctor"),
    ),
    row(
        "request-changed",
        "changes the last bit of AUTH_REQUEST",
        fails(Check.REQUEST_OPENS),
        changed(2, _bent_seal, defender="doctor"),
    ),
    row(
        "response-changed",
        "changes the last bit of AUTH_RESPONSE",
        fails(Check.RESPONSE_OPENS),
        changed(3, _bent_seal, defender="patient"),
    ),
    row(
        "verifier-changed",
        "changes the last bit of SESSION_VERIFIER",
        fails(Check.VERIFIER_OPENS),
        changed(4, _bent_seal, defender="doctor"),
    ),
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

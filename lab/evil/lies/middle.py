"""A man in the middle of a real patient and the real doctor, who changes one frame of their handshake."""

from __future__ import annotations

from collections.abc import Callable

from lab.evil.clinic import Clinic
from lab.evil.misbehaviour import Act, Attack, Liar, Misbehaviour, fails
from lab.evil.peer import wire
from lab.evil.peer.suites import HYBRID, P256, SUITES, Suite
from lab.evil.sides import DoctorSide, PatientSide, Refusal
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
)

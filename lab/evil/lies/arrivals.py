"""Lies on the way into a session: records too early or too late, cookies of others, a use that is gone."""

from __future__ import annotations

from lab.evil.clinic import Clinic
from lab.evil.misbehaviour import Act, Attack, Liar, Misbehaviour, fails
from lab.evil.peer import wire
from lab.evil.peer.patient import Patient
from lab.evil.peer.sessions import sealed_alert
from lab.evil.peer.suites import Suite
from lab.evil.sides import DoctorSide, How, Refusal
from lab.evil.stages import call, credentials, one, patient_ear
from shared.protocol.clock import SECOND
from shared.wire.checks import Check
from shared.wire.opcodes import AlertCode


def _until_verifier(
    clinic: Clinic, suite: Suite, *, admits: bool = True
) -> tuple[Patient, DoctorSide, bytes]:
    """A patient that has AUTH_RESPONSE; its verifier is made and not yet sent."""
    peer = Patient(credentials(clinic, suite), clinic.random)
    side = DoctorSide(clinic, admits=admits)
    now = clinic.clock.now.wall
    side.take(peer.hello())
    side.take(peer.request(one(side), now))
    return peer, side, peer.verifier(one(side), now)


def _early_record(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
    peer, side, verifier = _until_verifier(clinic, suite)
    mark = len(clinic.effects)
    side.take(*([] if lie else [verifier]), peer.receipt())
    return Attack(side, mark, lambda frame: patient_ear(peer, frame))


def _before_position(opcode: int, message: tuple[object, ...]) -> Act:
    def act(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
        peer, side, verifier = _until_verifier(clinic, suite)
        side.take(verifier)
        mark = len(clinic.effects)
        if lie:
            side.take(peer.record(opcode, message))
        side.take(peer.receipt())
        return Attack(side, mark, lambda frame: patient_ear(peer, frame))

    return act


def _flood_before_admission(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
    """While the roster's transaction is under way: more than one frame's worth of bytes, or the RECEIPT."""
    peer, side, verifier = _until_verifier(clinic, suite, admits=False)
    side.take(verifier)
    mark = len(clinic.effects)
    if lie:
        side.take(bytes(65_536 + 7))
    else:
        side.take(peer.receipt())
        side.decide()
    return Attack(side, mark, lambda frame: patient_ear(peer, frame))


def _ping_before_admission(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
    """While the roster's transaction is under way nothing is read; what waited is judged behind it."""
    peer, side, verifier = _until_verifier(clinic, suite, admits=False)
    side.take(verifier)
    mark = len(clinic.effects) + 1  # the admission is due either way
    side.take(peer.record(wire.PING, wire.Ping(bytes(8))) if lie else peer.receipt())
    side.decide()
    return Attack(side, mark, lambda frame: patient_ear(peer, frame))


def _alert_of_a_patient(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
    """Only the doctor seals with the alert key."""
    peer, side, verifier = _until_verifier(clinic, suite)
    mark = len(clinic.effects)
    if lie:
        side.take(sealed_alert(AlertCode.BUSY, clinic.clock.now.wall, peer.alert_key or bytes(32)))
    else:
        side.take(verifier, peer.receipt())
    return Attack(side, mark, lambda frame: patient_ear(peer, frame))


def _slow(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
    """Everything is right, and the RECEIPT comes late."""
    peer, side, verifier = _until_verifier(clinic, suite)
    side.take(verifier)
    mark = len(clinic.effects)
    clinic.clock.advance(10 * SECOND - (not lie))
    side.ring()
    side.take(peer.receipt())
    return Attack(side, mark, lambda frame: patient_ear(peer, frame))


def _half_a_frame(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
    peer, side, verifier = _until_verifier(clinic, suite)
    mark = len(clinic.effects)
    side.take(verifier[:-1] if lie else verifier)
    if lie:
        side.take_end()
    else:
        side.take(peer.receipt())
    return Attack(side, mark, lambda frame: patient_ear(peer, frame))


def _last_use_gone(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
    """Two devices hold one invitation, and both have AUTH_RESPONSE before the first of them is admitted."""
    invitation = clinic.invite(None, uses=1 if lie else 2)
    made = [_fleet_device(clinic, suite, invitation) for _ in range(2)]
    now = clinic.clock.now.wall
    for peer, side in made:
        side.take(peer.hello())
        side.take(peer.request(one(side), now))
    (first, first_side), (second, second_side) = made
    first_side.take(first.verifier(one(first_side), now), first.receipt())
    mark = len(clinic.effects)
    second_side.take(second.verifier(one(second_side), now))
    return Attack(second_side, mark, lambda frame: patient_ear(second, frame))


def _fleet_device(
    clinic: Clinic, suite: Suite, invitation: tuple[bytes, bytes]
) -> tuple[Patient, DoctorSide]:
    """A device of a fleet, with the id that its key gives it."""
    key = suite.new_signer(clinic.random)
    who = credentials(clinic, suite, "?", key=key, standing=None, invitation=invitation)
    derived = f"patient-{who.fingerprint[:16]}"
    named = credentials(clinic, suite, derived, key=key, standing=None, invitation=invitation)
    return call(clinic, named)


def _cookie(address: str, *, later: int = 0, same_hello: bool = True) -> Act:
    """Under load: the cookie of one address is shown from another, or too late, or with another greeting."""

    def act(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
        clinic.pressed = True
        who = credentials(clinic, suite)
        peer, first = call(clinic, who)
        first.take(peer.hello())
        cookie = wire.read(wire.Retry, one(first), wire.RETRY).cookie
        clinic.pressed = True
        second = DoctorSide(clinic, address if lie else "192.0.2.1")
        clinic.clock.advance(later if lie else 0)
        if lie and not same_hello:
            peer, _ = call(clinic, who)
        mark = len(clinic.effects)
        second.take(peer.hello(cookie))
        now = clinic.clock.now.wall
        if not second.ended:
            second.take(peer.request(one(second), now))
            second.take(peer.verifier(one(second), now), peer.receipt())
        clinic.pressed = False
        return Attack(second, mark)

    return act


ROWS = (
    Misbehaviour(
        "record-before-verifier",
        Liar.PATIENT,
        "sends its RECEIPT without the verifier",
        fails(Check.OPCODE_IN_STATE),
        _early_record,
    ),
    Misbehaviour(
        "ping-before-position",
        Liar.PATIENT,
        "sends PING before it has said where it stands",
        fails(Check.OPCODE_IN_STATE),
        _before_position(wire.PING, wire.Ping(bytes(8))),
    ),
    Misbehaviour(
        "ping-before-admission",
        Liar.PATIENT,
        "sends PING while the doctor decides",
        fails(Check.OPCODE_IN_STATE),
        _ping_before_admission,
    ),
    Misbehaviour(
        "report-before-position",
        Liar.PATIENT,
        "reports before it has said where it stands",
        fails(Check.OPCODE_IN_STATE),
        _before_position(wire.REPORT, wire.Report(bytes(16), 2, 0, b"early")),
    ),
    Misbehaviour(
        "flood-before-admission",
        Liar.PATIENT,
        "sends more than a frame while the doctor decides",
        fails(Check.INPUT_BOUNDED),
        _flood_before_admission,
    ),
    Misbehaviour(
        "alert-of-a-patient",
        Liar.PATIENT,
        "seals an alert with the doctor's alert key",
        fails(Check.RECORD_OPENS),
        _alert_of_a_patient,
    ),
    Misbehaviour("slow-handshake", Liar.PATIENT, "takes 10 s", fails(Check.HANDSHAKE_DEADLINE), _slow),
    Misbehaviour(
        "half-a-frame",
        Liar.STRANGER,
        "stops inside its verifier",
        fails(Check.STREAM_COMPLETE),
        _half_a_frame,
    ),
    Misbehaviour(
        "duplicate-enrolment",
        Liar.PATIENT,
        "takes an invitation's last use together with another",
        fails(Check.ADMISSION),
        _last_use_gone,
    ),
    Misbehaviour(
        "cookie-of-another-address",
        Liar.STRANGER,
        "shows the cookie of another address",
        Refusal(How.RETRY),
        _cookie("198.51.100.7"),
    ),
    Misbehaviour(
        "stale-cookie",
        Liar.STRANGER,
        "shows a cookie 11 s after it was baked",
        Refusal(How.RETRY),
        _cookie("192.0.2.1", later=11 * SECOND),
    ),
    Misbehaviour(
        "cookie-of-another-greeting",
        Liar.STRANGER,
        "shows a cookie with another KEY_EXCHANGE",
        Refusal(How.RETRY),
        _cookie("192.0.2.1", same_hello=False),
    ),
)

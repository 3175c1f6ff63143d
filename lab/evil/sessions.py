"""Patients that lie within a session, or on the way into it: out of turn, out of order, out of bounds."""

from __future__ import annotations

from collections.abc import Callable

from lab.evil.clinic import EVERYONE, Clinic
from lab.evil.misbehaviour import Act, Attack, Liar, Misbehaviour, fails
from lab.evil.peer import wire
from lab.evil.peer.patient import Patient
from lab.evil.peer.sessions import Records, sealed_alert
from lab.evil.peer.suites import Suite
from lab.evil.sides import DoctorSide, How, Refusal
from lab.evil.stages import HOME, call, credentials, established, one, patient_ear
from shared.protocol.clock import SECOND
from shared.wire.checks import Check
from shared.wire.opcodes import AlertCode

BODY_LIMIT = 32_768
Play = Callable[[Patient, DoctorSide, bool], bytes]


def report(peer: Patient, number: int = 1, body: bytes = b"better") -> bytes:
    """The next record: a report, which the doctor stores."""
    return peer.record(wire.REPORT, _report(peer, number, body))


def _report(peer: Patient, number: int = 1, body: bytes = b"better") -> wire.Report:
    return wire.Report(number.to_bytes(16, "big"), 2, 1_800_000_000_000, body)


def session(play: Play) -> Act:
    """A patient with an established session; `play` makes its next frame, true or not."""

    def act(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
        peer, side, _ = established(clinic, suite)
        mark = len(clinic.effects)
        side.take(play(peer, side, lie))
        return Attack(side, mark, lambda frame: patient_ear(peer, frame))

    return act


def record(name: str, does: str, answer: Refusal, play: Play, liar: Liar = Liar.PATIENT) -> Misbehaviour:
    """A row about an established session."""
    return Misbehaviour(name, liar, does, answer, session(play))


def _counter(step: int) -> Play:
    def play(peer: Patient, side: DoctorSide, lie: bool) -> bytes:
        peer.to_doctor.count += step * lie
        return report(peer)

    return play


def _own_direction(peer: Patient, side: DoctorSide, lie: bool) -> bytes:
    if not lie:
        return report(peer)
    reflected = Records(peer.to_patient.key)
    reflected.count = peer.to_doctor.count
    return reflected.seal(wire.REPORT, _report(peer))


def _foreign_session(peer: Patient, side: DoctorSide, lie: bool) -> bytes:
    """A record of another session of the same patient."""
    if not lie:
        return report(peer)
    other, other_side = call(side.clinic, peer.who)
    now = side.clinic.clock.now.wall
    other_side.take(other.hello())
    other_side.take(other.request(one(other_side), now))
    other.verifier(one(other_side), now)
    other.to_doctor.count = peer.to_doctor.count
    return report(other)


def _relabelled(peer: Patient, side: DoctorSide, lie: bool) -> bytes:
    plaintext = wire.encode(_report(peer))
    return peer.to_doctor.seal_bytes(
        wire.REPORT, plaintext, header_opcode=wire.RECEIPT if lie else wire.REPORT
    )


def _encoded(change: Callable[[wire.Report], bytes]) -> Play:
    """A report whose encoding is changed before it is sealed."""

    def play(peer: Patient, side: DoctorSide, lie: bool) -> bytes:
        made = _report(peer)
        return peer.to_doctor.seal_bytes(wire.REPORT, change(made) if lie else wire.encode(made))

    return play


def _reporting(body: bytes, honest: bytes) -> Play:
    return lambda peer, side, lie: report(peer, 1, body if lie else honest)


def _unissued(step: int) -> Play:
    """A receipt for the last number that was issued, or for one beyond it."""

    def play(peer: Patient, side: DoctorSide, lie: bool) -> bytes:
        clinic = side.clinic
        clinic.accept(b"for everyone")
        last = clinic.issued_to(peer.who.patient_id, EVERYONE)
        return peer.receipt(wire.Position(HOME, last + step * lie, []))

    return play


def _foreign_stream(peer: Patient, side: DoctorSide, lie: bool) -> bytes:
    """A receipt in another patient's stream."""
    clinic = side.clinic
    clinic.accept(b"for everyone")
    if lie:
        return peer.receipt(wire.Position(wire.Stream(wire.PATIENT, "bystander"), 1, []))
    return peer.receipt(wire.Position(HOME, clinic.issued_to(peer.who.patient_id, EVERYONE), []))


def _opcode(opcode: int, message: tuple[object, ...]) -> Play:
    """A record of an opcode that is not the patient's to send."""
    return lambda peer, side, lie: peer.record(opcode, message) if lie else report(peer)


def _clear_broadcast(peer: Patient, side: DoctorSide, lie: bool) -> bytes:
    return wire.build(wire.BROADCAST, bytes(300)) if lie else report(peer)


def _second_handshake(peer: Patient, side: DoctorSide, lie: bool) -> bytes:
    return peer.hello() if lie else report(peer)


def _oversize(peer: Patient, side: DoctorSide, lie: bool) -> bytes:
    return wire.header(wire.REPORT, 65_537) if lie else report(peer)


def _clear_alert(peer: Patient, side: DoctorSide, lie: bool) -> bytes:
    if lie:
        return wire.build(wire.ALERT, wire.encode(wire.Alert(AlertCode.BUSY, 0, b"")))
    return peer.record(wire.ALERT, wire.Alert(AlertCode.BUSY, 5, b""))


IN_SESSION = (
    record("report-skipped", "leaves a record out", fails(Check.RECORD_OPENS), _counter(1)),
    record(
        "report-rolled-back",
        "goes back to a counter that it has used",
        fails(Check.RECORD_OPENS),
        _counter(-1),
    ),
    record(
        "report-wrong-direction",
        "seals a record under the doctor's direction",
        fails(Check.RECORD_OPENS),
        _own_direction,
    ),
    record(
        "report-of-another-session",
        "sends a record of another session of its own",
        fails(Check.RECORD_OPENS),
        _foreign_session,
    ),
    record(
        "report-relabelled",
        "sends as a REPORT what it sealed as a RECEIPT",
        fails(Check.RECORD_OPENS),
        _relabelled,
    ),
    record(
        "report-too-large",
        "reports 32,769 bytes",
        fails(Check.PAYLOAD_CANONICAL),
        _reporting(bytes(BODY_LIMIT + 1), bytes(BODY_LIMIT)),
    ),
    record("report-empty", "reports nothing", fails(Check.PAYLOAD_CANONICAL), _reporting(b"", b"1")),
    record(
        "report-of-no-kind",
        "reports a kind that does not exist",
        fails(Check.PAYLOAD_CANONICAL),
        _encoded(lambda made: wire.encode(made._replace(kind=3))),
    ),
    record(
        "report-float",
        "spells the time of its report as a floating point number",
        fails(Check.PAYLOAD_CANONICAL),
        _encoded(lambda made: wire.encode((made[0], made[1], float(made[2]), made[3]))),
    ),
    record(
        "report-negative-time",
        "reports from before 1970",
        fails(Check.PAYLOAD_CANONICAL),
        _encoded(lambda made: wire.encode(made._replace(created=-1))),
    ),
    record(
        "report-trailing-byte",
        "seals a byte behind its report",
        fails(Check.PAYLOAD_CANONICAL),
        _encoded(lambda made: wire.encode(made) + b"\0"),
    ),
    record(
        "receipt-unissued", "acknowledges a number never issued", fails(Check.RECEIPT_ISSUED), _unissued(1)
    ),
    record(
        "receipt-far-ahead",
        "acknowledges the last number that there can be",
        fails(Check.RECEIPT_ISSUED),
        lambda peer, side, lie: _unissued(2**62)(peer, side, lie),
    ),
    record(
        "receipt-of-another",
        "acknowledges what was sent to another patient",
        fails(Check.RECEIPT_ISSUED),
        _foreign_stream,
    ),
    record(
        "group-key-from-a-member",
        "sends a GROUP_KEY to the doctor",
        fails(Check.OPCODE_IN_STATE),
        _opcode(wire.GROUP_KEY, wire.GroupKey("everyone", 2, bytes(32), bytes(32), 0)),
    ),
    record(
        "report-receipt-from-a-patient",
        "sends a REPORT_RECEIPT to the doctor",
        fails(Check.OPCODE_IN_STATE),
        _opcode(wire.REPORT_RECEIPT, wire.ReportReceipt([bytes(16)])),
    ),
    record(
        "broadcast-to-the-doctor",
        "sends a BROADCAST to the doctor",
        fails(Check.OPCODE_IN_STATE),
        _clear_broadcast,
    ),
    record(
        "second-handshake",
        "begins a handshake within its session",
        fails(Check.OPCODE_IN_STATE),
        _second_handshake,
    ),
    record("oversize-record", "announces 65,537 bytes", fails(Check.FRAME_LENGTH), _oversize),
    record(
        "clear-alert-in-session",
        "says in clear, in its place, that the patient is gone",
        fails(Check.RECORD_OPENS),
        _clear_alert,
        Liar.MIDDLE,
    ),
)

# On the way into the session


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


INTO_SESSION = (
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

ROWS = (*IN_SESSION, *INTO_SESSION)

"""Patients that lie within a session: out of order, out of bounds, about what they have."""

from __future__ import annotations

from collections.abc import Callable

from lab.evil.clinic import EVERYONE, Clinic
from lab.evil.misbehaviour import Act, Attack, Liar, Misbehaviour, fails
from lab.evil.peer import wire
from lab.evil.peer.patient import Patient
from lab.evil.peer.sessions import Records
from lab.evil.peer.suites import Suite
from lab.evil.sides import DoctorSide, Refusal
from lab.evil.stages import HOME, call, established, one, patient_ear
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


ROWS = (
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
        "goodbye-without-reason",
        "signs off for a reason that does not exist",
        fails(Check.PAYLOAD_CANONICAL),
        lambda peer, side, lie: peer.record(wire.DISCONNECT, wire.Disconnect(6 if lie else 1)),
    ),
    record(
        "alert-of-no-kind",
        "sends an alert with a code that does not exist",
        fails(Check.PAYLOAD_CANONICAL),
        lambda peer, side, lie: peer.record(wire.ALERT, wire.Alert(99 if lie else 5, 5, b"")),
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

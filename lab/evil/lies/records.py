"""Doctors that lie in the records of a session: out of order, under another direction's key, in another form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lab.evil.clinic import Clinic
from lab.evil.letters import envelope, letter
from lab.evil.misbehaviour import Act, Attack, Liar, Misbehaviour, fails
from lab.evil.peer import wire
from lab.evil.peer.doctor import Doctor
from lab.evil.peer.groups import Epoch
from lab.evil.peer.sessions import Records, clear_alert
from lab.evil.peer.suites import Suite
from lab.evil.sides import PatientSide, Refusal
from lab.evil.stages import HOME, attended, doctor_ear
from shared.wire.checks import Check
from shared.wire.opcodes import AlertCode

Play = Callable[[Doctor, PatientSide, Epoch, bool], bytes]


def session(play: Play) -> Act:
    """A doctor with an established session; `play` makes its next frame, true or not."""

    def act(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
        peer, side, epoch = attended(clinic, suite)
        mark = len(clinic.effects)
        side.take(play(peer, side, epoch, lie))
        return Attack(side, mark, lambda frame: doctor_ear(peer, frame))

    return act


def record(name: str, does: str, answer: Refusal, play: Play, liar: Liar = Liar.DOCTOR) -> Misbehaviour:
    """A row about a session."""
    return Misbehaviour(name, liar, does, answer, session(play))


def next_epoch(step: int) -> Play:
    """The group's next epoch; the lie: one so many further."""

    def play(peer: Doctor, side: PatientSide, epoch: Epoch, lie: bool) -> bytes:
        number = epoch.number + (step if lie else 1)
        following = Epoch.begin(peer.practice.doctor_id, HOME.name, number, [], [], peer.random)
        return peer.record(wire.GROUP_KEY, following.group_key())

    return play


def next_envelope(peer: Doctor, side: PatientSide, **changes: Any) -> wire.Envelope:
    """The envelope of the doctor's first message, with changes."""
    made = envelope(side.clinic, peer.practice.doctor_id, peer.practice.envelope_key, 10, 0)
    return made._replace(**changes)


def truth(peer: Doctor, side: PatientSide) -> wire.SignedMessage:
    """The doctor's first message."""
    return letter(peer.practice.envelope_key, next_envelope(peer, side))


def _own_direction(peer: Doctor, side: PatientSide, epoch: Epoch, lie: bool) -> bytes:
    following = Epoch.begin(peer.practice.doctor_id, HOME.name, 6, [], [], peer.random)
    if not lie:
        return peer.record(wire.GROUP_KEY, following.group_key())
    reflected = Records(peer.to_doctor.key)
    reflected.count = peer.to_patient.count
    return reflected.seal(wire.GROUP_KEY, following.group_key())


def _counter(step: int) -> Play:
    def play(peer: Doctor, side: PatientSide, epoch: Epoch, lie: bool) -> bytes:
        peer.to_patient.count += step * lie
        return next_epoch(1)(peer, side, epoch, False)

    return play


def _other_header(peer: Doctor, side: PatientSide, epoch: Epoch, lie: bool) -> bytes:
    """A record that was sealed as one opcode and is sent as another."""
    following = Epoch.begin(peer.practice.doctor_id, HOME.name, 6, [], [], peer.random)
    plaintext = wire.encode(following.group_key())
    sealed_as = wire.DIRECT if lie else wire.GROUP_KEY
    return peer.to_patient.seal_bytes(wire.GROUP_KEY, plaintext, header_opcode=sealed_as)


def _map_record(peer: Doctor, side: PatientSide, epoch: Epoch, lie: bool) -> bytes:
    message = Epoch.begin(peer.practice.doctor_id, HOME.name, 6, [], [], peer.random).group_key()
    plaintext = wire.encode(message._asdict() if lie else message)
    return peer.to_patient.seal_bytes(wire.GROUP_KEY, plaintext)


def _reflected_receipt(peer: Doctor, side: PatientSide, epoch: Epoch, lie: bool) -> bytes:
    return (
        peer.to_patient.seal(wire.RECEIPT, wire.Receipt([]))
        if lie
        else next_epoch(1)(peer, side, epoch, False)
    )


def _false_alert(peer: Doctor, side: PatientSide, epoch: Epoch, lie: bool) -> bytes:
    """Somebody on the way says in clear that the patient is revoked; a true alert is a record by now."""
    if lie:
        return clear_alert(AlertCode.REVOKED)
    return peer.record(wire.ALERT, wire.Alert(AlertCode.REVOKED, 5, b""))


ROWS = (
    record(
        "wrong-direction",
        "seals a record under the patient's own direction",
        fails(Check.RECORD_OPENS),
        _own_direction,
    ),
    record("record-skipped", "leaves a record out", fails(Check.RECORD_OPENS), _counter(1)),
    record(
        "counter-rolled-back",
        "goes back to a counter that it has used",
        fails(Check.RECORD_OPENS),
        _counter(-1),
    ),
    record(
        "record-relabelled",
        "sends as one opcode what it sealed as another",
        fails(Check.RECORD_OPENS),
        _other_header,
    ),
    record("record-as-map", "seals names and values", fails(Check.PAYLOAD_CANONICAL), _map_record),
    record(
        "receipt-to-the-patient",
        "sends a RECEIPT, which only patients do",
        fails(Check.OPCODE_IN_STATE),
        _reflected_receipt,
    ),
    record(
        "false-alert",
        "says in clear, in the middle of a session, that the patient is revoked",
        fails(Check.RECORD_OPENS),
        _false_alert,
        Liar.MIDDLE,
    ),
    record(
        "alert-sealed-twice",
        "sends, in a record, an alert that says it is sealed",
        fails(Check.PAYLOAD_CANONICAL),
        lambda peer, side, epoch, lie: peer.record(wire.ALERT, wire.Alert(0 if lie else 5, 5, b"")),
    ),
)

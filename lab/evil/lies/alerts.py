"""Alerts and broadcasts in place of what is due in a handshake: forged, in clear, too early."""

from __future__ import annotations

from lab.evil.clinic import Clinic
from lab.evil.lies.records import truth
from lab.evil.misbehaviour import Attack, Liar, Misbehaviour, fails
from lab.evil.peer import wire
from lab.evil.peer.groups import Epoch
from lab.evil.peer.sessions import clear_alert, sealed_alert
from lab.evil.peer.suites import Suite
from lab.evil.sides import How, Refusal, Side
from lab.evil.stages import HOME, doctor_ear, one, receive, visit
from shared.wire.checks import Check
from shared.wire.opcodes import AlertCode


def _requested(clinic: Clinic, suite: Suite) -> tuple[Side, bytes]:
    """A patient whose AUTH_REQUEST has been opened, and the key for alerts that it shares with the doctor."""
    peer, side = visit(clinic, suite)
    side.take(peer.reply(one(side), clinic.clock.now.wall))
    peer.open_request(one(side))
    assert peer.first is not None  # noqa: S101  open_request has made it
    return side, peer.first.alert_key


def _forged_sealed_alert(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
    """Behind AUTH_REQUEST: an alert under a key that the forger does not have. The true one is the doctor's own."""
    side, alert_key = _requested(clinic, suite)
    mark, now = len(clinic.effects), clinic.clock.now.wall
    side.take(sealed_alert(AlertCode.REVOKED, now, bytes(32) if lie else alert_key))
    return Attack(side, mark)


def _empty_sealed_alert(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
    """The doctor's own seal, and inside it an alert that says it is sealed."""
    side, alert_key = _requested(clinic, suite)
    mark, now = len(clinic.effects), clinic.clock.now.wall
    side.take(sealed_alert(AlertCode.SEALED if lie else AlertCode.BUSY, now, alert_key))
    return Attack(side, mark)


def _early_sealed_alert(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
    """In place of the reply, where nobody has a key yet; the honest doctor answers."""
    peer, side = visit(clinic, suite)
    mark = len(clinic.effects)
    if lie:
        side.take(sealed_alert(AlertCode.REVOKED, clinic.clock.now.wall, bytes(32)))
    elif receive(peer, side):
        side.take(peer.record(wire.PING, wire.Ping(bytes(8))))
    return Attack(side, mark)


def _clear_alert(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
    peer, side = visit(clinic, suite)
    mark = len(clinic.effects)
    if lie:
        side.take(clear_alert(AlertCode.REVOKED))
    elif receive(peer, side):
        side.take(peer.record(wire.PING, wire.Ping(bytes(8))))
    return Attack(side, mark)


def _early_broadcast(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
    """A broadcast before the session's first record."""
    peer, side = visit(clinic, suite)
    mark = len(clinic.effects)
    receive(peer, side)
    epoch = Epoch.begin(peer.practice.doctor_id, HOME.name, 5, [], [], peer.random)
    if not lie:
        side.take(peer.record(wire.GROUP_KEY, epoch.group_key()))
    side.take(epoch.broadcast(0, truth(peer, side)))
    return Attack(side, mark, lambda frame: doctor_ear(peer, frame))


ROWS = (
    Misbehaviour(
        "forged-sealed-alert",
        Liar.MIDDLE,
        "seals REVOKED under a key of its own",
        fails(Check.RECORD_OPENS),
        _forged_sealed_alert,
    ),
    Misbehaviour(
        "empty-sealed-alert",
        Liar.DOCTOR,
        "seals an alert that says it is sealed",
        fails(Check.PAYLOAD_CANONICAL),
        _empty_sealed_alert,
    ),
    Misbehaviour(
        "early-sealed-alert",
        Liar.MIDDLE,
        "answers a greeting with a sealed alert",
        fails(Check.RECORD_OPENS),
        _early_sealed_alert,
    ),
    Misbehaviour(
        "clear-alert",
        Liar.MIDDLE,
        "answers a greeting with REVOKED in clear",
        Refusal(How.HINT),
        _clear_alert,
    ),
    Misbehaviour(
        "early-broadcast",
        Liar.DOCTOR,
        "broadcasts before its first record",
        fails(Check.OPCODE_IN_STATE),
        _early_broadcast,
    ),
)

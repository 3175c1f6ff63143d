"""A connection in any of its states, together with the real frame of every opcode that is legal there.

Each call makes a new connection, so a test may break it. Suite 2 is used throughout: its handshake is the fastest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from shared.crypto.suites import SUITES, SuiteId
from shared.protocol.connection import Connection
from shared.protocol.transitions import Role, State
from shared.wire import messages
from shared.wire.messages import (
    Alert,
    Direct,
    Disconnect,
    Ping,
    Pong,
    Position,
    Receipt,
    Report,
    ReportKind,
    ReportReceipt,
    ResendRequest,
    Retry,
)
from shared.wire.opcodes import AlertCode, DisconnectReason, Opcode
from tests.protocol_bench import EVERYONE, Clinic
from tests.protocol_puppets import PuppetDoctor, PuppetPatient, build

P256 = SUITES[SuiteId.ELGAMAL_P256]
CLEAR_ALERT = build(Opcode.ALERT, messages.encode(Alert(AlertCode.BUSY, 0, b"")))


@dataclass
class Stage:
    """A connection that waits in a state.

    `legal` makes the one real frame of an opcode that the state allows (records count, so make one and deliver it); `seen` are
    the frames that have been delivered already.
    """

    connection: Connection
    clinic: Clinic
    legal: dict[int, Callable[[], bytes]]
    seen: list[bytes] = field(default_factory=list)

    def deliver(self, data: bytes) -> None:
        """Hand bytes over."""
        self.connection.receive_data(data, self.clinic.clock.now)


DOCTOR_STATES = (
    State.AWAIT_KEY_EXCHANGE,
    State.AWAIT_AUTH_REQUEST,
    State.AWAIT_VERIFIER,
    State.ADMITTING,
    State.AWAIT_POSITION,
    State.ESTABLISHED,
)
PATIENT_STATES = (State.AWAIT_REPLY, State.AWAIT_RESPONSE, State.CONFIRMING, State.ESTABLISHED)
STATES = [(Role.DOCTOR, state) for state in DOCTOR_STATES] + [
    (Role.PATIENT, state) for state in PATIENT_STATES
]


def stage(role: Role, state: State) -> Stage:
    """A new connection of `role` in `state`."""
    made = doctor_stage(state) if role is Role.DOCTOR else patient_stage(state)
    assert made.connection.state is state
    made.connection.take_events()
    return made


def doctor_stage(state: State) -> Stage:
    """The doctor's side, brought there by an honest puppet."""
    clinic = Clinic()
    puppet = PuppetPatient(clinic.patient(suite=P256), clinic.clock, clinic.random)
    doctor = clinic.doctor_connection()
    result = Stage(doctor, clinic, {10: puppet.key_exchange})
    if state is State.AWAIT_KEY_EXCHANGE:
        return result
    _deliver(result, 10)
    m2 = doctor.data_to_send()
    result.legal = {10: lambda: puppet.auth_request(m2), 70: lambda: CLEAR_ALERT}
    if state is State.AWAIT_AUTH_REQUEST:
        return result
    _deliver(result, 10)
    m4 = doctor.data_to_send()
    result.legal = {30: lambda: puppet.session_verifier(m4), 70: lambda: CLEAR_ALERT}
    if state is State.AWAIT_VERIFIER:
        return result
    _deliver(result, 30)
    result.legal = {}
    if state is State.ADMITTING:
        return result
    doctor.admit(clinic.clock.now)
    result.legal = {42: lambda: puppet.record(Opcode.RECEIPT, Receipt([]))}
    if state is State.AWAIT_POSITION:
        return result
    _deliver(result, 42)
    result.legal |= {
        43: lambda: puppet.record(Opcode.RESEND_REQUEST, ResendRequest(b"", [Position(EVERYONE, 0, [])])),
        50: lambda: puppet.record(Opcode.REPORT, Report(bytes(16), ReportKind.REPLY, 0, b"better")),
        **_session_records(puppet),
    }
    return result


def patient_stage(state: State) -> Stage:
    """The patient's side, brought there by an honest puppet."""
    clinic = Clinic()
    device = clinic.patient(suite=P256)
    puppet = PuppetDoctor(clinic, device)
    patient = clinic.patient_connection(device)
    m1 = patient.data_to_send()
    retry = build(Opcode.RETRY, messages.encode(Retry(bytes(40))))
    result = Stage(
        patient, clinic, {11: lambda: puppet.reply(m1), 12: lambda: retry, 70: lambda: CLEAR_ALERT}
    )
    if state is State.AWAIT_REPLY:
        return result
    _deliver(result, 11)
    m3 = patient.data_to_send()
    result.legal = {20: lambda: puppet.response(m3), 70: lambda: CLEAR_ALERT}
    if state is State.AWAIT_RESPONSE:
        return result
    _deliver(result, 20)
    patient.data_to_send()
    epoch = clinic.epoch()
    result.legal = {
        **_session_records(puppet),
        31: lambda: puppet.record(Opcode.GROUP_KEY, epoch.group_key(0)),
        41: lambda: puppet.record(Opcode.DIRECT, Direct(0, clinic.sign(1, 0))),
        70: lambda: puppet.alert(AlertCode.BUSY),
    }
    if state is State.CONFIRMING:
        return result
    _deliver(result, 31)
    result.legal |= {
        31: lambda: puppet.record(Opcode.GROUP_KEY, clinic.epoch(2).group_key(0)),
        40: lambda: epoch.seal(0, clinic.sign(1, 0)),
        51: lambda: puppet.record(Opcode.REPORT_RECEIPT, ReportReceipt([bytes(16)])),
        70: lambda: puppet.record(Opcode.ALERT, Alert(AlertCode.BUSY, 5, b"")),
    }
    return result


def _session_records(puppet: PuppetPatient | PuppetDoctor) -> dict[int, Callable[[], bytes]]:
    return {
        60: lambda: puppet.record(Opcode.DISCONNECT, Disconnect(DisconnectReason.CLOSING)),
        70: lambda: puppet.record(Opcode.ALERT, Alert(AlertCode.BUSY, 5, b"")),
        80: lambda: puppet.record(Opcode.PING, Ping(b"12345678")),
        81: lambda: puppet.record(Opcode.PONG, Pong(b"12345678")),
    }


def _deliver(made: Stage, opcode: int) -> None:
    frame = made.legal[opcode]()
    made.deliver(frame)
    made.seen.append(frame)


# What a refusal may change: the state, what goes out (and the counter of what goes out), the events, the bytes that wait, and
# when something was last heard. `_alert_key` and `_claimed` say under which key the alert goes and whom the log names,
# `_questions` what is to be asked for, and when the last question was sent.
_MAY_CHANGE = {"_outgoing", "_events", "_buffer", "_heard", "_sealer", "_alert_key", "_claimed", "_questions"}


def snapshot(value: Any, path: tuple[int, ...] = ()) -> Any:
    """Everything that a connection knows, as values that can be compared; what cannot be looked into counts by identity."""
    if value is None or isinstance(value, bool | int | str | bytes | Enum | type):
        return value
    if id(value) in path:
        return "…"
    path = (*path, id(value))
    if isinstance(value, list | tuple | deque):
        return [snapshot(item, path) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(repr(snapshot(item, path)) for item in value)
    if isinstance(value, dict):
        return {repr(key): snapshot(item, path) for key, item in value.items()}
    names = [name for kind in type(value).__mro__ for name in _slots(kind)] + list(
        getattr(value, "__dict__", ())
    )
    fields = {name: snapshot(getattr(value, name), path) for name in names if hasattr(value, name)}
    if not fields:
        return id(value)
    if isinstance(value, Connection):
        fields = {name: item for name, item in fields.items() if name not in _MAY_CHANGE | {"_machine"}}
    return type(value).__name__, fields


def _slots(kind: type) -> tuple[str, ...]:
    slots = kind.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)

"""Connections in every state, and ways to say anything to them under the very keys that they expect.

Law: honest peers bring a connection to its state once; each attempt then gets a twin of it. What is fuzzed only from outside ends at
the first seal, so here the fuzzer may also write the plaintext of a sealed message, or the claims below a valid signature.
"""

from __future__ import annotations

import copy
import dataclasses
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from lab.faults.fuzzing import seals
from lab.faults.fuzzing.cast import DOCTOR, GROUP, NOW, PATIENT, Cast
from lab.faults.fuzzing.seals import Seal
from shared.crypto.secret import Random
from shared.protocol.clock import SECOND
from shared.protocol.connection import Connection
from shared.protocol.doctor_connection import DoctorConnection
from shared.protocol.doctor_handshake import Response
from shared.protocol.envelopes import Positions
from shared.protocol.epochs import Epoch, HeldEpochs
from shared.protocol.events import Positioned, Verified
from shared.protocol.patient_handshake import Request
from shared.protocol.records import RecordOpener, RecordSealer
from shared.protocol.replay import ReplayCache
from shared.protocol.transitions import Machine, State
from shared.wire import messages
from shared.wire.framing import HEADER_SIZE, FrameBuffer
from shared.wire.opcodes import Opcode

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stage:
    """A connection that waits in a state.

    Args:
        name: whose connection, in which state.
        connection: never used itself; `twin` makes the one to use.
        seals: by opcode, ways to make a frame that opens, of any plaintext.
        honest: frames that a peer would send now, by opcode; a record's counts only once.
    """

    name: str
    connection: Connection
    seals: Mapping[int, tuple[Seal, ...]]
    honest: Mapping[int, bytes]

    def twin(self) -> Connection:
        """A connection of its own in the same state."""
        made = _twin(self.connection)
        if isinstance(made, DoctorConnection):
            made._practice = dataclasses.replace(made._practice, replays=ReplayCache(60 * SECOND))
        return made


def doctor_stages(random: Random, enrolling: bool = False) -> list[Stage]:
    """The doctor's connection in each of its states."""
    cast = Cast(random, enrolling)
    doctor, patient = cast.doctor(), cast.patient()
    m1 = patient.data_to_send()
    stages = [_stage("doctor", doctor, {}, {10: m1})]
    doctor.receive_data(m1, NOW)
    patient.receive_data(doctor.data_to_send(), NOW)
    m3, request = patient.data_to_send(), patient._phase
    assert isinstance(request, Request)  # noqa: S101  it has answered M2
    ways: dict[int, tuple[Seal, ...]] = {
        10: (seals.of_request(request), lambda claims: seals.signed_claims(cast, request, claims))
    }
    stages.append(_stage("doctor", doctor, ways, {10: m3}))
    doctor.receive_data(m3, NOW)
    assert isinstance(doctor._phase, Response)  # noqa: S101  it has answered M3
    k3 = doctor._phase.keys.k3
    patient.receive_data(doctor.data_to_send(), NOW)
    verifier, receipt = frames_of(patient.data_to_send())
    stages.append(
        _stage(
            "doctor",
            doctor,
            {30: (lambda text: seals.sealed_once(Opcode.SESSION_VERIFIER, k3, text),)},
            {30: verifier},
        )
    )
    doctor.receive_data(verifier, NOW)
    stages.append(_stage("doctor", doctor, {}, {42: receipt}))
    to_doctor = doctor._keys.to_doctor if doctor._keys else b""
    doctor.admit(NOW)
    stages.append(_stage("doctor", doctor, seals.of_records(to_doctor, 0, (42,)), {42: receipt}))
    doctor.receive_data(receipt, NOW)
    _require(doctor, State.ESTABLISHED)
    opcodes = (42, 43, 50, 60, 70, 80, 81)
    stages.append(_stage("doctor", doctor, seals.of_records(to_doctor, 1, opcodes), {}))
    return stages


def patient_stages(random: Random) -> list[Stage]:
    """The patient's connection in each of its states."""
    cast = Cast(random)
    doctor, patient = cast.doctor(), cast.patient()
    doctor.receive_data(patient.data_to_send(), NOW)
    m2 = doctor.data_to_send()
    stages = [_stage("patient", patient, {}, {11: m2})]
    patient.receive_data(m2, NOW)
    request = patient._phase
    assert isinstance(request, Request)  # noqa: S101  it has answered M2
    doctor.receive_data(patient.data_to_send(), NOW)
    m4, alert_key = doctor.data_to_send(), request.alert_key
    ways: dict[int, tuple[Seal, ...]] = {
        20: (seals.of_response(cast, request), lambda claims: seals.signed_response(cast, request, claims)),
        70: (lambda text: seals.sealed_alert(alert_key, text),),
    }
    stages.append(_stage("patient", patient, ways, {20: m4}))
    patient.receive_data(m4, NOW)
    verifier, receipt = frames_of(patient.data_to_send())
    doctor.receive_data(verifier, NOW)
    to_patient = doctor._keys.to_patient if doctor._keys else b""
    doctor.admit(NOW)
    doctor.receive_data(receipt, NOW)
    epoch = Epoch.begin(DOCTOR, GROUP, 1, [], [PATIENT], random)
    doctor.send_group_key(epoch, 0)
    first = doctor.data_to_send()
    records = seals.of_patient_records(cast, to_patient, 0)
    stages.append(_stage("patient", patient, {**records, 70: (*records[70], *ways[70])}, {31: first}))
    patient.receive_data(first, NOW)
    _require(patient, State.ESTABLISHED)
    broadcasts: tuple[Seal, ...] = (
        lambda text: seals.sealed_broadcast(epoch, text),
        lambda text: seals.sealed_broadcast(epoch, messages.encode(cast.signed_envelope(text, b"take two"))),
    )
    honest = {40: epoch.seal(0, cast.message())}
    records = {**seals.of_patient_records(cast, to_patient, 1), 40: broadcasts}
    stages.append(_stage("patient", patient, records, honest))
    return stages


def frames_of(data: bytes) -> list[bytes]:
    """Cut whole frames apart, by the lengths in their headers alone."""
    frames = []
    while data:
        end = HEADER_SIZE + int.from_bytes(data[2:6], "big")
        frames.append(data[:end])
        data = data[end:]
    return frames


def handshake_completes(random: Random) -> bool:
    """Whether an honest patient and an honest doctor come to a session."""
    cast = Cast(random, enrolling=True)
    doctor, patient = cast.doctor(), cast.patient()
    for _ in range(8):
        doctor.receive_data(patient.data_to_send(), NOW)
        for event in doctor.take_events():
            if isinstance(event, Verified):
                doctor.admit(NOW)
            elif isinstance(event, Positioned):
                doctor.send_group_key(Epoch.begin(DOCTOR, GROUP, 1, [], [PATIENT], random), 0)
        for event in doctor.take_events():
            if isinstance(event, Positioned):
                doctor.send_group_key(Epoch.begin(DOCTOR, GROUP, 1, [], [PATIENT], random), 0)
        patient.receive_data(doctor.data_to_send(), NOW)
    return (doctor.state, patient.state) == (State.ESTABLISHED, State.ESTABLISHED)


# Twins


_OWN = (
    Connection,
    Machine,
    FrameBuffer,
    RecordSealer,
    RecordOpener,
    Positions,
    HeldEpochs,
)
_CONTAINERS = (list, dict, set, deque, bytearray)


def _twin(value: T) -> T:
    """A copy that shares only what never changes."""
    if isinstance(value, _CONTAINERS):
        return copy.copy(value)
    if not isinstance(value, _OWN):
        return value
    made = copy.copy(value)
    for name in _fields(made):
        setattr(made, name, _twin(getattr(made, name)))
    return made


def _fields(value: object) -> list[str]:
    slots = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    return [*slots, *getattr(value, "__dict__", ())]


def _stage(
    role: str, connection: Connection, seals: Mapping[int, tuple[Seal, ...]], honest: Mapping[int, bytes]
) -> Stage:
    connection.take_events()
    return Stage(f"{role} in {connection.state.value}", _twin(connection), seals, honest)


def _require(connection: Connection, state: State) -> None:
    if connection.state is not state:
        raise AssertionError(f"honest peers came to {connection.state}, not to {state}")

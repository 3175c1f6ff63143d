"""What is fuzzed: everything that reads bytes which others have written, each behind one function that must not raise.

A target's input is whatever the fuzzer likes. Where a target has several readers or states, the first bytes of the input choose.
Law: an attempt returns for whatever the code under test accepts or refuses by its typed errors; all else that it raises is a finding.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from lab.faults.fuzzing import files, http, stages, tables
from lab.faults.fuzzing.cast import GROUP, NOW, Cast
from lab.faults.fuzzing.samples import BY_OPCODE, SAMPLES
from lab.faults.fuzzing.stages import Stage
from lab.faults.fuzzing.subject import Subject
from shared.errors import UserError
from shared.protocol import invitations
from shared.protocol.envelopes import Positions
from shared.protocol.events import Failed
from shared.protocol.invitations import Invitation
from shared.protocol.transitions import State
from shared.wire import messages
from shared.wire.checks import PeerError
from shared.wire.framing import AUTHENTICATED_LIMIT, HEADER_SIZE, UNAUTHENTICATED_LIMIT, FrameBuffer
from shared.wire.messages import SignedMessage, Wire

WAITING_LIMIT = 2 * (AUTHENTICATED_LIMIT + HEADER_SIZE)


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to fuzz.

    Args:
        name: how the row and its findings call it.
        share: of the row's attempts, so that each target takes about the same time.
        longest: bytes of an input at most.
        open: makes what is attacked, for the length of a block.
    """

    name: str
    share: float
    longest: int
    open: Callable[[], AbstractContextManager[Subject]]


# Frames and messages


@contextmanager
def _frames() -> Iterator[Subject]:
    """The frame parser, in portions that the input chooses."""

    def attempt(data: bytes) -> None:
        if len(data) < 2:
            return
        buffer = FrameBuffer(AUTHENTICATED_LIMIT if data[0] & 1 else UNAUTHENTICATED_LIMIT)
        portion, rest = data[1] + 1, data[2:]
        with contextlib.suppress(PeerError):
            for start in range(0, len(rest), portion):
                buffer.receive(rest[start : start + portion])
                while (frame := buffer.next_frame()) is not None:
                    _require(len(frame.payload) <= buffer.limit, "a frame above its cap was passed on")
                _require(len(buffer) <= buffer.limit + HEADER_SIZE + portion, "more than one frame is held")

    seeds = [bytes([flag, 16]) + frame for flag in (0, 1) for frame in _honest_frames()]
    yield Subject(attempt, seeds, lambda: stages.handshake_completes(os.urandom))


def _honest_frames() -> list[bytes]:
    made = [*stages.doctor_stages(os.urandom), *stages.patient_stages(os.urandom)]
    return [frame for stage in made for frame in stage.honest.values()]


@contextmanager
def _messages() -> Iterator[Subject]:
    """Each struct's decoder; what it accepts must be the one encoding."""
    kinds: list[type[Wire]] = sorted({type(sample) for sample in SAMPLES}, key=lambda kind: kind.__name__)

    def attempt(data: bytes) -> None:
        if not data:
            return
        kind = kinds[data[0] % len(kinds)]
        with contextlib.suppress(PeerError):
            message = messages.decode(kind, data[1:])
            _require(messages.encode(message) == data[1:], f"{kind.__name__} has a second encoding")
            repr(message)

    seeds = [bytes([kinds.index(type(sample))]) + messages.encode(sample) for sample in SAMPLES]
    yield Subject(attempt, seeds, lambda: all(_survives(sample) for sample in SAMPLES))


def _survives(sample: Wire) -> bool:
    return messages.decode(type(sample), messages.encode(sample)) == sample


# Connections


@contextmanager
def _doctor() -> Iterator[Subject]:
    """The doctor's connection in each state, from outside and from below its seals."""
    made = [*stages.doctor_stages(os.urandom), *stages.doctor_stages(os.urandom, enrolling=True)]
    yield _connection_subject(made)


@contextmanager
def _patient() -> Iterator[Subject]:
    """The patient's connection in each state, likewise."""
    yield _connection_subject(stages.patient_stages(os.urandom))


def _connection_subject(made: Sequence[Stage]) -> Subject:
    ways = [[(opcode, seal) for opcode, seals in stage.seals.items() for seal in seals] for stage in made]

    def attempt(data: bytes) -> None:
        if len(data) < 2:
            return
        index, way, rest = data[0] % len(made), data[1], data[2:]
        sealed = ways[index]
        if way >= 2 and sealed:
            rest = sealed[(way - 2) % len(sealed)][1](rest)
        _deliver(made[index], rest, 7 if way == 1 else len(rest))

    seeds = []
    for index, stage in enumerate(made):
        seeds += [bytes([index, way]) + frame for way in (0, 1) for frame in stage.honest.values()]
        for way, (opcode, _) in enumerate(ways[index], start=2):
            seeds += [bytes([index, way]) + sample for sample in BY_OPCODE.get(opcode, ())]
    return Subject(attempt, seeds, lambda: stages.handshake_completes(os.urandom))


def _deliver(stage: Stage, data: bytes, portion: int) -> None:
    connection = stage.twin()
    for start in range(0, len(data), max(1, portion)):
        connection.receive_data(data[start : start + portion], NOW)
    waiting = len(connection._buffer)
    _require(waiting <= WAITING_LIMIT, f"{stage.name} holds {waiting} bytes")
    events = connection.take_events()
    failed = any(isinstance(event, Failed) for event in events)
    _require(failed == (connection.state is State.FAILED), f"{stage.name}: a failure without its event")
    for event in events:
        repr(event)
    connection.data_to_send()
    connection.next_deadline()
    connection.receive_eof(NOW)


# Envelopes and invitations


@contextmanager
def _envelopes() -> Iterator[Subject]:
    """The reader of envelopes; the first byte says whether the doctor has signed what follows."""
    cast = Cast(os.urandom)
    honest = cast.message()

    def attempt(data: bytes) -> None:
        if not data:
            return
        with contextlib.suppress(PeerError):
            if data[0] & 1:
                message = cast.signed_envelope(data[1:], b"take two")
            else:
                message = messages.decode(SignedMessage, data[1:])
            envelope, _ = cast.reader.verify(message, GROUP if data[0] & 2 else None, NOW)
            Positions().is_next(envelope, data[0])

    seeds = [bytes([flag]) + messages.encode(honest) for flag in (0, 2)]
    seeds += [bytes([flag]) + honest.envelope for flag in (1, 3)]
    yield Subject(attempt, seeds, lambda: cast.reader.verify(honest, GROUP, NOW)[1] == b"take two")


@contextmanager
def _invitations() -> Iterator[Subject]:
    """The text of an invitation; the first byte says whether its checksum is made right."""
    honest = next(sample for sample in SAMPLES if isinstance(sample, Invitation))
    text = invitations.to_text(honest)

    def attempt(data: bytes) -> None:
        shown = data[1:].decode("utf-8", errors="replace")
        if data[:1] and data[0] & 1:
            shown = files.with_checksum(data[1:])
        with contextlib.suppress(UserError):
            found = invitations.from_text(shown)
            _require(invitations.from_text(invitations.to_text(found)) == found, "it has a second text")
            repr(found)

    seeds = [b"\0" + text.encode(), b"\1" + messages.encode(honest)]
    yield Subject(attempt, seeds, lambda: invitations.from_text(text) == honest)


def _require(holds: bool, detail: str) -> None:
    if not holds:
        raise AssertionError(detail)


TARGETS = (
    Target("frames", 0.25, 4096, _frames),
    Target("messages", 0.2, 2048, _messages),
    Target("doctor", 0.15, 4096, _doctor),
    Target("patient", 0.15, 4096, _patient),
    Target("envelopes", 0.08, 2048, _envelopes),
    Target("invitations", 0.07, 1024, _invitations),
    Target("files", 0.05, 2048, files.opened),
    Target("tables", 0.03, 1024, tables.opened),
    Target("http", 0.02, 4096, http.opened),
)

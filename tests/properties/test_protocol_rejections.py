"""A message that is refused changes nothing, and nothing that a peer sends ever raises."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.protocol.events import Failed
from shared.protocol.transitions import ENDED, Role, State
from shared.wire import framing
from shared.wire.framing import AUTHENTICATED_LIMIT, HEADER_SIZE, UNAUTHENTICATED_LIMIT
from shared.wire.opcodes import Opcode
from tests.crypto_tools import flip_bit
from tests.protocol_bench import events_of
from tests.protocol_puppets import build
from tests.protocol_stages import STATES, Stage, snapshot, stage

OPCODES = sorted({int(opcode) for opcode in Opcode})
IN_EVERY_STATE = pytest.mark.parametrize(
    ("role", "state"), STATES, ids=[f"{role.value}-{state.value}" for role, state in STATES]
)


def cap(state: State, role: Role) -> int:
    """The cap on a payload that is in force in a state."""
    raised = {State.CONFIRMING, State.ESTABLISHED, State.AWAIT_POSITION}
    return AUTHENTICATED_LIMIT if state in raised else UNAUTHENTICATED_LIMIT


def illegal(made: Stage) -> list[int]:
    """The opcodes that the state refuses."""
    return [opcode for opcode in OPCODES if opcode not in made.legal]


# Each entry makes the bad inputs of one class for a stage, as functions of a fresh stage of the same kind.
BadInputs = Callable[[Stage, int], list[bytes]]
CLASSES: dict[str, BadInputs] = {
    "wrong version": lambda made, limit: [b"\0", b"\2", b"\xff"],
    "unknown opcode": lambda made, limit: [b"\1\0", b"\1\x0d", b"\1\xff"],
    "too long": lambda made, limit: [
        framing.header(Opcode(opcode), length)
        for opcode in OPCODES
        for length in ((limit + 1, 1 << 31, (1 << 32) - 1) if opcode == OPCODES[0] else (limit + 1,))
    ],
    "out of state": lambda made, limit: [build(Opcode(op), bytes(40)) for op in illegal(made)],
    "empty payload": lambda made, limit: [build(Opcode(op), b"") for op in OPCODES],
    "zeros": lambda made, limit: [build(Opcode(op), bytes(300)) for op in OPCODES],
    "a frame again": lambda made, limit: list(made.seen),
}


@IN_EVERY_STATE
@pytest.mark.parametrize("kind", CLASSES)
def test_a_refused_message_changes_nothing(role: Role, state: State, kind: str) -> None:
    """Every state, every class of bad input: what the connection knows is afterwards what it was before."""
    for index in range(len(CLASSES[kind](stage(role, state), cap(state, role)))):
        made = stage(role, state)
        bad = CLASSES[kind](made, cap(state, role))[index]
        before = snapshot(made.connection)
        made.deliver(bad)

        assert snapshot(made.connection) == before
        assert made.connection.state in (State.FAILED, state)
        if made.connection.state is state:
            # While the roster decides nothing is read; a bad BROADCAST is dropped; all else ends the connection.
            assert state is State.ADMITTING or bad[1] == Opcode.BROADCAST
        assert len(made.connection._buffer) <= cap(state, role) + HEADER_SIZE


@IN_EVERY_STATE
def test_a_legal_frame_with_a_flaw_changes_nothing(role: Role, state: State) -> None:
    """Each legal opcode's real frame with a bit changed, a byte missing or a byte more, its header made to fit."""
    for opcode in stage(role, state).legal:
        for flaw in range(12):
            made = stage(role, state)
            payload = made.legal[opcode]()[HEADER_SIZE:]
            bits = [8 * len(payload) * place // 10 for place in range(10)]
            changed = [flip_bit(payload, bit) for bit in bits]
            if flaw < 10 and unauthenticated(state, opcode, bits[flaw] // 8):
                continue
            before = snapshot(made.connection)
            made.deliver(build(Opcode(opcode), [*changed, payload[:-1], payload + b"\0"][flaw]))

            assert snapshot(made.connection) == before, (opcode, flaw)
            dropped = opcode == Opcode.BROADCAST
            assert made.connection.state is (state if dropped else State.FAILED), (opcode, flaw)


def unauthenticated(state: State, opcode: int, place: int) -> bool:
    """What nobody can judge when it comes: KEY_EXCHANGE, an alert in clear, a RETRY's cookie, and KEY_EXCHANGE_REPLY's nonce.

    A change there is found later, by the transcripts (`test_protocol_bits`), or makes a hint that nobody relies on.
    """
    nonce = range(10, 42)  # behind the array's head, "doctor" and two bytes of head
    cookie = range(3, 43)  # behind the array's head and the cookie's
    clear_alert = opcode == Opcode.ALERT and state not in (State.ESTABLISHED, State.CONFIRMING)
    return (
        (opcode == Opcode.KEY_EXCHANGE and state is State.AWAIT_KEY_EXCHANGE)
        or clear_alert
        or (opcode == Opcode.KEY_EXCHANGE_REPLY and place in nonce)
        or (opcode == Opcode.RETRY and place in cookie)
    )


@IN_EVERY_STATE
def test_the_snapshot_sees_what_an_accepted_message_changes(role: Role, state: State) -> None:
    """Positive control: the comparison above is not blind."""
    for opcode in stage(role, state).legal:
        made = stage(role, state)
        before = snapshot(made.connection)
        made.deliver(made.legal[opcode]())

        ended = made.connection.state in ENDED
        assert not events_of(Failed, made.connection.take_events())
        # What ends a session needs no further knowledge; everything else leaves its mark, if only on the counter.
        assert ended or snapshot(made.connection) != before


@IN_EVERY_STATE
@settings(max_examples=25, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=4))
def test_random_bytes_never_raise(role: Role, state: State, data: list[bytes]) -> None:
    """A peer's fault is an event, not an exception."""
    made = stage(role, state)
    for portion in data:
        made.deliver(portion)
    made.connection.receive_eof(made.clinic.clock.now)

    assert made.connection.state in ENDED
    assert len(events_of(Failed, made.connection.take_events())) <= 1


FRAMES = st.builds(build, st.sampled_from(list(Opcode)), st.binary(max_size=400))


@IN_EVERY_STATE
@settings(max_examples=25, deadline=None)
@given(st.lists(FRAMES, min_size=1, max_size=4))
def test_random_frames_never_raise_and_never_establish(role: Role, state: State, frames: list[bytes]) -> None:
    """Well-formed frames of arbitrary content."""
    made = stage(role, state)
    for frame in frames:
        made.deliver(frame)
        made.connection.take_events()

    stays = {state, *ENDED}
    if state is State.AWAIT_KEY_EXCHANGE:
        stays.add(State.AWAIT_AUTH_REQUEST)
    assert made.connection.state in stays


@IN_EVERY_STATE
def test_a_frame_is_taken_only_when_its_last_byte_has_come(role: Role, state: State) -> None:
    """Truncated at any byte it changes nothing; at its last one it is accepted."""
    for opcode in stage(role, state).legal:
        made = stage(role, state)
        frame = made.legal[opcode]()
        before = snapshot(made.connection)
        for place in range(len(frame) - 1):
            made.deliver(frame[place : place + 1])
            assert made.connection.state is state
            assert len(made.connection._buffer) == place + 1
            if place % 32 == 0:
                assert snapshot(made.connection) == before
        made.deliver(frame[-1:])

        assert len(made.connection._buffer) == 0
        assert not events_of(Failed, made.connection.take_events())


@pytest.mark.parametrize(
    ("role", "state"),
    [
        place for place in STATES if place[1] is not State.ADMITTING
    ],  # there nothing is read: V-007 has its own test
    ids=lambda value: value.value,
)
def test_nothing_beyond_the_cap_is_ever_held(role: Role, state: State) -> None:
    """A frame of exactly the cap is waited for; its buffer never grows larger, however the bytes come."""
    limit = cap(state, role)
    for opcode in stage(role, state).legal:
        made = stage(role, state)
        made.deliver(framing.header(Opcode(opcode), limit))
        largest = 0
        for _ in range(limit // 1024):
            made.deliver(bytes(1024))
            largest = max(largest, len(made.connection._buffer))

        assert largest <= limit + HEADER_SIZE
        assert len(made.connection._buffer) == 0

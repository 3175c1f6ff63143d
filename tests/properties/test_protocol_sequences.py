"""Every sequence of up to four opcodes for both roles: only the legal path establishes a session."""

from __future__ import annotations

from itertools import product

import pytest

from shared.protocol.doctor_connection import DoctorConnection
from shared.protocol.transitions import ENDED, INITIAL, Role, State
from shared.wire.opcodes import Opcode
from tests.protocol_puppets import build
from tests.protocol_stages import Stage, stage

OPCODES = sorted({int(opcode) for opcode in Opcode})
KINDS = ("real", "generic", "recorded")
Move = tuple[int, str]
MOVES: list[Move] = list(product(OPCODES, KINDS))
LENGTH = 4


def record_of_a_session() -> dict[int, bytes]:
    """A real frame of every opcode, from sessions of their own: what an attacker has on tape."""
    tape = {}
    for role, states in (
        (
            Role.DOCTOR,
            (State.AWAIT_KEY_EXCHANGE, State.AWAIT_VERIFIER, State.AWAIT_POSITION, State.ESTABLISHED),
        ),
        (Role.PATIENT, (State.AWAIT_REPLY, State.AWAIT_RESPONSE, State.ESTABLISHED)),
    ):
        for state in states:
            for opcode, make in stage(role, state).legal.items():
                tape[opcode] = make()
    return tape


TAPE = record_of_a_session()


def play(role: Role, moves: tuple[Move, ...]) -> State:
    """The state after a sequence. A `real` frame is the one that the state wants, if it wants that opcode."""
    state = INITIAL[role]
    made: Stage = stage(role, state)
    for opcode, kind in moves:
        if kind == "real" and opcode in made.legal:
            frame = made.legal[opcode]()
        else:
            frame = TAPE[opcode] if kind == "recorded" else build(Opcode(opcode), bytes(300))
        made.deliver(frame)
        if isinstance(made.connection, DoctorConnection) and made.connection.state is State.ADMITTING:
            made.connection.admit(made.clinic.clock.now)
        reached = made.connection.state
        if reached in ENDED or reached is State.AWAIT_KEY_EXCHANGE:
            return reached
        if reached is not state:
            # The same place on a connection whose real frames are at hand. That it is the same place the stages assert.
            state = reached
            made = stage(role, state) if kind == "real" else made
    return made.connection.state


def alive(role: Role) -> list[tuple[tuple[Move, ...], State]]:
    """Every sequence that ends in a living connection; what a dead or an established one is sent cannot matter and is not played."""
    living: list[tuple[tuple[Move, ...], State]] = [((), INITIAL[role])]
    found = []
    for _ in range(LENGTH):
        extended = [(*moves, move) for moves, _ in living for move in MOVES]
        played = [(moves, state) for moves in extended if (state := play(role, moves)) not in ENDED]
        found += played
        living = [(moves, state) for moves, state in played if state is not State.ESTABLISHED]
    return found


@pytest.mark.parametrize(
    ("role", "shortest"),
    [(Role.DOCTOR, [10, 10, 30, 42]), (Role.PATIENT, [11, 20])],
    ids=["doctor", "patient"],
)
def test_only_the_legal_path_establishes(role: Role, shortest: list[int]) -> None:
    """48 moves in up to four places; whoever is established has gone the whole handshake with real frames."""
    established = [moves for moves, state in alive(role) if state is State.ESTABLISHED]

    assert established != []
    for moves in established:
        assert [opcode for opcode, _ in moves[: len(shortest)]] == shortest
        assert [kind for _, kind in moves[1 : len(shortest)]] == ["real"] * (len(shortest) - 1)


def test_an_ended_connection_stays_ended_whatever_comes() -> None:
    """This is why the sequences above need not be played further."""
    for role in Role:
        made = stage(role, INITIAL[role])
        made.deliver(b"\xff")
        for frame in TAPE.values():
            made.deliver(frame)

        assert made.connection.state is State.FAILED

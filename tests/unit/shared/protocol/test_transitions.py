"""The transition table, compared with the protocol's story as this test tells it, and the machine that follows it."""

from __future__ import annotations

import pytest

from shared.errors import LocalError
from shared.protocol.transitions import (
    ACTS,
    ENDED,
    INITIAL,
    RECEIVE,
    SEND,
    Act,
    Machine,
    Role,
    State,
    message_name,
)
from shared.wire import messages
from shared.wire.checks import PeerError
from shared.wire.messages import Wire
from shared.wire.opcodes import AlertCode, Opcode

# The story, written by hand from the scheme: for each state, what may come and where it leads. The numbers are the opcodes.
STORY = """
patient await-reply:        11 await-response, 12 closed, 70 closed
patient await-response:     20 confirming, 70 closed
patient confirming:         31 established, 41 established, 60 closed, 70 closed, 80 established, 81 established
patient established:        31 established, 40 established, 41 established, 51 established, 60 closed, 70 closed, 80 established, 81 established
doctor await-key-exchange:  10 await-auth-request
doctor await-auth-request:  10 await-verifier, 70 closed
doctor await-verifier:      30 admitting, 70 closed
doctor admitting:
doctor await-position:      42 established
doctor established:         42 established, 43 established, 50 established, 60 closed, 70 closed, 80 established, 81 established
"""


def told() -> dict[tuple[str, str, int], str]:
    """The story as a table."""
    table = {}
    for line in STORY.strip().splitlines():
        place, _, rest = line.partition(":")
        role, state = place.split()
        for row in filter(None, rest.strip().split(", ")):
            opcode, target = row.split()
            table[role, state, int(opcode)] = target
    return table


def test_the_table_tells_the_story() -> None:
    """Nothing more may come, and nothing leads elsewhere."""
    table = {
        (role.value, state.value, int(opcode)): step.target.value
        for (role, state, opcode), step in RECEIVE.items()
    }

    assert table == told()


@pytest.mark.parametrize("role", Role)
def test_the_only_way_to_be_established_is_the_whole_handshake(role: Role) -> None:
    """Take any edge away and ESTABLISHED cannot be reached any more."""
    path = {
        Role.PATIENT: [State.AWAIT_REPLY, State.AWAIT_RESPONSE, State.CONFIRMING],
        Role.DOCTOR: [
            State.AWAIT_KEY_EXCHANGE,
            State.AWAIT_AUTH_REQUEST,
            State.AWAIT_VERIFIER,
            State.ADMITTING,
            State.AWAIT_POSITION,
        ],
    }[role]
    edges = [(state, step.target) for (r, state, _), step in RECEIVE.items() if r is role]
    edges += [(state, target) for (r, state, _), target in ACTS.items() if r is role]

    for missing in path:
        reached = {INITIAL[role]}
        for _ in State:
            reached |= {target for source, target in edges if source in reached and source is not missing}
        assert State.ESTABLISHED not in reached


def test_an_ended_connection_has_no_way_out() -> None:
    """Neither by a message nor by an act."""
    assert [key for key in RECEIVE if key[1] in ENDED] == []
    assert [key for key in ACTS if key[1] in ENDED] == []
    assert [key for key in SEND if key[1] in ENDED] == []


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("opcode", Opcode)
def test_v005_what_the_table_does_not_list_is_refused(role: Role, state: State, opcode: Opcode) -> None:
    """Every role, state and opcode, against the story; a refusal changes nothing."""
    machine = Machine(role)
    machine.state = state
    target = told().get((role.value, state.value, int(opcode)))

    if target is not None:
        machine.follow(machine.expect(opcode))
        assert machine.state.value == target
    else:
        with pytest.raises(PeerError, match=f"V-005 opcode {opcode:d} in state {state.value}") as caught:
            machine.expect(opcode)
        assert caught.value.check.alert is AlertCode.MALFORMED
        assert machine.state is state


def test_acts_go_where_they_should() -> None:
    """Admission happens in one place; ending is possible until it has happened."""
    assert {key: to for key, to in ACTS.items() if key[2] is Act.ADMIT} == {
        (Role.DOCTOR, State.ADMITTING, Act.ADMIT): State.AWAIT_POSITION
    }
    for act, target in ((Act.CLOSE, State.CLOSED), (Act.FAIL, State.FAILED)):
        assert {key[:2] for key, to in ACTS.items() if key[2] is act and to is target} == {
            (role, state) for role in Role for state in State if state not in ENDED
        }


@pytest.mark.parametrize(("state", "act"), [(State.CLOSED, Act.FAIL), (State.ESTABLISHED, Act.ADMIT)])
def test_an_act_without_a_row_is_our_error(state: State, act: Act) -> None:
    """The program asked for nonsense."""
    machine = Machine(Role.DOCTOR)
    machine.state = state

    with pytest.raises(LocalError, match=f"{act.value} in state {state.value} of a doctor's connection"):
        machine.act(act)


def test_nothing_is_sent_before_the_patient_has_said_where_it_stands() -> None:
    """The doctor's records begin with ESTABLISHED; BROADCAST goes one way, RECEIPT the other."""
    may = {
        (role.value, state.value): {int(opcode) for opcode in opcodes}
        for (role, state), opcodes in SEND.items()
    }

    assert may == {
        ("patient", "confirming"): {42, 60},
        ("patient", "established"): {42, 43, 50, 60, 80, 81},
        ("doctor", "established"): {31, 40, 41, 51, 60, 80, 81},
    }


def test_what_one_side_may_send_the_other_may_receive() -> None:
    """In the matching states."""
    for (role, state), opcodes in SEND.items():
        other = Role.DOCTOR if role is Role.PATIENT else Role.PATIENT
        if state is State.ESTABLISHED:
            assert {op for op in opcodes if (other, State.ESTABLISHED, op) not in RECEIVE} == set()


@pytest.mark.parametrize(
    ("message", "name"),
    [
        (messages.AuthRequest, "AUTH_REQUEST"),
        (messages.SignedMessage, "BROADCAST"),
        (messages.KeyExchangeReply, "KEY_EXCHANGE_REPLY"),
        (messages.Ping, "PING"),
        (messages.Retry, "RETRY"),
        (messages.ResendRequest, "RESEND_REQUEST"),
        (messages.Report, "REPORT"),
        (messages.ReportReceipt, "REPORT_RECEIPT"),
    ],
)
def test_message_names_are_those_of_the_opcodes(message: type[Wire], name: str) -> None:
    """One vocabulary."""
    assert message_name(message) == name
    assert name in Opcode.__members__

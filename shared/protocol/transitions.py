"""The states of a connection and the one table that moves between them.

Two rules. Only this file assigns a state. What the table does not list is refused: a missing key is the peer's fault
where it is a received opcode (V-005), and ours where it is an act of our own program.

The table is data, so the diagram and the tables in SPEC.md are generated from it (`python -m shared.spec_tables`)
and cannot lie. Side effects are methods of the connections, never cells of the table.
"""

from __future__ import annotations

from enum import Enum, unique
from functools import cache
from typing import NamedTuple

from shared.errors import LocalError
from shared.wire import messages
from shared.wire.checks import Check, PeerError
from shared.wire.messages import Wire
from shared.wire.opcodes import Opcode


@unique
class Role(Enum):
    """Which side of a connection this is."""

    PATIENT = "patient"
    DOCTOR = "doctor"

    # Members exist once, so their identity hashes them; the enum's own hash, in Python, would cost each look into the table more.
    __hash__ = object.__hash__


@unique
class State(Enum):
    """Where a connection stands. The patient's path is the left column of SPEC.md's diagram, the doctor's the right one."""

    AWAIT_REPLY = "await-reply"  # P: KEY_EXCHANGE is on its way
    AWAIT_RESPONSE = "await-response"  # P: AUTH_REQUEST is on its way
    CONFIRMING = "confirming"  # P: SESSION_VERIFIER is on its way; the doctor's first record will confirm it
    AWAIT_KEY_EXCHANGE = "await-key-exchange"  # D: connected
    AWAIT_AUTH_REQUEST = "await-auth-request"  # D: the prekey is on its way
    AWAIT_VERIFIER = "await-verifier"  # D: AUTH_RESPONSE is on its way
    ADMITTING = "admitting"  # D: verified; the roster's transaction decides
    AWAIT_POSITION = "await-position"  # D: admitted; nothing is sent before the patient's first RECEIPT
    ESTABLISHED = "established"  # both
    CLOSED = "closed"  # ended in good order, or by the peer's alert
    FAILED = "failed"  # the peer broke a rule; everything further is discarded

    __hash__ = object.__hash__  # as above


@unique
class Act(Enum):
    """What our own program does to a connection, as far as it changes the state."""

    ADMIT = "admit"
    CLOSE = "close"
    FAIL = "fail"


class Step(NamedTuple):
    """What a received opcode means in a state, and the state that follows once every check has passed."""

    message: type[Wire]
    target: State


P, D, S, O = Role.PATIENT, Role.DOCTOR, State, Opcode  # noqa: E741  one-letter names keep the table a table

RECEIVE: dict[tuple[Role, State, Opcode], Step] = {
    (P, S.AWAIT_REPLY, O.KEY_EXCHANGE_REPLY): Step(messages.KeyExchangeReply, S.AWAIT_RESPONSE),
    (P, S.AWAIT_REPLY, O.RETRY): Step(messages.Retry, S.CLOSED),
    (P, S.AWAIT_REPLY, O.ALERT): Step(messages.Alert, S.CLOSED),
    (P, S.AWAIT_RESPONSE, O.AUTH_RESPONSE): Step(messages.AuthResponse, S.CONFIRMING),
    (P, S.AWAIT_RESPONSE, O.ALERT): Step(messages.Alert, S.CLOSED),
    (P, S.CONFIRMING, O.GROUP_KEY): Step(messages.GroupKey, S.ESTABLISHED),
    (P, S.CONFIRMING, O.DIRECT): Step(messages.Direct, S.ESTABLISHED),
    (P, S.CONFIRMING, O.DISCONNECT): Step(messages.Disconnect, S.CLOSED),
    (P, S.CONFIRMING, O.ALERT): Step(messages.Alert, S.CLOSED),
    (P, S.CONFIRMING, O.PING): Step(messages.Ping, S.ESTABLISHED),
    (P, S.CONFIRMING, O.PONG): Step(messages.Pong, S.ESTABLISHED),
    (P, S.ESTABLISHED, O.GROUP_KEY): Step(messages.GroupKey, S.ESTABLISHED),
    (P, S.ESTABLISHED, O.BROADCAST): Step(messages.SignedMessage, S.ESTABLISHED),
    (P, S.ESTABLISHED, O.DIRECT): Step(messages.Direct, S.ESTABLISHED),
    (P, S.ESTABLISHED, O.REPORT_RECEIPT): Step(messages.ReportReceipt, S.ESTABLISHED),
    (P, S.ESTABLISHED, O.DISCONNECT): Step(messages.Disconnect, S.CLOSED),
    (P, S.ESTABLISHED, O.ALERT): Step(messages.Alert, S.CLOSED),
    (P, S.ESTABLISHED, O.PING): Step(messages.Ping, S.ESTABLISHED),
    (P, S.ESTABLISHED, O.PONG): Step(messages.Pong, S.ESTABLISHED),
    (D, S.AWAIT_KEY_EXCHANGE, O.KEY_EXCHANGE): Step(messages.KeyExchange, S.AWAIT_AUTH_REQUEST),
    (D, S.AWAIT_AUTH_REQUEST, O.AUTH_REQUEST): Step(messages.AuthRequest, S.AWAIT_VERIFIER),
    (D, S.AWAIT_AUTH_REQUEST, O.ALERT): Step(messages.Alert, S.CLOSED),
    (D, S.AWAIT_VERIFIER, O.SESSION_VERIFIER): Step(messages.SessionVerifier, S.ADMITTING),
    (D, S.AWAIT_VERIFIER, O.ALERT): Step(messages.Alert, S.CLOSED),
    (D, S.AWAIT_POSITION, O.RECEIPT): Step(messages.Receipt, S.ESTABLISHED),
    (D, S.ESTABLISHED, O.RECEIPT): Step(messages.Receipt, S.ESTABLISHED),
    (D, S.ESTABLISHED, O.RESEND_REQUEST): Step(messages.ResendRequest, S.ESTABLISHED),
    (D, S.ESTABLISHED, O.REPORT): Step(messages.Report, S.ESTABLISHED),
    (D, S.ESTABLISHED, O.DISCONNECT): Step(messages.Disconnect, S.CLOSED),
    (D, S.ESTABLISHED, O.ALERT): Step(messages.Alert, S.CLOSED),
    (D, S.ESTABLISHED, O.PING): Step(messages.Ping, S.ESTABLISHED),
    (D, S.ESTABLISHED, O.PONG): Step(messages.Pong, S.ESTABLISHED),
}

ENDED = frozenset({S.CLOSED, S.FAILED})

ACTS: dict[tuple[Role, State, Act], State] = {
    (D, S.ADMITTING, Act.ADMIT): S.AWAIT_POSITION,
    **{(r, s, Act.CLOSE): S.CLOSED for r in Role for s in State if s not in ENDED},
    **{(r, s, Act.FAIL): S.FAILED for r in Role for s in State if s not in ENDED},
}

# What our own program may send as a record, by state. ALERT is sent by failing, never by choice.
SEND: dict[tuple[Role, State], frozenset[Opcode]] = {
    (P, S.CONFIRMING): frozenset({O.RECEIPT, O.DISCONNECT}),
    (P, S.ESTABLISHED): frozenset(
        {O.RECEIPT, O.RESEND_REQUEST, O.REPORT, O.DISCONNECT, O.PING, O.PONG},
    ),
    (D, S.ESTABLISHED): frozenset(
        {O.GROUP_KEY, O.BROADCAST, O.DIRECT, O.REPORT_RECEIPT, O.DISCONNECT, O.PING, O.PONG},
    ),
}

INITIAL = {P: S.AWAIT_REPLY, D: S.AWAIT_KEY_EXCHANGE}


class Machine:
    """The state of one connection. It knows what may come next and nothing about what a message says."""

    __slots__ = ("role", "state")

    def __init__(self, role: Role) -> None:
        self.role = role
        self.state = INITIAL[role]

    @property
    def ended(self) -> bool:
        """Whether nothing is read or sent any more."""
        return self.state in ENDED

    def expect(self, opcode: Opcode) -> Step:
        """What `opcode` means now. Changes nothing.

        Raises:
            PeerError: V-005, where the table has no such row.
        """
        step = RECEIVE.get((self.role, self.state, opcode))
        if step is None:
            raise PeerError(Check.OPCODE_IN_STATE, f"opcode {opcode:d} in state {self.state.value}")  # V-005
        return step

    def follow(self, step: Step) -> None:
        """Take the transition of a message whose checks have all passed."""
        self.state = step.target

    def act(self, act: Act) -> None:
        """Take the transition of an act of our own.

        Raises:
            LocalError: the act makes no sense in this state.
        """
        target = ACTS.get((self.role, self.state, act))
        if target is None:
            raise LocalError(f"{act.value} in state {self.state.value} of a {self.role.value}'s connection")
        self.state = target

    def may_send(self, opcode: Opcode) -> bool:
        """Whether our own program may send `opcode` now."""
        return opcode in SEND.get((self.role, self.state), ())


@cache
def message_name(message: type[Wire]) -> str:
    """The SPEC's name of a message: AuthRequest is AUTH_REQUEST; a SignedMessage on its own is a BROADCAST."""
    if message is messages.SignedMessage:
        return Opcode.BROADCAST.name
    return (
        "".join(f"_{letter}" if letter.isupper() else letter for letter in message.__name__)
        .lstrip("_")
        .upper()
    )

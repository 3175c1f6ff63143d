"""The codes on the wire never change their numbers."""

from __future__ import annotations

from shared.wire.messages import ReportKind
from shared.wire.opcodes import AlertCode, DisconnectReason, Opcode


def test_the_numbers_are_those_of_the_specification() -> None:
    """Written out once more: a renumbering would be a new protocol."""
    assert {name: int(opcode) for name, opcode in Opcode.__members__.items()} == {
        "KEY_EXCHANGE": 10,
        "AUTH_REQUEST": 10,
        "KEY_EXCHANGE_REPLY": 11,
        "RETRY": 12,
        "AUTH_RESPONSE": 20,
        "SESSION_VERIFIER": 30,
        "GROUP_KEY": 31,
        "BROADCAST": 40,
        "DIRECT": 41,
        "RECEIPT": 42,
        "RESEND_REQUEST": 43,
        "REPORT": 50,
        "REPORT_RECEIPT": 51,
        "DISCONNECT": 60,
        "ALERT": 70,
        "PING": 80,
        "PONG": 81,
    }
    assert [int(code) for code in AlertCode] == list(range(9))
    assert [int(reason) for reason in DisconnectReason] == [1, 2, 3, 4, 5]
    assert [int(kind) for kind in ReportKind] == [1, 2]

"""The generated parts of SPEC.md: whatever the code holds as data, printed as tables and diagrams.

Law of this module: it knows how to print, and nothing about the protocol: every row comes from the table, enum, struct or
constant that the code itself runs on. `python -m shared.spec_tables` prints all parts; `--write` puts them between their marks in
SPEC.md; a test compares the two.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from msgspec import inspect

from shared.crypto.kdf import Label
from shared.crypto.suites import SUITES
from shared.protocol import (
    connection,
    cookies,
    doctor_handshake,
    epochs,
    patient_connection,
    patient_handshake,
    prekeys,
    records,
    resend_requests,
)
from shared.protocol.invitations import DoctorKey, Invitation
from shared.protocol.transitions import ACTS, ENDED, INITIAL, RECEIVE, SEND, Act, Role, State, message_name
from shared.wire import framing, messages
from shared.wire.checks import Check
from shared.wire.messages import Wire
from shared.wire.opcodes import AlertCode, DisconnectReason, Opcode

SPEC = Path(__file__).with_name("SPEC.md")

_DIRECTION = {Role.DOCTOR: "P→D", Role.PATIENT: "D→P"}
_REGION = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end of generated -->)", re.DOTALL)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _suites() -> str:
    head = ("id", "name", "KEM public key", "KEM ciphertext", "signature key", "signature", "padded to")
    return _table(
        head,
        (
            (
                int(suite.id),
                f"`{suite.name}`",
                suite.kem.public_size,
                suite.kem.ciphertext_size,
                suite.signer.public_size,
                suite.signer.signature_size,
                suite.handshake_padding,
            )
            for suite in SUITES.values()
        ),
    )


def _opcodes() -> str:
    rows: dict[tuple[int, str], set[str]] = {}
    for (role, _, opcode), step in RECEIVE.items():
        rows.setdefault((int(opcode), message_name(step.message)), set()).add(_DIRECTION[role])
    return _table(
        ("opcode", "message", "direction"),
        ((opcode, name, ", ".join(sorted(ways))) for (opcode, name), ways in sorted(rows.items())),
    )


def _codes(kind: type[AlertCode] | type[DisconnectReason]) -> str:
    return _table(("code", "name"), ((int(code), code.name) for code in kind))


def _type(info: inspect.Type) -> str:
    """A field's type and bounds as SPEC.md writes them."""
    if isinstance(info, inspect.IntType):
        return f"int[{info.ge} … {_power(info.le)}]"
    if isinstance(info, inspect.BytesType):
        return "bytes" + _size(info.min_length, info.max_length)
    if isinstance(info, inspect.StrType):
        size = _size(info.min_length, info.max_length)
        return f"str{size}" if info.pattern is None else f"str `{info.pattern}`"
    if isinstance(info, inspect.ListType):
        return f"array{_size(info.min_length, info.max_length)} of {_type(info.item_type)}"
    if isinstance(info, inspect.UnionType):
        return " or ".join(_type(part) for part in info.types)
    if isinstance(info, inspect.EnumType | inspect.StructType):
        named: type = info.cls
        return named.__name__
    return "nil"


def _size(least: int | None, most: int | None) -> str:
    if most is None:
        return ""
    return f"[{most}]" if least == most else f"[{least or 0} … {most}]"


def _power(bound: int | float | None) -> str:
    return "2⁶³ − 1" if bound == 2**63 - 1 else str(bound)


def _messages() -> str:
    declared = (kind for kind in vars(messages).values() if isinstance(kind, type) and issubclass(kind, Wire))
    kinds: list[type[Wire]] = [kind for kind in declared if kind is not Wire]
    kinds += [DoctorKey, Invitation]
    parts = []
    for kind in kinds:
        info = inspect.type_info(kind)
        assert isinstance(info, inspect.StructType)  # noqa: S101  every Wire is one; tells mypy
        rows = ((index, f"`{field.name}`", _type(field.type)) for index, field in enumerate(info.fields))
        parts.append(f"**{kind.__name__}**\n\n{_table(('', 'field', 'type'), rows)}")
    return "\n\n".join(parts)


def _states() -> str:
    """One diagram for each role; ALERT and the acts that end a connection from anywhere are left to the table."""
    return "\n\n".join(f"{role.value.capitalize()}:\n\n```mermaid\n{_diagram(role)}\n```" for role in Role)


def _diagram(role: Role) -> str:
    edges: dict[tuple[State, State], list[str]] = {}
    for (receiver, state, opcode), step in RECEIVE.items():
        if receiver is role and opcode is not Opcode.ALERT:
            edges.setdefault((state, step.target), []).append(f"{opcode:d} {message_name(step.message)}")
    for (actor, state, act), target in ACTS.items():
        if actor is role and act is Act.ADMIT:
            edges.setdefault((state, target), []).append(act.value)
    lines = ["stateDiagram-v2", f"    [*] --> {_node(INITIAL[role])}"]
    lines += [f"    {_node(a)} --> {_node(b)}: {', '.join(causes)}" for (a, b), causes in edges.items()]
    lines += [f"    {_node(state)} --> [*]" for state in State if state in ENDED and state is State.CLOSED]
    return "\n".join(lines)


def _node(state: State) -> str:
    return state.value.replace("-", "_")


def _transitions() -> str:
    return _table(
        ("role", "state", "opcode", "message", "next state"),
        (
            (role.value, state.value, int(opcode), message_name(step.message), step.target.value)
            for (role, state, opcode), step in RECEIVE.items()
        ),
    )


def _acts() -> str:
    from_any: dict[tuple[Act, State], list[State]] = {}
    for (role, state, act), target in ACTS.items():
        if role is Role.DOCTOR or act is Act.ADMIT:
            from_any.setdefault((act, target), []).append(state)
    living = len([state for state in State if state not in ENDED])
    return _table(
        ("act", "from", "next state"),
        (
            (
                act.value,
                "every state that has not ended" if len(states) == living else states[0].value,
                target.value,
            )
            for (act, target), states in from_any.items()
        ),
    )


def _sends() -> str:
    return _table(
        ("role", "state", "may send"),
        (
            (role.value, state.value, ", ".join(f"{opcode:d} {opcode.name}" for opcode in sorted(opcodes)))
            for (role, state), opcodes in SEND.items()
        ),
    )


def _checks() -> str:
    return _table(
        ("number", "what must hold", "alert otherwise"),
        ((check.number, check.value.text, check.alert.name) for check in Check),
    )


def _labels() -> str:
    return _table(("name", "value"), ((label.name, f"`{label.value.decode()}`") for label in Label))


def _limits() -> str:
    rows = (
        ("payload of a frame before authentication", framing.UNAUTHENTICATED_LIMIT, "bytes"),
        ("payload of a frame after authentication", framing.AUTHENTICATED_LIMIT, "bytes"),
        ("body of a message", messages.BODY_LIMIT, "bytes"),
        ("handshake, the first RECEIPT included", connection.HANDSHAKE_DEADLINE, "ms"),
        ("silence of an established peer", connection.SILENCE_LIMIT, "ms"),
        ("between a patient's PINGs", patient_connection.PING_INTERVAL, "ms"),
        ("doctor's clock window", doctor_handshake.CLOCK_WINDOW, "ms"),
        ("patient's clock window", patient_handshake.PREKEY_WINDOW, "ms"),
        ("a prekey is offered for", prekeys.OFFERED_FOR, "ms"),
        ("a prekey is valid for", prekeys.VALID_FOR, "ms"),
        ("a prekey is held for", prekeys.HELD_FOR, "ms"),
        ("a cookie holds for", cookies.LIFETIME, "ms"),
        ("a key of cookies is used for", cookies.KEY_LIFETIME, "ms"),
        ("between a patient's RESEND_REQUESTs", resend_requests.ASK_INTERVAL, "ms"),
        ("records between two turns of the ratchet", records.RATCHET_INTERVAL, "records"),
        ("broadcasts in one epoch", epochs.MESSAGE_LIMIT, "broadcasts"),
    )
    return _table(("limit", "value", "unit"), ((text, f"{value:,}", unit) for text, value, unit in rows))


PARTS: dict[str, Callable[[], str]] = {
    "suites": _suites,
    "opcodes": _opcodes,
    "alerts": lambda: _codes(AlertCode),
    "reasons": lambda: _codes(DisconnectReason),
    "messages": _messages,
    "states": _states,
    "transitions": _transitions,
    "acts": _acts,
    "sends": _sends,
    "checks": _checks,
    "labels": _labels,
    "limits": _limits,
}


def fill(text: str) -> str:
    """Return SPEC.md's text with every marked region made anew. Raises KeyError for a region that no part is called."""
    return _REGION.sub(lambda match: f"{match[1]}{PARTS[match[2]]()}\n{match[3]}", text)


def main(arguments: Sequence[str]) -> None:
    """Print all parts, or with `--write` put them into SPEC.md."""
    if "--write" in arguments:
        SPEC.write_text(fill(SPEC.read_text(encoding="utf-8")), encoding="utf-8")
        return
    for name, part in PARTS.items():
        print(f"<!-- {name} -->\n{part()}\n")


if __name__ == "__main__":
    main(sys.argv[1:])

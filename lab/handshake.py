"""The account of a handshake, put together from what both sides have said, and held against what must have been checked.

Law: the one list of the checks that each message of the handshake must have passed.
"""

from __future__ import annotations

from collections.abc import Sequence

from lab.processes import Line, Program, ScenarioFailed, integer
from lab.story import Step
from shared.wire.checks import Check

# Which checks each message of the handshake must have passed, by the side that received it.
HANDSHAKE: tuple[tuple[str, str, frozenset[str]], ...] = (
    ("patient", "KEY_EXCHANGE", frozenset({Check.SUITE_ALLOWED.number, Check.DOCTOR_ADMITS.number})),
    ("doctor", "KEY_EXCHANGE_REPLY", frozenset(f"V-{n:03}" for n in range(20, 24))),
    ("patient", "AUTH_REQUEST", frozenset(f"V-{n:03}" for n in range(30, 45))),
    ("doctor", "AUTH_RESPONSE", frozenset(f"V-{n:03}" for n in range(50, 56))),
    ("patient", "SESSION_VERIFIER", frozenset(f"V-{n:03}" for n in range(60, 63))),
)


def handshake_steps(doctor: Program, patient: Program, name: str) -> list[Step]:
    """Both sides' accounts put together: who sent what, and what the receiver checked."""
    address = doctor.find(event="established", patient=name)[-1]["address"]
    received = {
        "doctor": last_attempt(patient.lines),
        "patient": doctor.find(event="handshake", direction="received", address=address),
    }
    steps = []
    for sender, message, _ in HANDSHAKE:
        for line in received[sender]:
            if line["message"] == message:
                steps.append(
                    Step(sender, message, integer(line, "opcode"), integer(line, "size"), _checks(line))
                )
    return steps


def last_attempt(lines: Sequence[Line]) -> list[Line]:
    """What a patient received on the last of its attempts that came to a session; in bad weather there are others."""
    found: list[Line] = []
    attempt: list[Line] = []
    for line in lines:
        if line["event"] == "handshake" and line["message"] == "KEY_EXCHANGE":
            attempt = []
        elif line["event"] == "handshake" and line["direction"] == "received":
            attempt.append(line)
        elif line["event"] == "established":
            found = attempt
    return found


def _checks(line: Line) -> tuple[str, ...]:
    checks = line.get("checks")
    if isinstance(checks, list):
        return tuple(str(check) for check in checks)
    return tuple(str(line.get("check", "")).split())


def require_complete(name: str, steps: list[Step]) -> None:
    """Raises ScenarioFailed unless all five messages came in order, each past every check that it needs."""
    expected = [(sender, message) for sender, message, _ in HANDSHAKE]
    if [(step.sender, step.message) for step in steps] != expected:
        raise ScenarioFailed(f"The handshake of {name} went {[step.message for step in steps]}.")
    for step, (_, message, checks) in zip(steps, HANDSHAKE, strict=True):
        if missing := checks - set(step.checks):
            raise ScenarioFailed(f"{message} of {name} was accepted without {', '.join(sorted(missing))}.")

"""One handshake as the protocol page draws it, worked out from its trace when somebody looks.

Law: only names that are public, lengths, checks and outcomes; no trace holds more. What the patient checks, the doctor cannot see:
it is said to have passed where the patient's next message shows it, and never otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

from doctor.console import lengths
from doctor.console.lessons import (
    ADMISSION,
    EXPECTED,
    FRAME,
    LESSONS,
    MEANINGS,
    NEWCOMERS,
    ROTATED,
    SECRET,
    Lesson,
)
from doctor.console.states import State
from doctor.traces import Trace
from shared.crypto.suites import Suite
from shared.wire.checks import Check
from shared.wire.opcodes import AlertCode

OUTCOMES = {
    state.name: state
    for state in (
        State(
            "established",
            "Established",
            "good",
            "✓",
            "Both sides have proved who they are and hold the same fresh key.",
        ),
        State("refused", "Refused", "bad", "✕", "A check failed: the doctor ended it and changed nothing."),
        State(
            "declined", "Ended by the device", "bad", "✕", "The device did not accept the doctor's answer."
        ),
        State(
            "retried",
            "Asked to retry",
            "wait",
            "↻",
            "The doctor was busy and asked the device to come once more.",
        ),
        State(
            "broken", "Broke off", "quiet", "–", "The connection ended without a word before it was finished."
        ),
        State("running", "Under way", "wait", "◐", "The next message is awaited."),
    )
}
MARKS = {
    "passed": ("✓", "passed"),
    "implied": ("✓", "passed on the device, as its answer shows"),
    "failed": ("✕", "failed"),
    "skipped": ("–", "not asked: only of a device that enrols"),
    "unknown": ("○", "not reached, or not known here"),
}


@dataclass(frozen=True, slots=True)
class Mark:
    """A check and what became of it: a key of MARKS."""

    check: Check
    result: str

    @property
    def sign(self) -> str:
        """As it is drawn."""
        return MARKS[self.result][0]

    @property
    def said(self) -> str:
        """As it is read out."""
        return MARKS[self.result][1]


@dataclass(frozen=True, slots=True)
class Field:
    """A field: its length, or where it is public its value."""

    name: str
    shown: str
    meaning: str
    inside: bool
    secret: bool


@dataclass(frozen=True, slots=True)
class Message:
    """One arrow. `size` in bytes with its header; `after` in milliseconds since the first one; `came` False: not as it should have."""

    lesson: Lesson
    size: int | None
    after: float | None
    fields: list[Field]
    marks: list[Mark]
    came: bool = True


@dataclass(frozen=True, slots=True)
class Handshake:
    """One handshake. `began` in milliseconds since the Unix epoch; `alert`: the code that ended it, from whom is in `outcome`."""

    trace: Trace
    outcome: State
    suite: Suite | None
    messages: list[Message]
    admission: list[Mark]
    alert: AlertCode | None
    sealed_alert: bool

    @property
    def name(self) -> str:
        """Names it in an address."""
        return self.trace.name

    @property
    def began(self) -> int:
        """When."""
        return self.trace.began // 1_000_000

    @property
    def took(self) -> float | None:
        """Milliseconds from the first to the last message."""
        steps = self.trace.steps
        return (steps[-1][0] - steps[0][0]) / 1e6 if len(steps) > 1 else None

    @property
    def stamp(self) -> str:
        """Another one as soon as anything is different."""
        return f"{self.name}.{len(self.trace.steps)}.{self.outcome.name}"


def outcome_of(trace: Trace) -> State:
    """How it ended, or that it has not."""
    if trace.established:
        return OUTCOMES["established"]
    if trace.failed is not None:
        return OUTCOMES["refused"]
    if trace.alerted is not None:
        return OUTCOMES["declined"]
    if trace.steps and trace.steps[-1][1].message == "RETRY":
        return OUTCOMES["retried"]
    return OUTCOMES["broken" if trace.closed else "running"]


def draw(trace: Trace, doctor_id: str) -> Handshake:
    """All that its page shows."""
    steps = list(trace.steps)
    suite = lengths.suite_of([traced for _, traced in steps], doctor_id)
    drawn = [_message(trace, suite, doctor_id, place) for place in range(len(steps))]
    failed = trace.failed[0] if trace.failed else None
    verified = bool(steps) and steps[-1][1].message == "SESSION_VERIFIER"
    admission = []
    if verified:
        admission = _judged(ADMISSION, failed) if failed else _all(ADMISSION, trace.established)
    elif failed is not None:
        drawn.append(_refused(EXPECTED[steps[-1][1].message if steps else None], failed))
    return Handshake(
        trace,
        outcome_of(trace),
        suite,
        drawn,
        admission,
        failed.alert if failed else trace.alerted,
        failed is not None and _is_sealed(failed, trace),
    )


def _message(trace: Trace, suite: Suite | None, doctor_id: str, place: int) -> Message:
    when, traced = trace.steps[place]
    lesson = LESSONS[traced.message]
    rotated = lengths.shows_rotation(traced.size, suite, doctor_id)
    marks = _patient_marks(trace, lesson, place, rotated)
    if lesson.by_patient:
        passed = frozenset(traced.checks)
        marks = [Mark(each, "passed" if each in passed else "skipped") for each in lesson.checks]
    names = {"doctor_id": doctor_id, "patient_id": trace.patient, "suite": suite.name if suite else None}
    fields = _fields(lesson, traced.size, suite, names)
    return Message(lesson, traced.size, (when - trace.steps[0][0]) / 1e6, fields, marks)


def _patient_marks(trace: Trace, lesson: Lesson, place: int, rotated: bool) -> list[Mark]:
    """What the patient checks: its next message shows that all of it has passed. Who answers has pinned the keys it was shown."""
    judged = "implied" if place + 1 < len(trace.steps) else "unknown"
    answered = judged == "implied"
    return [
        Mark(each, "skipped" if each in ROTATED and (answered or not rotated) else judged)
        for each in lesson.checks
    ]


def _refused(name: str, failed: Check) -> Message:
    """A message that did not pass, or that did not come as it should have."""
    lesson = LESSONS[name]
    if failed in FRAME:
        return Message(lesson, None, None, [], [Mark(failed, "failed")], came=False)
    return Message(lesson, None, None, [], _judged(lesson.checks, failed))


def _judged(checks: tuple[Check, ...], failed: Check) -> list[Mark]:
    """Checks in their order, up to the one that failed: those before it have passed, as far as they were asked."""
    if failed not in checks:  # a transaction looks at some of them once more
        return [Mark(failed, "failed")]
    place = checks.index(failed)
    enrolling = failed in NEWCOMERS
    before = [Mark(each, "passed") for each in checks[:place] if enrolling or each not in NEWCOMERS]
    return [*before, Mark(failed, "failed"), *(Mark(each, "unknown") for each in checks[place + 1 :])]


def _all(checks: tuple[Check, ...], passed: bool) -> list[Mark]:
    return [Mark(each, "passed" if passed else "unknown") for each in checks]


def _is_sealed(failed: Check, trace: Trace) -> bool:
    """Whether the alert could be sealed: once the request's signature was verified, we know to whom."""
    checks = LESSONS["AUTH_REQUEST"].checks
    later = failed in checks and checks.index(failed) > checks.index(Check.REQUEST_SIGNATURE)
    return later or any(traced.message == "AUTH_RESPONSE" for _, traced in trace.steps)


def _fields(lesson: Lesson, size: int, suite: Suite | None, names: dict[str, str | None]) -> list[Field]:
    known, found = lengths.of_fields(lesson.name, size, suite), []
    for kind in (lesson.outer, *lesson.inner):
        for name in kind.__struct_fields__ if kind is not None else ():
            shown = names.get(name) or known.get(name, "")
            inside = kind is not lesson.outer
            found.append(Field(name, shown, MEANINGS[name], inside, name in SECRET))
    return found

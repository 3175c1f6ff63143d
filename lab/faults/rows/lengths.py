"""T2: lengths that lie, messages that are cut off at each byte, and messages that come a byte at a time.

To a real doctor in every state of a connection, and to a real patient's links. Each lie must be answered with the right alert and the
end of that one connection, before memory is spent on it; a device that stands by must not notice anything.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from lab.faults import memory
from lab.faults.clinic import UNALARMED, Clinic
from lab.faults.row import Row, Scale, Tally, Trial
from lab.faults.rows.fuzz import complaints
from lab.faults.spoiling import DOCTOR_FRAMES, PATIENT_FRAMES, Caller, Order, Outcome, RogueDoctor, Spoil
from lab.faults.swarm import Swarm, Told
from lab.faults.watch import Watch
from patient import notices
from shared.protocol.events import Failed
from shared.protocol.invitations import from_text
from shared.wire.checks import Check
from shared.wire.framing import AUTHENTICATED_LIMIT, UNAUTHENTICATED_LIMIT
from shared.wire.opcodes import AlertCode

DOCTOR_RAISES_AT = 3  # from the RECEIPT on the doctor takes larger frames
PATIENT_RAISES_AT = 2  # from the first record on, the patient
FLOOD = bytes(128 * 1024)
PEAK_LIMIT = 8.0  # MB of residence that a series of lies may cost; the largest lie is 4,295
SPACE_LIMIT = 64.0  # MB of address space
PATIENCE = 30.0

Attempt = Callable[[Order], Awaitable[tuple[Outcome, str | None]]]
"""Carries out an order; the outcome, and by which check the other side says it ended, where it can be asked."""


@dataclass(slots=True)
class _Book:
    """What was tried and what came of it."""

    tried: int = 0
    survived: int = 0
    findings: list[str] = field(default_factory=list)
    peak: float = 0.0
    space: float = 0.0

    def note(self, what: str, flaw: str | None) -> None:
        """One attempt."""
        self.tried += 1
        if flaw is None:
            self.survived += 1
        else:
            self.findings.append(f"{what}: {flaw}")


@dataclass(frozen=True, slots=True)
class _Side:
    """Whom the lies are told to.

    Args:
        name: `doctor` or `patient`.
        frames: what it is sent, by place.
        raises_at: the place from which it takes larger frames.
        pid: of the process that listens.
        attempt: tells one lie.
    """

    name: str
    frames: tuple[str, ...]
    raises_at: int
    pid: int
    attempt: Attempt

    def cap(self, place: int) -> int:
        """The largest payload that is taken there."""
        return UNAUTHENTICATED_LIMIT if place < self.raises_at else AUTHENTICATED_LIMIT


async def run(trial: Trial) -> Tally:
    """Lie to a doctor and to patients."""
    book, repeats = _Book(), trial.scale.count
    watch = Watch()
    told: list[Told] = []
    async with (
        Clinic(trial.directory, watch, UNALARMED) as clinic,
        Swarm(trial.directory / "patients", clinic.address, watch, told.append) as swarm,
        RogueDoctor() as rogue,
    ):
        swarm.enrol("bystander", await clinic.invite("bystander"))
        await swarm.until_connected({"bystander"}, PATIENCE)
        caller = Caller(from_text(await clinic.invite("liar")))
        port = int(str(clinic.doctor.find(event="listening")[-1]["port"]))

        async def to_doctor(order: Order) -> tuple[Outcome, str | None]:
            return await caller.call(port, order), None

        async def to_patient(order: Order) -> tuple[Outcome, str | None]:
            outcome, link = await rogue.receive(order)
            return outcome, link.ending.check.number if isinstance(link.ending, Failed) else None

        sides = (
            _Side("doctor", PATIENT_FRAMES, DOCTOR_RAISES_AT, clinic.doctor.pid, to_doctor),
            _Side("patient", DOCTOR_FRAMES, PATIENT_RAISES_AT, os.getpid(), to_patient),
        )
        for number, side in enumerate(sides):
            await _lie(side, book, repeats)
            await _cut(side, book)
            await _dribble(side, book, max(1, repeats // 10))
            trial.on_progress(number + 1, len(sides))
        await _ask_bystander(clinic, watch, told, book)
        _compare_with_log(clinic, book)
    figures = (("peak_mb", round(book.peak, 1)), ("address_space_mb", round(book.space, 1)))
    return Tally(book.tried, book.survived, findings=tuple(book.findings), figures=figures)


async def _lie(side: _Side, book: _Book, repeats: int) -> None:
    """Every length that lies, in every state, with nothing behind it and with more behind it than any cap."""
    for place, frame in enumerate(side.frames):
        for length in (0, side.cap(place) + 1, 2**31, 2**32 - 1):
            memory.forget_peak(side.pid)
            before = memory.of(side.pid)
            for repeat in range(repeats):
                flood = bool(repeat % 2)
                outcome, check = await side.attempt(Order(place, _with_length(length, flood)))
                what = f"{side.name}: {frame} of length {length}{', flooded' if flood else ''}"
                book.note(what, judge_lie(outcome, check, length, flood))
            after = memory.of(side.pid)
            book.peak = max(book.peak, after.peak - before.peak)
            book.space = max(book.space, after.address_space - before.address_space)
            if after.peak - before.peak > PEAK_LIMIT:
                book.findings.append(
                    f"{side.name}: {frame} of length {length} cost {after.peak - before.peak:.0f} MB"
                )
            if after.address_space - before.address_space > SPACE_LIMIT:
                book.findings.append(f"{side.name}: {frame} of length {length} was given room")


def _with_length(length: int, flood: bool) -> Spoil:
    def spoil(frame: bytes) -> list[bytes]:
        head = frame[:2] + length.to_bytes(4, "big")
        return [head + FLOOD] if flood else [head]

    return spoil


def judge_lie(outcome: Outcome, check: str | None, length: int, flood: bool) -> str | None:
    """What is wrong with the answer. Behind a flood our own system may throw the alert away: then the end itself counts."""
    if not outcome.closed:
        return "the connection was not closed"
    if outcome.alert is None and flood:
        return None
    right = (AlertCode.MALFORMED, AlertCode.REFUSED) if length == 0 else (AlertCode.MALFORMED,)
    if outcome.alert not in right:
        return f"the alert was {outcome.alert}"
    if check is not None and length and check != Check.FRAME_LENGTH.number:
        return f"it failed {check}"
    return None


async def _cut(side: _Side, book: _Book) -> None:
    """Every message, cut off at each of its bytes by the end of the stream."""
    for place, frame in enumerate(side.frames):
        cut = 0
        while True:
            outcome, check = await side.attempt(Order(place, _first(cut), hang_up=True))
            book.note(f"{side.name}: {frame} cut at byte {cut}", judge_cut(outcome, check, cut, frame))
            cut += 1
            if cut >= outcome.length:
                break


def _first(size: int) -> Spoil:
    return lambda frame: [frame[:size]] if size else []


def judge_cut(outcome: Outcome, check: str | None, cut: int, frame: str) -> str | None:
    """What is wrong with the answer to a message that was cut."""
    if not outcome.closed:
        return "the connection was not closed"
    wanted = (
        AlertCode.MALFORMED if cut else None
    )  # at its first byte it is no message yet, and the end is a good one
    if outcome.alert is None and frame == "RECEIPT":
        return None  # it may have come while the admission was being stored; then the doctor ends without a word (SPEC, 6)
    if outcome.alert is not wanted:
        return f"the alert was {outcome.alert}"
    if check is not None and check != Check.STREAM_COMPLETE.number:
        return f"it failed {check}"
    return None


async def _dribble(side: _Side, book: _Book, repeats: int) -> None:
    """Each message in writes of one byte: it must be taken as if it had come at once."""
    order = Order(len(side.frames) - 1, _byte_by_byte, hang_up=True, before=_byte_by_byte)
    for _ in range(repeats):
        outcome, check = await side.attempt(order)
        good = outcome.closed and outcome.established and outcome.alert is None and check is None
        book.note(f"{side.name}: a session byte by byte", None if good else f"{outcome}, {check}")


def _byte_by_byte(frame: bytes) -> list[bytes]:
    return [frame[at : at + 1] for at in range(len(frame))]


async def _ask_bystander(clinic: Clinic, watch: Watch, told: list[Told], book: _Book) -> None:
    """Who had nothing to do with it has one session all the time, and reads what is sent now."""
    answer = await clinic.broadcast("still here?")

    def read() -> bool:
        return any(
            isinstance(each.notice, notices.Message) and each.notice.number == answer.number for each in told
        )

    await watch.until(read, "the bystander's message", PATIENCE)
    kinds = Counter(type(each.notice) for each in told)
    if kinds[notices.Established] != 1 or kinds[notices.Disconnected]:
        book.findings.append("the bystander's session was disturbed")
    book.findings += complaints(clinic.doctor)


def _compare_with_log(clinic: Clinic, book: _Book) -> None:
    """The doctor has put every refusal into its log, by number."""
    numbers = {str(line.get("check")) for line in clinic.doctor.find(event="refused")}
    wanted = {Check.FRAME_LENGTH.number, Check.STREAM_COMPLETE.number}
    if not wanted <= numbers:
        book.findings.append(f"the doctor's log has {sorted(numbers)} and lacks {sorted(wanted - numbers)}")


ROW = Row(
    name="lengths",
    threat="T2",
    title="lengths of 0, cap + 1, 2^31 and 2^32 - 1 in each state, every message cut at each byte and sent byte by byte",
    passes="the right alert, that connection closed, no memory spent on it, a bystander undisturbed",
    ci=Scale(count=100),
    release=Scale(count=1_000),
    run=run,
)

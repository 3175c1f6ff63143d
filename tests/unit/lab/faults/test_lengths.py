"""A lie about a length, a cut message and a dribble are told where they are meant to be told, and wrong answers are found."""

from __future__ import annotations

import os

import pytest

from lab.faults import memory
from lab.faults.rows import lengths
from lab.faults.spoiling import DOCTOR_FRAMES, Order, Outcome, RogueDoctor
from shared.protocol.events import Failed
from shared.wire.opcodes import AlertCode

GOOD = Outcome(True, AlertCode.MALFORMED, False, 10)


@pytest.mark.parametrize("place", range(len(DOCTOR_FRAMES)))
async def test_a_patient_refuses_a_length_above_its_cap_in_each_state(place: int) -> None:
    """By V-003, with the right alert, and it has done what comes before honestly."""
    async with RogueDoctor() as rogue:
        outcome, link = await rogue.receive(Order(place, lambda frame: [frame[:2] + b"\xff\xff\xff\xff"]))

    assert isinstance(link.ending, Failed)
    assert link.ending.check.number == "V-003"
    assert outcome.alert is AlertCode.MALFORMED
    assert link.established is (place == 3)


async def test_a_session_byte_by_byte_is_a_session() -> None:
    """And the honest end of the stream behind it is no failure."""

    def dribble(frame: bytes) -> list[bytes]:
        return [frame[at : at + 1] for at in range(len(frame))]

    async with RogueDoctor() as rogue:
        outcome, link = await rogue.receive(Order(3, dribble, hang_up=True, before=dribble))

    assert outcome.closed
    assert link.established
    assert outcome.alert is None


@pytest.mark.parametrize(
    ("outcome", "check", "length", "flood", "flaw"),
    [
        (GOOD, "V-003", 2**31, False, None),
        (Outcome(True, None, False, 10), None, 2**31, True, None),
        (Outcome(True, None, False, 10), None, 2**31, False, "the alert was None"),
        (Outcome(True, AlertCode.REFUSED, False, 10), None, 2**31, False, "alert"),
        (Outcome(True, AlertCode.REFUSED, False, 10), "V-060", 0, False, None),
        (Outcome(False, None, False, 10), None, 2**31, True, "not closed"),
        (GOOD, "V-008", 2**31, False, "V-008"),
    ],
)
def test_answers_to_a_lie_are_judged(
    outcome: Outcome, check: str | None, length: int, flood: bool, flaw: str | None
) -> None:
    """Only the end of the connection and the right reason are right."""
    found = lengths.judge_lie(outcome, check, length, flood)

    assert found is None if flaw is None else flaw in (found or "")


@pytest.mark.parametrize(
    ("outcome", "cut", "frame", "flaw"),
    [
        (GOOD, 3, "REPORT", None),
        (Outcome(True, None, False, 10), 0, "REPORT", None),
        (Outcome(True, None, False, 10), 3, "RECEIPT", None),
        (Outcome(True, None, False, 10), 3, "REPORT", "alert"),
        (GOOD, 0, "REPORT", "alert"),
        (Outcome(False, AlertCode.MALFORMED, False, 10), 3, "REPORT", "not closed"),
    ],
)
def test_answers_to_a_cut_are_judged(outcome: Outcome, cut: int, frame: str, flaw: str | None) -> None:
    """An end between two messages is a good one; an end inside a message is not."""
    found = lengths.judge_cut(outcome, None, cut, frame)

    assert found is None if flaw is None else flaw in (found or "")


def test_memory_that_is_spent_shows_in_the_peak_after_it_is_given_back() -> None:
    """Otherwise the row could not tell what a lie has cost."""
    memory.forget_peak(os.getpid())
    before = memory.of(os.getpid())
    room = b"x" * 40_000_000
    del room

    assert memory.of(os.getpid()).peak - before.resident > 20

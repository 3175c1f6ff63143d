"""The recorder takes down what was seen, and asks the doctor for its last word on everything, whatever that is."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from doctor.answers import AuditAnswer, Problem, ReceiptAnswer
from lab.faults.capture import Capture
from lab.faults.evidence import Invariant
from lab.faults.history import Joined, Refused
from lab.faults.orders import Refused as OrderRefused
from lab.faults.recorder import Recorder
from lab.faults.swarm import Told
from patient import notices


class FakeOrders:
    """Answers questions from a list; what is not on it, the doctor denies."""

    def __init__(self, **states: list[str]) -> None:
        self.states = states
        self.asked: list[str] = []

    async def get(self, path: str, kind: Any) -> Any:
        """The next state of a message's one recipient; the last one stays."""
        self.asked.append(path)
        if path == "/v1/audit/verify":
            return AuditAnswer(valid=True, entries=3, heads=1, first_bad=None, reason=None, events=[])
        states = self.states.get(path.split("/")[3])
        if states is None:
            raise OrderRefused(409, msgspec.json.encode(Problem("There is no such message.", "refused")))
        return [ReceiptAnswer("bed-1", states.pop(0) if len(states) > 1 else states[0])]


def recorder(*messages: str) -> Recorder:
    """Each was accepted for one recipient, which has shown it."""
    record = Recorder()
    record.joining("bed-1", time.monotonic(), ["everyone"])
    tell(record, notices.Established("bed-1", "doctor", "suite", "here:1"))
    for number, message in enumerate(messages, start=1):
        record.accepted(time.monotonic(), message, "group:everyone", number, 1, message)
        tell(record, notices.Message("group:everyone", number, "", "", message, direct=False, private=False))
    return record


def tell(record: Recorder, notice: notices.Notice) -> None:
    """The device tells something."""
    record.hear(Told("bed-1", 1, time.monotonic(), notice))


async def found(record: Recorder, orders: FakeOrders, seconds: float) -> list[str]:
    """What the checker says against I1 in the end."""
    await record.ask_doctor(orders, seconds)  # type: ignore[arg-type]  # it has the one method that is used
    verdicts = await record.judge(Capture(), [])
    return verdicts.findings[Invariant.NOT_LOST]


async def test_the_doctor_is_asked_until_nothing_is_open() -> None:
    """Only what is open is asked for again."""
    orders = FakeOrders(one=["sent", "delivered"], two=["delivered"])
    assert await found(recorder("one", "two"), orders, 60) == []
    assert [path for path in orders.asked if "two" in path] == ["/v1/broadcasts/two/receipts"]


async def test_what_stays_open_is_the_checkers_to_say() -> None:
    """When the time is over, the last word counts."""
    (sentence,) = await found(recorder("one"), FakeOrders(one=["queued"]), 0)
    assert sentence == "bed-1 has one, of which the doctor says: queued."


async def test_a_doctor_that_denies_what_it_has_accepted_is_found_out() -> None:
    """The trial is judged all the same."""
    sentences = await found(recorder("one"), FakeOrders(), 0)
    assert "one was accepted for 1 recipients, and 0 are listed." in sentences


def test_a_patient_is_a_member_from_its_first_session_on() -> None:
    """And a refusal is taken down with its code and sentence, by whomever it came."""
    record = recorder()
    assert record.has_joined("bed-1")
    tell(record, notices.Refused("busy", "The doctor seems to be busy.", False))
    record.refused("operator", OrderRefused(409, b"<html>"))
    (joined,) = record.history.of(Joined)
    assert (joined.patient, joined.group) == ("bed-1", "everyone")
    assert [(each.who, each.code, each.sentence) for each in record.history.of(Refused)] == [
        ("bed-1", "busy", "The doctor seems to be busy."),
        ("operator", "", "<html>"),
    ]

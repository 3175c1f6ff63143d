"""The lab's clinic and swarm: a real doctor that can be killed, and real devices that come back to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from doctor.answers import DepartureAnswer, ReceiptAnswer
from lab.faults.capture import Way
from lab.faults.clinic import Clinic
from lab.faults.orders import NotAnswered, Refused
from lab.faults.swarm import Swarm, Told
from lab.faults.watch import Watch
from lab.processes import ScenarioFailed
from patient import notices
from patient.verdicts import Reason
from shared.wire.opcodes import Opcode

NAMES = {"bed-1", "bed-2"}


async def test_a_killed_doctor_comes_back_and_every_device_gets_everything_once(tmp_path: Path) -> None:
    """The whole stage: enrol, broadcast, kill -9, broadcast, revoke; and the capture has seen it."""
    told: list[Told] = []
    watch = Watch()
    async with (
        Clinic(tmp_path, watch) as clinic,
        Swarm(tmp_path / "patients", clinic.address, watch, told.append) as swarm,
    ):
        for name in NAMES:
            swarm.enrol(name, await clinic.invite(name))
        await swarm.until_connected(NAMES, 30)
        await clinic.broadcast("one")
        await clinic.kill()
        await clinic.start()
        second = await clinic.broadcast("two")

        def delivered() -> bool:
            return sum(isinstance(each.notice, notices.Message) for each in told) == 4

        await watch.until(delivered, "both messages at both devices", 30)
        await swarm.stop("bed-1")
        swarm.start("bed-1")
        await swarm.until_connected(NAMES, 30)
        await clinic.until_accepted("/v1/patients/bed-2/revoke", None, DepartureAnswer)
        await watch.until(lambda: swarm.members["bed-2"].verdict is not None, "the revoked device's end", 30)
        receipts = await clinic.orders.get(f"/v1/broadcasts/{second.id}/receipts", list[ReceiptAnswer])
        frames = [frame.opcode for _, frame in clinic.proxy.capture.frames(Way.TO_PATIENT)]
    bodies: dict[str, list[str]] = {name: [] for name in NAMES}
    for each in told:
        if isinstance(each.notice, notices.Message):
            bodies[each.patient].append(each.notice.body)
    assert bodies == {"bed-1": ["one", "two"], "bed-2": ["one", "two"]}
    assert {receipt.patient for receipt in receipts} == NAMES
    verdict = swarm.members["bed-2"].verdict
    assert verdict is not None
    assert verdict.reason is Reason.REVOKED
    assert frames.count(Opcode.BROADCAST) >= 2
    assert [life.ended for life in clinic.lives] == [True, True]


async def test_an_order_says_whether_it_was_refused_or_not_answered(tmp_path: Path) -> None:
    """A no is a no; a dead doctor has said nothing."""
    async with Clinic(tmp_path, Watch()) as clinic:
        with pytest.raises(Refused, match="no patient"):
            await clinic.until_accepted("/v1/patients/nobody/revoke", None, DepartureAnswer)
        orders = clinic.orders
        await clinic.kill()
        with pytest.raises(NotAnswered):
            await orders.get("/v1/patients", list[ReceiptAnswer])


async def test_a_condition_that_never_holds_is_named() -> None:
    """Who waits in vain is told for what."""
    with pytest.raises(ScenarioFailed, match="the moon"):
        await Watch().until(lambda: False, "the moon", 0.01)

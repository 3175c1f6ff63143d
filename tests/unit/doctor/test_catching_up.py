"""Catching up takes turns with everything else that the loop has to do."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from doctor import catching_up
from doctor.catching_up import CatchUp
from doctor.sessions import Attachment
from tests.doctor_bench import BELL, EVERYONE, Doctor, on_a_loop, running

MANY = 12


async def turns_of(doctor: Doctor, monkeypatch: pytest.MonkeyPatch, steps: int) -> list[int]:
    """In which turns of the loop the steps were taken, when every session asks for one at once."""
    loop, turn, taken = asyncio.get_running_loop(), 0, list[int]()
    advance = CatchUp.advance

    def watched(self: CatchUp, attachment: Attachment) -> None:
        taken.append(turn)
        BELL.ring()
        advance(self, attachment)

    def count() -> None:
        nonlocal turn
        turn += 1
        if len(taken) < steps:
            loop.call_soon(count)

    monkeypatch.setattr(CatchUp, "advance", watched)
    for session in doctor.fanout.sessions.values():
        doctor.fanout.catch_up.soon(session.attachments[EVERYONE])
    count()
    await BELL.until(lambda: len(taken) >= steps)
    return taken


@pytest.mark.parametrize(("budget", "turns"), [(0, MANY), (3_600_000, 1)], ids=["none left", "time enough"])
def test_steps_that_take_too_long_together_are_taken_in_several_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: int, turns: int
) -> None:
    """Each turn takes one at least; between two turns whatever else is due has its own."""

    @on_a_loop
    async def story() -> None:
        async with running(tmp_path) as doctor:
            for number in range(MANY):
                await doctor.device(f"p{number}")
            monkeypatch.setattr(catching_up, "TURN", budget)
            assert len(set(await turns_of(doctor, monkeypatch, MANY))) == turns

    story()


@on_a_loop
async def test_a_step_that_fails_holds_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug is told to the loop; those behind it go on."""
    async with running(tmp_path) as doctor:
        devices = [await doctor.device(f"p{number}") for number in range(3)]
        advance, failed = CatchUp.advance, list[Attachment]()

        def breaking(self: CatchUp, attachment: Attachment) -> None:
            loop.call_soon(BELL.ring)  # behind the turn
            if not failed:
                failed.append(attachment)
                raise ZeroDivisionError
            advance(self, attachment)

        loop = asyncio.get_running_loop()
        told = list[BaseException]()
        loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
        monkeypatch.setattr(CatchUp, "advance", breaking)
        for device in devices:
            attachment = doctor.session(device).attachments[EVERYONE]
            attachment.written = 0
            doctor.fanout.log_writer.detach(attachment)
            doctor.fanout.catch_up.soon(attachment)
        await BELL.until(lambda: not doctor.fanout.catch_up._due)

        assert [type(error) for error in told] == [ZeroDivisionError]

"""A real doctor's reception, as a misbehaviour sees it, and how it is judged there.

Law: the doctor is the shipped program in a process of its own. What it refuses is taken from its log, by the number of the check; what it
told the liar, from the wire; what took effect, from its API.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from doctor.answers import BroadcastAnswer, PatientAnswer, ReceiptAnswer, ReportAnswer
from lab.evil.callers import Caller, device
from lab.evil.misbehaviour import Accepted, Deviation, Liar
from lab.evil.peer.invitations import read_invitation
from lab.evil.peer.patient import Credentials
from lab.evil.peer.sessions import Told
from lab.faults.clinic import Clinic
from shared.wire.checks import Check

LOGGED_WITHIN = 10.0


class Reception:
    """What a misbehaviour may ask of the doctor, and whom it brings along. One for each time that one is tried."""

    def __init__(self, clinic: Clinic, name: str, stack: AsyncExitStack) -> None:
        self.clinic = clinic
        self.name = name
        self._stack = stack

    async def newcomer(self, suffix: str = "") -> Credentials:
        """A patient with an invitation of its own."""
        return device(read_invitation(await self.clinic.invite(self.name + suffix)))

    async def dial(self, who: Credentials) -> Caller:
        """A connection of a patient; it is closed in the end."""
        return await self._stack.enter_async_context(await Caller.dial(self.clinic.address, who))

    async def logged_in(self, who: Credentials) -> Caller:
        """A session of a patient."""
        caller = await self.dial(who)
        await caller.log_in()
        return caller

    async def state(self, message: BroadcastAnswer) -> str:
        """What became of a message for this patient."""
        rows = await self.clinic.orders.get(f"/v1/broadcasts/{message.id}/receipts", list[ReceiptAnswer])
        return next((row.state for row in rows if row.patient == self.name), "nothing")

    async def reports(self) -> list[str]:
        """What this patient has reported."""
        rows = await self.clinic.orders.get(f"/v1/patients/{self.name}/reports", list[ReportAnswer])
        return [row.body for row in rows]

    async def fingerprint(self) -> str:
        """The key that the roster holds for this patient."""
        rows = await self.clinic.orders.get("/v1/patients", list[PatientAnswer])
        return next(row.fingerprint for row in rows if row.patient == self.name)

    async def written(self, patient: str, number: int) -> None:
        """Wait until a receipt is on the doctor's disk."""
        await self.clinic.doctor.wait_for(
            f"note the receipt of {patient}",
            lambda doctor: bool(doctor.find(event="delivered", patient=patient, number=number)),
            LOGGED_WITHIN,
        )

    def refusals(self) -> list[str]:
        """The checks that this patient has failed, by the doctor's log."""
        return [str(line["check"]) for line in self.clinic.doctor.find(event="refused", patient=self.name)]


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of it: what the liar was told, and, where the lie took effect, a sentence that says so."""

    told: Told | None
    effect: str = ""


Play = Callable[[Reception, bool], Awaitable[Seen]]


@dataclass(frozen=True, slots=True)
class LiveMisbehaviour:
    """One row; `answer` is the check, or None for a repetition that has no effect and is no fault."""

    name: str
    liar: Liar
    does: str
    answer: Check | None
    play: Play

    async def attempt(self, clinic: Clinic, seed: int) -> None:
        """Once without the lie and once with it. Raises Deviation."""
        for lie in (False, True):
            name = f"{self.name}-{seed}-{'lie' if lie else 'truth'}"
            async with AsyncExitStack() as stack:
                reception = Reception(clinic, name, stack)
                seen = await self.play(reception, lie)
                await self._judge(reception, seen, lie)

    async def _judge(self, reception: Reception, seen: Seen, lie: bool) -> None:
        expected = [self.answer.number] if lie and self.answer is not None else []
        if seen.effect:
            raise (Accepted if lie else Deviation)(seen.effect)
        if expected:
            doctor = reception.clinic.doctor
            await doctor.wait_for("refuse", lambda _: bool(reception.refusals()), LOGGED_WITHIN)
        if reception.refusals() != expected:
            raise Deviation(f"the doctor's log has {reception.refusals()}, expected {expected}")
        if (
            expected
            and self.answer is not None
            and (seen.told is None or seen.told.code != self.answer.alert)
        ):
            raise Deviation(f"the liar was told {seen.told}, expected {self.answer.alert.name}")

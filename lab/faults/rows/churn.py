"""T21: patients join, are added and removed, go away and come back, are retired and revoked, while two groups are written to.

Law: several hands give orders at a time, each to a guest that no other hand is busy with; those who stay only listen. The checker
tries every key that anybody ever held on every byte that was on the wire. Looked at besides: epochs at each device and at the
doctor, whether whoever was expelled was told so, and how long an order to revoke took until it was answered, which is the
time until nothing more can be accepted that the revoked device could read.
"""

from __future__ import annotations

import asyncio
import random as pseudo
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

from doctor.answers import PatientAnswer
from lab.faults.epochs import differing, falling, skipped
from lab.faults.history import Joined, Left
from lab.faults.orders import Refused
from lab.faults.row import Row, Scale, Tally, Trial
from lab.faults.stage import EVERYONE, Stage
from lab.processes import ScenarioFailed
from patient.verdicts import Reason

WARD = "ward"
HANDS = 4
MESSAGES_AN_ACT = 8  # that are accepted at least, for each hand, between two of its acts
PATIENCE = 30.0
CROWD = 12  # guests at a time


@dataclass(slots=True, eq=False)
class Guest:
    """Somebody who comes and goes. `here`: its device runs; `member`: on the roster and active; `in_ward`: of the second group."""

    name: str
    here: bool = True
    member: bool = True
    in_ward: bool = False
    revoked: bool = False
    busy: bool = False


class Churn:
    """One trial.

    Args:
        stage: where it takes place.
        dice: draw who does what.
    """

    def __init__(self, stage: Stage, trial: Trial, dice: pseudo.Random) -> None:
        self.findings: list[str] = []
        self.done = 0
        self.said = 0
        self._stage = stage
        self._trial = trial
        self._dice = dice
        self._guests: list[Guest] = []
        self._left = trial.scale.count
        self._over = False

    async def run(self) -> None:
        """Everything, from the first enrolment to the last delivery."""
        stay = [f"stays-{number:02}" for number in range(1, self._trial.scale.patients + 1)]
        await self._stage.create_group(WARD)
        for number, name in enumerate(stay):
            await self._stage.enrol(name, *([WARD] if number % 2 else []))
        await self._stage.gather(stay)
        talking = [asyncio.create_task(self._talk(group)) for group in (EVERYONE, WARD)]
        try:
            await asyncio.gather(*(self._hand() for _ in range(HANDS)))
        finally:
            self._over = True
            await asyncio.gather(*talking)
        members = [guest for guest in self._guests if guest.member]
        for guest in members:
            if not guest.here:
                self._stage.swarm.start(guest.name)  # to fetch what it is owed
        await self._stage.gather({*stay, *(guest.name for guest in members)})

    async def _talk(self, group: str) -> None:
        while not self._over:
            await self._stage.say(f"message {self.said} for {group}", group)
            self.said += 1
            self._stage.watch.changed()

    async def _hand(self) -> None:
        while self._left > 0:
            self._left -= 1
            guest, act = self._choose()
            guest.busy = True
            try:
                await act(guest)
            except (ScenarioFailed, Refused) as failed:
                self.findings.append(f"{act.__name__.strip('_')} {guest.name}: {failed}")
            finally:
                guest.busy = False
                self.done += 1
                self._trial.on_progress(self.done, self._trial.scale.count)
            enough = self.said + MESSAGES_AN_ACT
            await self._stage.watch.until(partial(self._has_said, enough), "messages meanwhile", PATIENCE)

    def _has_said(self, count: int) -> bool:
        return self.said >= count

    def _choose(self) -> tuple[Guest, Callable[[Guest], Coroutine[Any, Any, None]]]:
        free = [guest for guest in self._guests if not guest.busy and not guest.revoked]
        if len(free) < CROWD and self._dice.random() < 1 - len(free) / CROWD:
            guest = Guest(f"guest-{len(self._guests) + 1:04}")
            self._guests.append(guest)
            return guest, self._enrol
        guest = self._dice.choice(free)
        return guest, self._dice.choice(self._possible(guest))

    def _possible(self, guest: Guest) -> list[Callable[[Guest], Coroutine[Any, Any, None]]]:
        if not guest.member:
            return [self._come_back]
        acts = [self._revoke, self._retire, self._remove if guest.in_ward else self._add]
        return [*acts, self._reconnect, self._go_away] if guest.here else [*acts, self._come_back]

    # What guests do, and what is done to them

    async def _enrol(self, guest: Guest) -> None:
        guest.in_ward = self._dice.random() < 0.5
        await self._stage.enrol(guest.name, *([WARD] if guest.in_ward else []))
        await self._stage.gather({guest.name})

    async def _add(self, guest: Guest) -> None:
        await self._stage.add(WARD, guest.name)
        guest.in_ward = True

    async def _remove(self, guest: Guest) -> None:
        await self._stage.remove(WARD, guest.name)
        guest.in_ward = False

    async def _reconnect(self, guest: Guest) -> None:
        await self._go_away(guest)
        await self._come_back(guest)

    async def _go_away(self, guest: Guest) -> None:
        await self._stage.swarm.stop(guest.name)
        guest.here = False

    async def _come_back(self, guest: Guest) -> None:
        if not guest.member:
            self._stage.returning(guest.name)
        self._stage.swarm.start(guest.name)
        guest.here = True
        await self._stage.gather({guest.name})
        guest.member = True

    async def _retire(self, guest: Guest) -> None:
        before = self._sessions(guest)
        await self._stage.retire(guest.name)
        guest.member = guest.in_ward = False
        if guest.here:
            await self._see_off(guest, before)

    async def _see_off(self, guest: Guest, sessions: int) -> None:
        """A retired device is told so and ends, unless it was about to connect: then it has come back, as it may."""
        left = next(
            each
            for each in reversed(self._stage.record.history.events)
            if isinstance(each, Left) and each.patient == guest.name
        )
        member = self._stage.swarm.members[guest.name]
        while True:
            await self._stage.watch.until(
                partial(self._told_or_connected, guest, sessions), f"the end of {guest.name}", PATIENCE
            )
            if member.verdict is not None:
                break
            sessions = self._sessions(guest)
            if await self._is_active(guest):
                now = time.monotonic()
                joined = Joined(time=now, asked=left.asked, patient=guest.name, group=EVERYONE)
                self._stage.record.history.add(joined)
                guest.member = True
                return
        guest.here = False
        self._require(guest, Reason.RETIRED)

    def _sessions(self, guest: Guest) -> int:
        return sum(key.holder == guest.name for key in self._stage.record.keys.sessions)

    def _told_or_connected(self, guest: Guest, sessions: int) -> bool:
        member = self._stage.swarm.members[guest.name]
        return member.verdict is not None or (member.connected and self._sessions(guest) > sessions)

    async def _is_active(self, guest: Guest) -> bool:
        roster = await self._stage.clinic.orders.get("/v1/patients", list[PatientAnswer])
        return any(each.patient == guest.name and each.state != "retired" for each in roster)

    async def _revoke(self, guest: Guest) -> None:
        await self._stage.revoke(guest.name)
        guest.member = guest.in_ward = False
        guest.revoked = True
        if not guest.here:
            self._stage.swarm.start(guest.name)  # to knock, and to be told
        guest.here = False
        await self._until_told(guest, Reason.REVOKED)

    async def _until_told(self, guest: Guest, reason: Reason) -> None:
        member = self._stage.swarm.members[guest.name]
        await self._stage.watch.until(
            lambda: member.verdict is not None, f"the end of {guest.name}", PATIENCE
        )
        self._require(guest, reason)

    def _require(self, guest: Guest, reason: Reason) -> None:
        verdict = self._stage.swarm.members[guest.name].verdict
        if verdict is None or verdict.reason is not reason:
            raise ScenarioFailed(f"it was told {verdict}, not {reason.value}.")


async def run(trial: Trial) -> Tally:
    """Churn under load, then the verdict."""
    dice = pseudo.Random(trial.seed)  # noqa: S311  who goes and who comes is no secret
    async with Stage(trial.directory, trial.seed) as stage:
        churn = Churn(stage, trial, dice)
        await churn.run()
        verdicts = await stage.judge()
        keys, begun = stage.record.keys, stage.clinic.doctor.find(event="epoch begun")
        seconds = [
            left.time - left.asked for left in stage.record.history.of(Left) if left.reason == "revoked"
        ]
    epochs = [*falling(keys), *differing(keys.epochs), *skipped(begun)]
    return Tally(
        tried=churn.done,
        survived=churn.done - len(churn.findings),
        lost=verdicts.lost,
        duplicated=verdicts.duplicated,
        leaked=verdicts.leaked,
        findings=(*churn.findings, *epochs, *verdicts.sentences()),
        figures=(
            ("messages", churn.said),
            ("epochs", len(begun)),
            ("revoked", len(seconds)),
            ("exclusion_median_ms", round(median(seconds) * 1000, 1) if seconds else 0.0),
            ("exclusion_max_ms", round(max(seconds, default=0.0) * 1000, 1)),
            ("keys_tried", verdicts.wiretap.tried if verdicts.wiretap else 0),
        ),
    )


ROW = Row(
    name="churn",
    threat="T21",
    title="joins, additions, removals, returns, retirements and revocations while two groups are written to",
    passes="no key of anybody who left opens anything later; epochs only rise; who stays misses nothing; I1 to I7",
    ci=Scale(count=50, patients=8),
    release=Scale(count=1000, patients=40),
    run=run,
)

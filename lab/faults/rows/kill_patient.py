"""T10: kill -9 of patients at named points, while messages and reports flow.

Every device is the shipped program in a process of its own. Each goes through its share of the kills beside the others; what
one has not told before its death stands in its inbox, and the checker holds both against what was accepted.
"""

from __future__ import annotations

import asyncio
import itertools
import random as pseudo
import time
from collections.abc import Sequence

from lab.faults.bed import Bed
from lab.faults.history import Killed, Served
from lab.faults.orders import Refused
from lab.faults.points import PATIENT, Errand, Failpoint, schedule
from lab.faults.row import Row, Scale, Tally, Trial
from lab.faults.stage import Stage
from lab.processes import ScenarioFailed

REACHED = 60.0  # seconds within which a program comes by its point, or back
PAUSE = 0.05  # seconds between two messages


class _Kills:
    """The work of one trial."""

    def __init__(self, trial: Trial, stage: Stage) -> None:
        self._trial = trial
        self._stage = stage
        self._dice = pseudo.Random(trial.seed)  # noqa: S311  a schedule, no secrets
        self._names = (f"bed-{number}" for number in itertools.count(1))
        self._tried = self._hits = self._said = 0
        self._active: list[str] = []
        self._deaths: dict[str, float] = {}
        self._recovery: list[float] = []
        self._findings: list[str] = []

    async def run(self) -> Tally:
        scale = self._trial.scale
        beds = [await self._stage.make_bed(next(self._names)) for _ in range(max(1, scale.patients))]
        await asyncio.gather(*(self._come_back(bed) for bed in beds))
        kills = schedule(PATIENT, scale.count, self._dice)
        over = asyncio.Event()
        talking = asyncio.create_task(self._talk(over))
        try:
            await asyncio.gather(*(self._share(bed, kills[n :: len(beds)]) for n, bed in enumerate(beds)))
        finally:
            over.set()
            await talking
        verdicts = await self._stage.judge()
        return Tally(
            tried=self._hits,
            survived=self._hits,
            lost=verdicts.lost,
            duplicated=verdicts.duplicated,
            leaked=verdicts.leaked,
            findings=(*self._findings, *verdicts.sentences()),
            recovery=tuple(self._recovery),
            figures=(
                ("points", len({event.at for event in self._stage.record.history.of(Killed)})),
                ("messages", self._said),
            ),
        )

    async def _talk(self, over: asyncio.Event) -> None:
        """Broadcasts and private messages until all kills are done, and until there were as many as wanted."""
        while not over.is_set() or self._said < self._trial.scale.messages:
            self._said += 1
            text = f"message {self._said} " + "x" * self._dice.randint(0, 200)
            try:
                if self._said % 5 == 0 and self._active:  # all may be about to be retired
                    await self._stage.tell(self._dice.choice(self._active), text)
                else:
                    await self._stage.say(text)
            except Refused as error:  # it has been retired in this moment
                self._stage.record.refused("operator", error)
            await asyncio.sleep(PAUSE)

    # One bed

    async def _share(self, bed: Bed, kills: Sequence[tuple[Failpoint, int]]) -> None:
        for point, nth in kills:
            bed = await self._life(bed, point, nth)
        await self._come_back(bed)

    async def _life(self, bed: Bed, point: Failpoint, nth: int) -> Bed:
        """The device's next life, from its start to its death; for a point of enrolment, that of a new device."""
        if point.errand is Errand.JOIN:
            await self._come_back(bed)
            self._active.remove(bed.name)
            await self._stage.retire(bed.name)
            await bed.died(REACHED)
            bed = await self._stage.make_bed(next(self._names))
        await bed.stop()
        await bed.start(point, nth)
        if point.errand is Errand.REPORT:
            await self._report(bed)
        try:
            hit = await bed.died(REACHED)
        except ScenarioFailed:
            hit = None
            await bed.device.kill()
        self._note_return(bed)
        self._note_death(bed, point, nth, hit)
        return bed

    def _note_return(self, bed: Bed) -> None:
        died = self._deaths.pop(bed.name, None)
        if died is not None and bed.connected_at is not None:
            self._recovery.append(bed.connected_at - died)

    async def _report(self, bed: Bed) -> None:
        await self._stage.watch.until(lambda: bed.connected or bed.device.ended, bed.name, REACHED)
        for number in range(3):
            await self._stage.report(bed.name, f"{bed.name} says {number}")

    def _note_death(self, bed: Bed, point: Failpoint, nth: int, hit: str | None) -> None:
        self._tried += 1
        self._deaths[bed.name] = time.monotonic()
        if hit == point.name:
            self._hits += 1
            self._stage.record.history.add(
                Killed(time=time.monotonic(), program=bed.device.name, at=point.name)
            )
        else:
            self._findings.append(
                f"{bed.device.name} did not come by {point.name}, call {nth}.\n{bed.device.last_words()}"
            )
        self._trial.on_progress(self._tried, self._trial.scale.count)

    async def _come_back(self, bed: Bed) -> None:
        """A life without a failpoint, if it has not got one already."""
        if not bed.lives or bed.device.ended:
            await bed.start()
        await self._stage.watch.until(lambda: bed.connected, f"{bed.name}'s session", REACHED)
        self._note_return(bed)
        if bed.name not in self._active:
            self._active.append(bed.name)
        self._stage.record.history.add(Served(time=time.monotonic(), program=bed.name, life=len(bed.lives)))


async def _run(trial: Trial) -> Tally:
    async with Stage(trial.directory, trial.seed) as stage:
        return await _Kills(trial, stage).run()


ROW = Row(
    name="kill-patient",
    threat="T10",
    title="kill -9 of patients at named points of enrolment, session, inbox, receipt and report",
    passes="nothing lost, nothing shown twice across the lives of a device, no nonce twice",
    ci=Scale(count=20, patients=4, messages=200),
    release=Scale(count=250, patients=10, messages=2000),
    run=_run,
)

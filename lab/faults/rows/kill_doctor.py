"""T9: kill -9 of the doctor at named points, while messages flow.

A kill counts as tried only where the program has said that it came by its point. The whole history of all lives is judged
at the end; each return to service has its own limit, the only absolute figure of the campaign.
"""

from __future__ import annotations

import asyncio
import random as pseudo
import time
from collections.abc import Coroutine, Sequence
from typing import Any

from doctor.answers import HealthAnswer
from lab.faults.failpoints import HIT
from lab.faults.history import Killed, Served
from lab.faults.orders import NotAnswered
from lab.faults.orders import Refused as OrderRefused
from lab.faults.points import DOCTOR, Errand, Failpoint, schedule
from lab.faults.row import Row, Scale, Tally, Trial
from lab.faults.stage import EVERYONE, Stage
from lab.processes import ScenarioFailed

SERVING_AGAIN = 10.0  # seconds that the doctor may be away
REACHED = 60.0  # seconds within which a program comes by its point
SENDERS = 8
WARD = "ward"


class _Kills:
    """The work of one trial of T9."""

    def __init__(self, trial: Trial, stage: Stage) -> None:
        self._trial = trial
        self._stage = stage
        self._dice = pseudo.Random(trial.seed)  # noqa: S311  a schedule, no secrets
        self._names = [f"bed-{number}" for number in range(1, trial.scale.patients + 1)]
        self._guests: list[str] = []  # who joins during the kills, and may be revoked
        self._met = 0
        self._said = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._turns = asyncio.Semaphore(SENDERS)
        self._recovery: list[float] = []
        self._all_back: list[float] = []
        self._findings: list[str] = []
        self._hits = 0
        self._died: float | None = None

    async def run(self) -> Tally:
        scale = self._trial.scale
        await self._stage.create_group(WARD)
        for number, name in enumerate(self._names):
            await self._stage.enrol(name, *([WARD] if number % 2 else []))
        await self._invite_guest()
        await self._invite_guest()
        await self._stage.gather({*self._names, *self._guests})
        await self._stage.clinic.stop()
        quota = max(1, scale.messages // max(1, scale.count))
        for number, (point, nth) in enumerate(schedule(DOCTOR, scale.count, self._dice)):
            await self._round(point, nth, quota)
            self._trial.on_progress(number + 1, scale.count)
        await self._begin(None, 1)
        while self._said < scale.messages:
            self._spawn_messages(min(50, scale.messages - self._said))
            await asyncio.wait(self._tasks)
        await asyncio.gather(*self._tasks)
        return await self._tally()

    async def _tally(self) -> Tally:
        verdicts = await self._stage.judge()
        slow = [seconds for seconds in self._recovery if seconds >= SERVING_AGAIN]
        self._findings += [f"The doctor was away for {seconds:.1f} s." for seconds in slow]
        tap = verdicts.wiretap
        assert tap is not None  # noqa: S101  there is always a capture
        return Tally(
            tried=self._hits,
            survived=self._hits - len(slow),
            lost=verdicts.lost,
            duplicated=verdicts.duplicated,
            leaked=verdicts.leaked,
            findings=(*self._findings, *verdicts.sentences()),
            recovery=tuple(self._recovery),
            figures=(
                ("points", len({event.at for event in self._stage.record.history.of(Killed)})),
                ("messages", self._said),
                ("all_back_s", round(max(self._all_back, default=0.0), 2)),
                ("records_opened", tap.opened_records),
                ("keys_tried", tap.tried),
            ),
        )

    # Lives

    async def _round(self, point: Failpoint, nth: int, quota: int) -> None:
        """One life, from its start to its end by kill -9."""
        clinic = self._stage.clinic
        await self._begin(point, nth)
        if point.errand not in (Errand.ABSENCE, Errand.JOIN) and not clinic.doctor.ended:
            await self._all_connected()
        ends = time.monotonic() + REACHED
        self._spawn_messages(quota)
        while clinic.serving.is_set() and time.monotonic() < ends:
            self._spawn(self._errand(point.errand))
            await self._stage.watch.until(
                lambda: not clinic.serving.is_set() or not self._tasks, point.name, REACHED
            )
            self._spawn_messages(5)
        if clinic.doctor.ended or not clinic.serving.is_set():
            await clinic.died(REACHED)
        else:
            self._findings.append(f"{point.name}, call {nth}, was not reached within {REACHED:.0f} s.")
            await clinic.kill()
        self._note_death(point, nth)

    async def _begin(self, point: Failpoint | None, nth: int) -> None:
        """Start a life, with a failpoint in it or not; it may meet it at once."""
        clinic = self._stage.clinic
        arguments = ["-m", "doctor"]
        if point is not None:
            arguments = ["-m", "lab.faults.failpoints", "doctor", point.name, str(nth)]
        try:
            await clinic.start(arguments)
            await clinic.orders.get("/readyz", HealthAnswer)
        except (ScenarioFailed, NotAnswered):
            await clinic.died(REACHED)
            if not clinic.doctor.find(event=HIT):
                raise
            return
        now = time.monotonic()
        self._stage.record.history.add(Served(time=now, program="doctor", life=len(clinic.lives)))
        if self._died is not None:
            self._recovery.append(now - self._died)

    async def _all_connected(self) -> None:
        clinic, members = self._stage.clinic, self._stage.swarm.members.values()

        def settled() -> bool:
            gone = not clinic.serving.is_set()
            # A guest that is revoked meanwhile ends, and returns no more.
            return gone or all(member.connected or member.task is None for member in members)

        try:
            await self._stage.watch.until(settled, "all patients' return", REACHED)
        except ScenarioFailed as failed:
            away = sorted(member.name for member in members if not member.connected and member.task)
            self._findings.append(f"{failed} Still away: {', '.join(away)}.")
            return
        if self._died is not None and clinic.serving.is_set():
            self._all_back.append(time.monotonic() - self._died)

    def _note_death(self, point: Failpoint, nth: int) -> None:
        clinic = self._stage.clinic
        self._died = time.monotonic()
        if [line["at"] for line in clinic.doctor.find(event=HIT)] == [point.name]:
            self._hits += 1
            self._stage.record.history.add(Killed(time=self._died, program="doctor", at=f"{point.name}"))
        else:
            self._findings.append(
                f"The doctor ended otherwise than at {point.name}, call {nth}.\n{clinic.doctor.last_words()}"
            )

    # What goes on meanwhile

    def _spawn(self, work: Coroutine[Any, Any, object]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        self._stage.watch.changed()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._findings.append(f"An order failed: {error!r}")

    def _spawn_messages(self, count: int) -> None:
        for _ in range(count):
            self._said += 1
            self._spawn(self._say(self._said))

    async def _say(self, number: int) -> None:
        async with self._turns:
            text = f"message {number} " + "x" * self._dice.randint(0, 200)
            if number % 10 == 0:
                await self._stage.tell(self._dice.choice(self._names), text)
            else:
                await self._stage.say(text, WARD if number % 10 == 5 else EVERYONE)

    async def _errand(self, errand: Errand) -> None:
        stage = self._stage
        if errand is Errand.JOIN:
            await self._invite_guest()
        elif errand is Errand.REVOKE:
            await self._revoke_guest()
            await self._invite_guest()
        elif errand is Errand.GROUP:
            name = self._dice.choice(self._names[1::2])
            await stage.remove(WARD, name)
            await self._speak_of_the_absent(WARD)
            await stage.add(WARD, name)
        elif errand is Errand.PRIVATE:
            await asyncio.gather(*(stage.tell(name, "a word") for name in self._names[:3]))
        elif errand is Errand.REPORT:
            await asyncio.gather(*(stage.report(name, "a reply") for name in self._names[-4:]))
        elif errand is Errand.ROTATE:
            # A rotation makes open invitations void: everybody is in by now, and nobody is invited meanwhile.
            await stage.rotate_keys()
            await self._all_connected()
        elif errand is Errand.ABSENCE:
            await self._leave_and_return(self._dice.sample(self._names, min(4, len(self._names))))
        else:
            # Also where nobody is killed over it: who is out must not read what comes next.
            await self._revoke_guest()
            await self._invite_guest()
            await self._ask_in_vain()

    async def _invite_guest(self) -> None:
        self._met += 1
        name = f"guest-{self._met}"
        await self._stage.enrol(name)
        self._guests.append(name)
        if len(self._guests) > 4:
            await self._revoke_guest()

    async def _revoke_guest(self) -> None:
        """Expel the guest that has been there for longest, if one is there."""
        name = next((name for name in self._guests if self._stage.has_joined(name)), None)
        if name is not None:
            self._guests.remove(name)
            await self._stage.revoke(name)
            await self._speak_of_the_absent(EVERYONE)

    async def _speak_of_the_absent(self, group: str) -> None:
        """Before anybody joins, and an epoch begins for that: what is accepted now, who has just left must not read."""
        for _ in range(2):
            self._said += 1
            await self._stage.say("for those who stay", group)

    async def _leave_and_return(self, names: Sequence[str]) -> None:
        swarm = self._stage.swarm
        away = [name for name in names if swarm.members[name].task is not None]
        await asyncio.gather(*(swarm.stop(name) for name in away))
        for number in range(5):
            self._said += 1
            await self._stage.say(f"to those who are away, {number}")
        for name in away:
            swarm.start(name)

    async def _ask_in_vain(self) -> None:
        try:
            await self._stage.revoke("nobody")
        except OrderRefused as error:
            self._stage.record.refused("operator", error)


async def _run(trial: Trial) -> Tally:
    async with Stage(trial.directory, trial.seed) as stage:
        return await _Kills(trial, stage).run()


ROW = Row(
    name="kill-doctor",
    threat="T9",
    title="kill -9 of the doctor at named points of accept, send, receipt, epoch, join, revocation, key rotation, audit and start",
    passes=f"nothing lost, nothing twice, no nonce twice, the audit verifies; serving again in under {SERVING_AGAIN:.0f} s",
    ci=Scale(count=40, patients=20, messages=2000),
    release=Scale(count=500, patients=20, messages=2000),
    run=_run,
)

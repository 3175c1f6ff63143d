"""T29: many patients, five messages a second, for as long as it takes to see whether anything grows.

Law: the work is cut into rounds. At the end of each everything is delivered, the doctor is asked for its last word, and the checker
judges the round, its capture (which is a file) and its keys; then every connection is cut, so that the next round begins with
fresh sessions and can be judged alone. So the lab's own memory does not grow with the hours either. Who is a member, and what was
reported, goes over into the next round: a message of an earlier one that came once more would be one that nobody has accepted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from lab.faults.capture import Capture
from lab.faults.evidence import Verdicts
from lab.faults.gauge import Gauge, Sample, growth_a_ten_minutes
from lab.faults.history import Accepted, Applied
from lab.faults.orders import Refused
from lab.faults.row import Row, Scale, Tally, Trial
from lab.faults.stage import EVERYONE, Stage
from lab.processes import ScenarioFailed

RATE = 5  # messages a second
WARD = "ward"
ROUND = 300.0  # seconds, at most
SENTENCES = 3  # of each round: only so many findings are kept, and each round is to be heard
WARM_UP = 0.25  # of the time
CONNECT = 120.0  # seconds for all devices to enrol, or to come back
DELIVER = 60.0  # seconds from the last message until all has arrived
REPORT_EVERY = 50  # messages

LONG = 1800.0  # seconds from which on a trend over ten minutes can be seen to the percent
GROWTH_LONG = 0.01  # of the resident memory in ten minutes
GROWTH_SHORT = 0.05  # of the resident memory, from the end of the warm-up to the end
DESCRIPTORS = 8  # more than at the end of the warm-up: connections of the API come and go
LINES_A_MESSAGE = 1.0
WAL = 16.0  # MB


class Soak:
    """One trial."""

    def __init__(self, stage: Stage, trial: Trial) -> None:
        self.findings: list[str] = []
        self.verdicts: list[Verdicts] = []
        self.latencies: list[float] = []
        self.said = 0
        self._stage = stage
        self._trial = trial
        self._names = [f"bed-{number:03}" for number in range(1, trial.scale.patients + 1)]
        self._gauge = Gauge(stage.clinic.doctor, stage.clinic.state_dir)

    def samples_after(self, share: float) -> list[Sample]:
        """The samples of the doctor behind a warm-up that took this share of the time."""
        return self._gauge.samples[round(len(self._gauge.samples) * share) :]

    async def run(self) -> None:
        """All rounds."""
        scale = self._trial.scale
        rounds = max(1, round(scale.seconds / ROUND))
        await self._stage.create_group(WARD)
        for number in range(1, rounds + 1):
            await self._round(number, scale.seconds / rounds, last=number == rounds)

    async def _round(self, number: int, seconds: float, last: bool) -> None:
        stage = self._stage
        capture = stage.clinic.proxy.capture = Capture(self._trial.directory / f"capture-{number}")
        if number == 1:
            for index, name in enumerate(self._names):
                await stage.enrol(name, *([WARD] if index % 2 else []))
        else:
            stage.record.begin_round()
            stage.clinic.proxy.cut_all()
            await stage.watch.until(lambda: not stage.swarm.connected, "the cut", CONNECT)
        await stage.gather(self._names, CONNECT)
        await self._talk(seconds)
        self.verdicts.append(await stage.judge_round(DELIVER, last))
        self._note_latencies()
        capture.close()

    async def _talk(self, seconds: float) -> None:
        """Messages at their times, whether or not the ones before have been answered."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(self._gauge.watch())
            for turn in range(round(seconds * RATE)):
                await asyncio.sleep(began + turn / RATE - time.monotonic())
                tasks.create_task(self._say())
                self._trial.on_progress(self.said, round(self._trial.scale.seconds * RATE))
            watching.cancel()

    async def _say(self) -> None:
        """Eight of ten to everyone, one to a group, one to a patient; now and then somebody reports."""
        self.said += 1
        number, kind = self.said, self.said % 10
        name = self._names[number // 10 % len(self._names)]
        try:
            if kind == 0:
                await self._stage.tell(name, f"message {number}")
            else:
                await self._stage.say(f"message {number}", WARD if kind == 5 else EVERYONE)
            if number % REPORT_EVERY == 0:
                await self._stage.report(name, f"report {number}")
        except (ScenarioFailed, Refused) as failed:
            self.findings.append(f"message {number}: {failed}")

    def _note_latencies(self) -> None:
        history = self._stage.record.history
        accepted = {(each.stream, each.number): each.time for each in history.of(Accepted)}
        self.latencies += [
            applied.time - accepted[applied.stream, applied.number]
            for applied in history.of(Applied)
            if (applied.stream, applied.number) in accepted
        ]


def growth(samples: Sequence[Sample], messages: int, seconds: float) -> tuple[list[str], dict[str, float]]:
    """What has grown that must not, and the figures.

    Args:
        samples: of the doctor, those behind the warm-up.
        messages: that were accepted in that time.
        seconds: how long the trial was to last; over less than half an hour a trend is mere noise, and the growth is bounded.
    """
    first, last = samples[0], samples[-1]
    trend = growth_a_ten_minutes(samples)
    grown = trend * (last.time - first.time) / 600
    found = []
    if seconds >= LONG and trend >= GROWTH_LONG:
        found.append(f"The doctor's memory grows by {trend:.2%} in ten minutes.")
    elif seconds < LONG and grown >= GROWTH_SHORT:
        found.append(f"The doctor's memory has grown by {grown:.2%} in {last.time - first.time:.0f} s.")
    if (opened := last.descriptors - first.descriptors) > DESCRIPTORS:
        found.append(f"The doctor has {opened} more files open than at the end of its warm-up.")
    lines = (last.lines - first.lines) / max(1, messages)
    if lines > LINES_A_MESSAGE:
        found.append(f"The doctor logs {lines:.1f} lines a message.")
    if (wal := max(each.wal for each in samples)) > WAL:
        found.append(f"The write-ahead log has grown to {wal:.1f} MB.")
    return found, {
        "rss_mb": round(last.resident, 1),
        "rss_percent_in_10_min": round(trend * 100, 2),
        "descriptors": last.descriptors,
        "wal_mb_max": round(wal, 1),
        "log_lines_a_message": round(lines, 2),
    }


async def run(trial: Trial) -> Tally:
    """The soak, and what has grown."""
    async with Stage(trial.directory, trial.seed) as stage:
        soak = Soak(stage, trial)
        await soak.run()
    samples = soak.samples_after(WARM_UP)
    found, figures = growth(samples, round(soak.said * (1 - WARM_UP)), trial.scale.seconds)
    soak.latencies.sort()
    figures["messages"] = soak.said
    figures["applied"] = len(soak.latencies)
    figures["p99_delivery_s"] = round(soak.latencies[len(soak.latencies) * 99 // 100], 3)
    return Tally(
        tried=len(soak.verdicts),
        survived=sum(verdicts.hold for verdicts in soak.verdicts),
        lost=sum(verdicts.lost for verdicts in soak.verdicts),
        duplicated=sum(verdicts.duplicated for verdicts in soak.verdicts),
        leaked=sum(verdicts.leaked for verdicts in soak.verdicts),
        findings=(
            *found,
            *(text for verdicts in soak.verdicts for text in verdicts.sentences()[:SENTENCES]),
            *soak.findings,
        ),
        figures=tuple(figures.items()),
    )


ROW = Row(
    name="soak",
    threat="T29",
    title=f"{RATE} messages a second to many patients, reports meanwhile, every connection cut between rounds",
    passes="memory, open files, log and write-ahead log do not grow; I1 to I7",
    ci=Scale(patients=60, seconds=180),
    release=Scale(patients=200, seconds=3600),
    run=run,
)

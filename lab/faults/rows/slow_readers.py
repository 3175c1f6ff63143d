"""T16: a quarter of the patients reads a byte a second.

Law: the others are compared with themselves, before and after, in the same run and with the same messages. One message is said when all of them
have applied the one before, so what is measured is how long a delivery takes and not how long a queue is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from statistics import mean, median

from doctor.broadcast_log import SLICE_BYTES
from lab.faults.history import Accepted
from lab.faults.row import Row, Scale, Tally, Trial
from lab.faults.siege import RSS_LIMIT_MB, percentile, rss
from lab.faults.sluice import Sluice
from lab.faults.strangers import allow_descriptors
from lab.faults.ward import EVERYONE, Room, Ward
from lab.processes import ScenarioFailed
from patient import notices
from shared.net.stream import WRITE_HIGH_WATER
from shared.wire.framing import AUTHENTICATED_LIMIT

CUT = "cut: reads nothing"  # in the doctor's log
SLOW = 4  # one patient in so many
BODY = 12_000  # bytes of a message: enough of them fill what a doctor keeps for a slow one
BLOCKS = 3  # in which each phase is measured; their median counts
RATIO = 2.0  # of the others' 99th percentiles, during and before
PATIENCE = 30.0  # seconds until a slow reader is cut, in a trial that is long enough for it
MARGIN = 5.0
QUEUE_LIMIT = (
    WRITE_HIGH_WATER + SLICE_BYTES + 2 * AUTHENTICATED_LIMIT
)  # bytes that the doctor may keep for one connection
CAUGHT_UP_WITHIN = 60.0


async def run(trial: Trial) -> Tally:
    """Fair, slow, fair again; then everything must have arrived everywhere, once."""
    allow_descriptors()
    patience = min(PATIENCE, trial.scale.seconds)
    settings = {"STALLED_READER_S": str(patience)}
    async with Ward(trial.directory, trial.seed, settings) as ward:
        ward.filler = " " + "x" * BODY
        sluice = Sluice("127.0.0.1", ward.clinic.port, ward.clinic.proxy.capture)
        async with sluice:
            slow = await ward.furnish("slow", sluice)
            others = await ward.open_room("others")
            await _fill(ward, slow, others, trial.scale.patients)
            case = Case(trial, ward, slow, others)
            before = await case.measure(0.5)
            memory = rss(ward.clinic.doctor.pid)
            sluice.narrow()
            during = await case.measure(1.0)
            await case.until_cut(patience)
            grown = rss(ward.clinic.doctor.pid) - memory
            sluice.widen()
            await case.until_caught_up()
            after = await case.measure(0.5)
            verdicts = await ward.judge()
    case.compare(before, during, after)
    case.look_at_queues(grown)
    return Tally(
        len(slow.patients),
        len(case.cut & slow.patients),
        verdicts.lost,
        verdicts.duplicated,
        verdicts.leaked,
        (*case.troubles, *verdicts.sentences()),
        figures=tuple(case.figures),
    )


async def _fill(ward: Ward, slow: Room, others: Room, patients: int) -> None:
    count = patients // SLOW
    await ward.admit(slow, [f"slow-{number}" for number in range(1, count + 1)])
    await ward.admit(others, [f"bed-{number}" for number in range(1, patients - count + 1)])


class Case:
    """What is measured and found.

    Attributes:
        cut: slow readers that the doctor has cut.
    """

    def __init__(self, trial: Trial, ward: Ward, slow: Room, others: Room) -> None:
        self.cut: set[str] = set()
        self.troubles: list[str] = []
        self.figures: list[tuple[str, float]] = []
        self._trial = trial
        self._ward = ward
        self._slow = slow
        self._others = others
        self._queues: list[float] = []
        self._said = 0

    async def measure(self, part: float) -> list[float]:
        """This part of the scale's messages, at its pace or slower; the seconds that each took to each of the others."""
        scale, first, began = self._trial.scale, len(self._ward.told), time.monotonic()
        said: dict[int, Accepted] = {}
        for turn in range(round(scale.messages * part)):
            await asyncio.sleep(began + turn * scale.seconds / scale.messages - time.monotonic())
            accepted = await self._ward.broadcast(EVERYONE)
            said[accepted.number] = accepted
            await self._ward.until_arrived(self._others.patients, CAUGHT_UP_WITHIN)
            self._said += 1
            self._trial.on_progress(self._said, 2 * scale.messages)
        return [
            told.time - said[told.notice.number].asked
            for told in self._ward.told[first:]
            if isinstance(told.notice, notices.Message)
            and told.notice.number in said
            and told.patient in self._others.patients
        ]

    async def until_cut(self, patience: float) -> None:
        """Wait until the doctor has cut every slow reader, or has had long enough for it."""
        doctor, slow = self._ward.clinic.doctor, self._slow.patients

        def cut() -> set[str]:
            return {str(line.get("patient")) for line in doctor.find(event=CUT)} & slow

        try:
            await doctor.wait_for("cut every slow reader", lambda _: cut() == slow, patience + MARGIN)
        except ScenarioFailed:
            self.troubles.append(f"{len(slow - cut())} of {len(slow)} slow readers were not cut.")
        self.cut = cut()
        for line in doctor.find(event=CUT):
            pending, stalled = line.get("pending"), line.get("seconds")
            if isinstance(pending, int | float):
                self._queues.append(pending)
            if isinstance(stalled, int | float) and stalled > patience + MARGIN:
                self.troubles.append(f"{line.get('patient')} was cut after {stalled} s only.")

    async def until_caught_up(self) -> None:
        """Everybody has everything."""
        began = time.monotonic()
        try:
            await self._ward.until_arrived(self._slow.patients, CAUGHT_UP_WITHIN)
        except ScenarioFailed as failed:
            self.troubles.append(f"Not caught up: {failed}")
        self.figures.append(("caught_up_s", round(time.monotonic() - began, 1)))

    def compare(self, before: Sequence[float], during: Sequence[float], after: Sequence[float]) -> None:
        """The others' deliveries with one another."""
        fair = mean((typical_p99(before), typical_p99(after)))
        ratio = typical_p99(during) / fair
        self.figures += [
            ("p99_fair_s", round(fair, 3)),
            ("p99_slow_s", round(typical_p99(during), 3)),
            ("p99_ratio", round(ratio, 2)),
        ]
        if ratio >= RATIO:
            self.troubles.append(
                f"The others' p99 was {ratio:.2f} times the usual; it must be below {RATIO:g}."
            )

    def look_at_queues(self, grown: float) -> None:
        """What the doctor kept for those that read nothing."""
        most = max(self._queues, default=0)
        self.figures += [("queue_max_bytes", most), ("rss_growth_mb", round(grown))]
        if most > QUEUE_LIMIT:
            self.troubles.append(f"{most} bytes were kept for one connection; the limit is {QUEUE_LIMIT}.")
        if grown >= RSS_LIMIT_MB:
            self.troubles.append(f"The doctor grew by {grown:.0f} MiB.")


def typical_p99(took: Sequence[float]) -> float:
    """The median of the 99th percentiles of a few blocks: one hiccup of the machine is in one of them."""
    size = -(-len(took) // BLOCKS)
    return median(percentile(took[start : start + size], 99) for start in range(0, len(took), size))


ROW = Row(
    name="slow-readers",
    threat="T16",
    title=f"one patient in {SLOW} reads a byte a second",
    passes=f"the others' p99 below {RATIO:g} × the usual; slow ones cut after {PATIENCE:g} s at most, and caught up; I1 to I7",
    ci=Scale(patients=20, messages=90, seconds=9),
    release=Scale(patients=200, messages=200, seconds=600),
    run=run,
)

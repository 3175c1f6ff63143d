"""T16: a quarter of the patients reads a byte a second.

Law: the others are compared with themselves, by turns with slow readers and without, in the same run and with the same messages. One message is said when all of them
have applied the one before, so what is measured is how long a delivery takes and not how long a queue is.
"""

from __future__ import annotations

import asyncio
import time
from statistics import median

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
FILL = 500_000  # bytes that are more than a doctor keeps for one that reads nothing
BODY_LIMIT = 32_000  # bytes of a message
BLOCKS = 6  # in which each is measured, by turns; their medians count, so that a busy moment of the machine does not
RATIO = 2.0  # of the others' 99th percentiles, with slow readers and without
PATIENCE = 30.0  # seconds until a slow reader is cut, in a trial that is long enough for it
MARGIN = 5.0
QUEUE_LIMIT = (
    WRITE_HIGH_WATER + SLICE_BYTES + 2 * AUTHENTICATED_LIMIT
)  # bytes that the doctor may keep for one connection
CAUGHT_UP_WITHIN = 60.0


async def run(trial: Trial) -> Tally:
    """Fair and slow by turns, the last slow ones until they are cut; then everything must have arrived everywhere, once."""
    allow_descriptors()
    patience = min(PATIENCE, trial.scale.seconds / 2)
    block = max(1, trial.scale.messages // BLOCKS)
    settings = {"STALLED_READER_S": str(patience)}
    async with Ward(trial.directory, trial.seed, settings) as ward:
        ward.filler = " " + "x" * min(BODY_LIMIT, FILL // block)
        sluice = Sluice("127.0.0.1", ward.clinic.port, ward.clinic.proxy.capture)
        async with sluice:
            slow = await ward.furnish("slow", sluice)
            others = await ward.open_room("others")
            await _fill(ward, slow, others, trial.scale.patients)
            case = Case(trial, ward, slow, others)
            for turn in range(1, BLOCKS + 1):
                await case.take_turn(sluice, block, patience if turn == BLOCKS else None)
            verdicts = await ward.judge()
    case.compare()
    case.look_at_queues()
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
        with_them, without: the others' 99th percentiles, in seconds, a block each.
    """

    def __init__(self, trial: Trial, ward: Ward, slow: Room, others: Room) -> None:
        self.cut: set[str] = set()
        self.troubles: list[str] = []
        self.figures: list[tuple[str, float]] = []
        self._trial = trial
        self._ward = ward
        self._slow = slow
        self._others = others
        self.with_them: list[float] = []
        self.without: list[float] = []
        self._grown = 0.0
        self._queues: list[float] = []
        self._caught_up = 0.0
        self._said = 0

    async def take_turn(self, sluice: Sluice, messages: int, patience: float | None) -> None:
        """A block without slow readers and one with them, who then catch up; if they are to be cut before, within `patience`."""
        doctor = self._ward.clinic.doctor
        self.without.append(await self.measure(messages))
        before = rss(doctor.pid)
        sluice.narrow()
        self.with_them.append(await self.measure(messages))
        if patience is not None:
            await self.until_cut(patience)
        self._grown = max(self._grown, rss(doctor.pid) - before)
        sluice.widen()
        await self.until_caught_up()

    async def measure(self, messages: int) -> float:
        """So many messages, at the scale's pace or slower; the 99th percentile of how long they took to each of the others."""
        scale, first, began = self._trial.scale, len(self._ward.told), time.monotonic()
        said: dict[int, Accepted] = {}
        pace = scale.seconds / 2 / scale.messages
        for turn in range(messages):
            await asyncio.sleep(began + turn * pace - time.monotonic())
            accepted = await self._ward.broadcast(EVERYONE)
            said[accepted.number] = accepted
            await self._ward.until_arrived(self._others.patients, CAUGHT_UP_WITHIN)
            self._said += 1
            self._trial.on_progress(self._said, 2 * scale.messages)
        took = [
            told.time - said[told.notice.number].asked
            for told in self._ward.told[first:]
            if isinstance(told.notice, notices.Message)
            and told.notice.number in said
            and told.patient in self._others.patients
        ]
        return percentile(took, 99)

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
        self._caught_up = max(self._caught_up, time.monotonic() - began)

    def compare(self) -> None:
        """The others' deliveries with slow readers beside them, and without."""
        ratio = median(self.with_them) / median(self.without)
        self.figures += [
            ("caught_up_max_s", round(self._caught_up, 1)),
            ("p99_fair_s", round(median(self.without), 3)),
            ("p99_slow_s", round(median(self.with_them), 3)),
            ("p99_ratio", round(ratio, 2)),
        ]
        if ratio >= RATIO:
            self.troubles.append(
                f"The others' p99 was {ratio:.2f} times the usual; it must be below {RATIO:g}."
            )

    def look_at_queues(self) -> None:
        """What the doctor kept for those that read nothing."""
        most = max(self._queues, default=0)
        self.figures += [("queue_max_bytes", most), ("rss_growth_mb", round(self._grown))]
        if most > QUEUE_LIMIT:
            self.troubles.append(f"{most} bytes were kept for one connection; the limit is {QUEUE_LIMIT}.")
        if self._grown >= RSS_LIMIT_MB:
            self.troubles.append(f"The doctor grew by {self._grown:.0f} MiB.")


ROW = Row(
    name="slow-readers",
    threat="T16",
    title=f"one patient in {SLOW} reads a byte a second",
    passes=f"the others' p99 below {RATIO:g} × the usual; slow ones cut after {PATIENCE:g} s at most, and caught up; I1 to I7",
    ci=Scale(patients=20, messages=90, seconds=16),
    release=Scale(patients=200, messages=180, seconds=600),
    run=run,
)

"""T14: a disk is full, is read-only, or fails, while messages flow; then it is well again, and nobody does anything about it.

Law: what the API has answered is the truth. Refused means that nothing has happened, accepted that it will arrive. The checker judges
the whole history of each case; then the databases must be whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from structlog.testing import capture_logs

from doctor.answers import DepartureAnswer, GroupAnswer
from doctor.journal import JOURNAL_FILE
from lab.faults import orders, volumes
from lab.faults.clinic import Clinic
from lab.faults.every_order import is_ready, until_accepted, until_all_refused
from lab.faults.history import Joined, Left
from lab.faults.outcome import Outcome
from lab.faults.row import Row, Scale, Tally, Trial
from lab.faults.sick_disks import Case, Place, Report, Trouble
from lab.faults.volumes import Volume
from lab.faults.ward import EVERYONE, Ward
from lab.faults.watch import Watch
from lab.processes import ScenarioFailed

DEVICES = ("bed-1", "bed-2", "bed-3")
ARRIVED_WITHIN = 60.0
JOURNAL_WITHIN = 20.0
PAUSE = 0.1

CASES = (
    Case(Trouble.FULL, Place.STATE),
    Case(Trouble.FULL, Place.PATIENTS),
    Case(Trouble.FAILING, Place.STATE),
    Case(Trouble.COVERED, Place.AUDIT),
    Case(Trouble.READ_ONLY, Place.STATE),
    Case(Trouble.FULL_AT_START, Place.STATE),
)


async def run(trial: Trial) -> Tally:
    """Every case in a clinic of its own, one after the other."""
    mounting = volumes.can_mount(trial.directory)
    # Without the right to mount, the only disk that can be made sick is that of a process.
    possible = CASES if mounting else tuple(case for case in CASES if case.trouble is Trouble.FAILING)
    cases = possible[: trial.scale.count]
    outcome = Outcome(trial, len(cases))
    refused = lost = duplicated = leaked = 0
    for number, case in enumerate(cases):
        report = Report()
        try:
            # The devices live in this process; what they log of a sick disk is theirs to say, and nobody's to read here.
            with capture_logs():
                await Work(case, trial.directory / str(number), trial.seed + number, report).run()
        except (ScenarioFailed, orders.NotAnswered) as error:
            report.flaws.append(str(error))
        refused += report.refused
        lost, duplicated, leaked = lost + report.lost, duplicated + report.duplicated, leaked + report.leaked
        if report.flaws:
            outcome.fail(f"{case}: {' · '.join(report.flaws)}")
        else:
            outcome.survive(report.recovery)
    tally = outcome.tally(figures=(("mounted_volumes", float(mounting)), ("orders_refused", float(refused))))
    return Tally(
        tally.tried, tally.survived, lost, duplicated, leaked, tally.findings, tally.recovery, tally.figures
    )


class Work:
    """One case."""

    def __init__(self, case: Case, directory: Path, seed: int, report: Report) -> None:
        self._case = case
        self._directory = directory
        self._seed = seed
        self._report = report

    async def run(self) -> None:
        """All of it."""
        self._directory.mkdir()
        with self._volume() as volume:
            if self._case.trouble is Trouble.FULL_AT_START:
                await self._refuse_to_start(volume)
            async with Ward(self._directory, self._seed) as ward:
                room = await ward.open_room("main")
                await ward.admit(room, DEVICES)
                for _ in range(4):
                    await ward.broadcast()
                    await ward.send(DEVICES[0])
                await ward.until_arrived(set(DEVICES), ARRIVED_WITHIN)
                await self._act(ward, volume)
                for name, member in room.swarm.members.items():
                    if (
                        member.task is None and name in ward.members[EVERYONE]
                    ):  # its program ended, as it may; whoever runs it starts it again
                        room.swarm.start(name)
                await ward.broadcast()
                await ward.until_arrived(set(DEVICES), ARRIVED_WITHIN)
                await self._judge(ward)

    @contextmanager
    def _volume(self) -> Iterator[Volume | None]:
        if self._case.trouble in (Trouble.FAILING, Trouble.COVERED):
            yield None
            return
        with volumes.mounted(self._case.place.below(self._directory)) as volume:
            yield volume

    async def _act(self, ward: Ward, volume: Volume | None) -> None:
        match self._case:
            case Case(Trouble.FULL, Place.PATIENTS):
                await self._fill_homes(ward, volume)
            case Case(Trouble.COVERED, Place.AUDIT):
                await self._cover_audit(ward)
            case Case(Trouble.FULL | Trouble.FAILING, _):
                await self._refuse_orders(ward, volume)
            case Case(Trouble.READ_ONLY, _):
                await self._refuse_to_start_again(ward, volume)

    # The doctor's state

    async def _refuse_orders(self, ward: Ward, volume: Volume | None) -> None:
        """While the disk is sick every kind of order is refused; afterwards there is no trace of one, and all work again."""
        room = ward.rooms["main"]
        late = await ward.clinic.invite("late")
        await ward.admit(room, ["leaver"])
        asked = time.monotonic()
        pid = ward.clinic.doctor.pid
        with self._sick(ward, volume):
            room.swarm.enrol("late", late)
            groups = await until_all_refused(ward, DEVICES[1], self._report)
            if await is_ready(ward):
                self._report.flaws.append("the doctor called itself ready while it accepted nothing")
        await until_accepted(ward, self._report)
        await room.swarm.until_connected({"late", "leaver"}, ARRIVED_WITHIN)
        ward.history.add(Joined(time=time.monotonic(), asked=asked, patient="late", group=EVERYONE))
        ward.members[EVERYONE].add("late")
        found = {group.name for group in await ward.clinic.orders.get("/v1/groups", list[GroupAnswer])}
        if found != {"everyone", *groups}:
            self._report.flaws.append(f"the groups are {sorted(found)}, accepted were {sorted(groups)}")
        if ward.clinic.doctor.pid != pid or ward.clinic.doctor.ended:
            self._report.flaws.append("the doctor did not live through it")

    @contextmanager
    def _sick(self, ward: Ward, volume: Volume | None) -> Iterator[None]:
        if volume is not None:
            volume.fill()
        else:
            volumes.refuse_growth(ward.clinic.doctor.pid, refuse=True)
        try:
            yield
        finally:
            if volume is not None:
                volume.free()
            else:
                volumes.refuse_growth(ward.clinic.doctor.pid, refuse=False)

    # The audit volume

    async def _cover_audit(self, ward: Ward) -> None:
        """Messages are not its business; a revocation stands, and is entered in the journal when that can be written."""
        await ward.admit(ward.rooms["main"], ["leaver"])
        with volumes.covered(ward.clinic.audit_dir):
            await ward.broadcast()
            asked = time.monotonic()
            await ward.clinic.orders.post("/v1/patients/leaver/revoke", None, DepartureAnswer)
            left = Left(time=time.monotonic(), asked=asked, patient="leaver", reason="revoked")
            ward.history.add(left)
            ward.members[EVERYONE].discard("leaver")
            if not ward.clinic.doctor.find(event="journal behind"):
                self._report.flaws.append("the doctor has not logged that its journal is behind")
        began = time.monotonic()
        journal = ward.clinic.audit_dir / JOURNAL_FILE
        while not journal.exists() or b"leaver" not in journal.read_bytes():
            if time.monotonic() - began > JOURNAL_WITHIN:
                self._report.flaws.append("the journal was not completed")
                return
            await asyncio.sleep(PAUSE)
        self._report.recovery = time.monotonic() - began

    # The patients' homes

    async def _fill_homes(self, ward: Ward, volume: Volume | None) -> None:
        """The doctor goes on; what devices cannot store they do not acknowledge, and fetch when they can."""
        with self._sick(ward, volume):
            for _ in range(20):
                await ward.broadcast()
            await asyncio.sleep(1.0)  # what could be stored is stored now; there is nothing to wait for
            if not ward.owed(DEVICES):
                self._report.flaws.append("full homes have stored everything: the trouble was none")
        began = time.monotonic()
        for name, member in ward.rooms["main"].swarm.members.items():
            if member.task is None:
                ward.rooms["main"].swarm.start(name)
        await ward.until_arrived(set(DEVICES), ARRIVED_WITHIN)
        self._report.recovery = time.monotonic() - began

    # Starts

    async def _refuse_to_start(self, volume: Volume | None) -> None:
        """The first start, on a volume without a byte left."""
        assert volume is not None  # noqa: S101  these cases have one
        volume.fill()
        self.judge_words(await _stillborn(self._directory))
        volume.free()

    async def _refuse_to_start_again(self, ward: Ward, volume: Volume | None) -> None:
        """A later start, on a volume that was made read-only meanwhile."""
        assert volume is not None  # noqa: S101  these cases have one
        await ward.clinic.stop()
        volume.set_read_only(True)
        try:
            await ward.clinic.start()
        except ScenarioFailed as error:
            self.judge_words(str(error))
        else:
            self._report.flaws.append("the doctor started on a read-only volume")
            await ward.clinic.stop()
        volume.set_read_only(False)
        self._report.recovery = await ward.clinic.start()

    def judge_words(self, words: str) -> None:
        """It must have ended by itself, with one line that names the place."""
        place = str(self._case.place.below(self._directory))
        if "Traceback" in words or place not in words:
            self._report.flaws.append(f"it did not start and said: {words[-300:]}")

    # Afterwards

    async def _judge(self, ward: Ward) -> None:
        verdicts = await ward.judge()
        self._report.lost, self._report.duplicated = verdicts.lost, verdicts.duplicated
        self._report.leaked = verdicts.leaked
        self._report.flaws += verdicts.sentences()
        for path in sorted(self._directory.rglob("*.db")):
            with contextlib.closing(sqlite3.connect(path)) as db:
                (found,) = db.execute("PRAGMA integrity_check").fetchone()
            if found != "ok":
                self._report.flaws.append(f"{path.name} is damaged: {found}")


async def _stillborn(directory: Path) -> str:
    """What a doctor says whose first start must fail."""
    clinic = Clinic(directory, Watch())
    try:
        async with clinic:
            return "it started"
    except ScenarioFailed as error:
        await clinic.__aexit__(None, None, None)  # the block was never entered
        return str(error)


ROW = Row(
    name="disk",
    threat="T14",
    title="a disk full, read-only or failing under the doctor's state, its audit volume and the patients' homes",
    passes="orders refused with 503, nothing accepted lost, serving again by itself, databases whole",
    ci=Scale(count=3),
    release=Scale(count=len(CASES)),
    run=run,
)

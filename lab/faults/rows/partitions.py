"""T11: the network between some patients and the doctor fails for a while, in eight ways, and comes back.

Law: every case has a network of its own, and all cases of a batch run beside one another before one doctor, which goes on
broadcasting to everybody and writing to each, while each reports. What a case is judged by: after the healing its devices are connected and have applied all that was
accepted, before, meanwhile and afterwards. The checker judges the whole.

What was held back by a partition arrives when it heals, at once. A real TCP waits for its next retransmission, a minute at
worst; so long a silence both programs end by themselves.
"""

from __future__ import annotations

import asyncio
import random as pseudo
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, unique

from lab.faults.capture import Way
from lab.faults.outcome import Outcome
from lab.faults.row import Row, Scale, Tally, Trial
from lab.faults.ward import EVERYONE, Room, Ward
from lab.processes import ScenarioFailed
from shared.protocol.clock import SECOND
from shared.protocol.connection import SILENCE_LIMIT

CONVERGED_WITHIN = 30.0  # seconds from the healing
IN_A_BATCH = 10
FLICKER = 0.7  # seconds between two cuts of a flickering network
PAUSE = 0.2  # seconds between two broadcasts
GROUP = "ward-a"


@unique
class Kind(Enum):
    """What the network does; the value is its name in findings."""

    BOTH_WAYS = "a partition both ways"
    TO_DOCTOR = "nothing comes to the doctor"
    TO_PATIENT = "nothing comes to the patients"
    PATIENT_GONE = "the patients' ends are lost, the doctor is not told"
    DOCTOR_GONE = "the doctor's ends are lost, the patients are not told"
    SWALLOWED = "the doctor's ends are lost, and the patients never told"
    MID_FRAME = "a reset in mid-frame"
    CUT = "every connection is cut"
    FLICKERING = "every connection is cut again and again"


LASTING = (
    Kind.BOTH_WAYS,
    Kind.TO_DOCTOR,
    Kind.TO_PATIENT,
    Kind.PATIENT_GONE,
    Kind.DOCTOR_GONE,
    Kind.FLICKERING,
)
SILENT = (Kind.BOTH_WAYS, Kind.TO_PATIENT, Kind.DOCTOR_GONE)
"""During these nothing can come to a patient."""


@dataclass(frozen=True, slots=True)
class Case:
    """One fault: its kind, and how many seconds it lasts."""

    kind: Kind
    seconds: float

    @property
    def patience(self) -> float:
        """Seconds from the healing within which everything must have arrived.

        A device whose packets vanish can only notice by its own watch for silence, which runs from the loss.
        """
        return CONVERGED_WITHIN + (SILENCE_LIMIT / SECOND if self.kind is Kind.SWALLOWED else 0)


QUICK = (
    Case(Kind.BOTH_WAYS, 1),
    Case(Kind.BOTH_WAYS, 14),
    Case(Kind.TO_DOCTOR, 12),
    Case(Kind.TO_PATIENT, 12),
    Case(Kind.PATIENT_GONE, 4),
    Case(Kind.DOCTOR_GONE, 4),
    Case(Kind.MID_FRAME, 0),
    Case(Kind.MID_FRAME, 0),
    Case(Kind.CUT, 0),
    Case(Kind.FLICKERING, 8),
)
"""One of each that fits into a minute."""


def cases(count: int, dice: pseudo.Random) -> Iterator[Case]:
    """The quick ones first; then every kind in turn, for 1 to 60 seconds."""
    yield from QUICK[:count]
    kinds = list(Kind)
    for index in range(count - len(QUICK)):
        kind = kinds[index % len(kinds)]
        yield Case(kind, round(60 ** dice.random(), 1) if kind in LASTING else 0)


async def inflict(case: Case, room: Room, dice: pseudo.Random) -> None:
    """Do to a network what the case says, for its time; what lasts beyond it ends with `network.heal`."""
    network = room.network
    match case.kind:
        case Kind.BOTH_WAYS:
            network.partition()
        case Kind.TO_DOCTOR:
            network.partition(Way.TO_DOCTOR)
        case Kind.TO_PATIENT:
            network.partition(Way.TO_PATIENT)
        case Kind.PATIENT_GONE:
            network.partition()
            network.lose_ends(Way.TO_PATIENT)
        case Kind.DOCTOR_GONE:
            network.partition()
            network.lose_ends(Way.TO_DOCTOR)
        case Kind.SWALLOWED:
            network.lose_ends(Way.TO_DOCTOR, swallow=True)
        case Kind.MID_FRAME:
            await network.reset_in_mid_frame(dice.randrange(1, 100)).wait()
        case Kind.CUT:
            network.cut_all()
        case Kind.FLICKERING:
            until = time.monotonic() + case.seconds
            while time.monotonic() < until:
                network.cut_all()
                await asyncio.sleep(FLICKER)
            return
    await asyncio.sleep(case.seconds)


async def run(trial: Trial) -> Tally:
    """All cases, a batch at a time; devices and networks stay from batch to batch."""
    dice = pseudo.Random(trial.seed)  # noqa: S311  repeatable faults, not secrets
    todo = list(cases(trial.scale.count, dice))
    outcome = Outcome(trial, len(todo))
    async with Ward(trial.directory, trial.seed) as ward:
        await ward.create_group(GROUP)
        rooms = await _fill_rooms(ward, min(IN_A_BATCH, len(todo)), trial.scale.patients)
        for batch in _batches(todo, len(rooms)):
            async with ward.traffic((EVERYONE, GROUP), PAUSE, reports=True), asyncio.TaskGroup() as tasks:
                for case, room in zip(batch, rooms, strict=False):
                    tasks.create_task(_endure(ward, room, case, dice, outcome))
        return outcome.tally(await ward.judge(), (("messages", ward.said),))


async def _fill_rooms(ward: Ward, count: int, patients: int) -> list[Room]:
    rooms = []
    for number in range(1, count + 1):
        room = await ward.open_room(f"room-{number:02}")
        names = [f"{room.name}-bed-{bed}" for bed in range(1, max(2, patients // count) + 1)]
        await ward.admit(room, names[:1], (GROUP,))
        await ward.admit(room, names[1:])
        rooms.append(room)
    return rooms


def _batches(todo: Sequence[Case], size: int) -> Iterator[Sequence[Case]]:
    return (todo[index : index + size] for index in range(0, len(todo), size))


async def _endure(ward: Ward, room: Room, case: Case, dice: pseudo.Random, outcome: Outcome) -> None:
    await inflict(case, room, dice)
    if case.kind in SILENT and not ward.owed(room.patients):
        outcome.fail(
            f"{case.kind.value}, {case.seconds:g} s, {room.name}: it came through, nothing was tried."
        )
        return
    room.network.heal()
    healed = time.monotonic()
    await ward.broadcast()
    try:
        await ward.until_arrived(room.patients, case.patience)
    except ScenarioFailed as failed:
        outcome.fail(f"{case.kind.value}, {case.seconds:g} s, {room.name}: {failed}")
    else:
        outcome.survive(time.monotonic() - healed)


ROW = Row(
    name="partitions",
    threat="T11",
    title="partitions both ways and one way, ends lost silently, resets in mid-frame, cuts, 1 to 60 s",
    passes=f"all has arrived at most {CONVERGED_WITHIN:g} s after the healing, of a loss that nobody was told of after the watch for silence; I1 to I7",
    ci=Scale(count=10, patients=20),
    release=Scale(count=100, patients=40),
    run=run,
)

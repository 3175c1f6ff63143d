"""T12: delays of 50, 200 and 1000 ms give or take half, 1 Mbit/s, stalls as retransmissions make them, connections that are lost.

Law: each weather has devices of its own, which go away and come back again and again while the doctor broadcasts to everybody and
writes to each. Connections of one weather overtake one another; within a connection order is kept, as TCP keeps it.

The loss of single packets is not tested. A userspace proxy cannot lose one: TCP below it would send it again, and what is left
of it above is a stall, which is what the proxy makes.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from lab.faults.outcome import Outcome
from lab.faults.proxy import FAIR, Weather
from lab.faults.row import Row, Scale, Tally, Trial
from lab.faults.ward import EVERYONE, Room, Ward
from lab.faults.weather import grid
from lab.processes import ScenarioFailed

SOON = 15.0  # seconds for a handshake
SHARE_SOON = 0.99  # of the handshakes, where no connection is lost and a delay is at most 200 ms
AT_ALL = 60.0  # seconds within which every device must have come back
IN_THE_END = 180.0  # the same where a delay is a second
CONVERGED_WITHIN = 30.0  # seconds from the last return
HANDSHAKES = 100  # in each weather
BESIDE_ONE_ANOTHER = 4
PAUSE = 0.5  # seconds between two messages
CI = (
    "50 ms, 1 Mbit/s",
    "200 ms, 1 Mbit/s, stalls",
    "200 ms, stalls, lost connections",
    "1000 ms",
)


@dataclass(slots=True)
class Climate:
    """One weather: how long each handshake in it took, in seconds from the start of the device."""

    name: str
    weather: Weather
    took: list[float] = field(default_factory=list)

    @property
    def strict(self) -> bool:
        """Whether nearly every handshake must come about soon."""
        return self.weather.delay <= 0.2 and not self.weather.loss

    @property
    def patience(self) -> float:
        """Seconds within which every device must have come back.

        With a second each way five flights and one stall outlast the ten seconds that a handshake may take: a device needs several
        attempts, with the pauses of its back-off between them, and how many is chance.
        """
        return AT_ALL if self.weather.delay <= 0.2 else IN_THE_END

    @property
    def share_soon(self) -> float:
        """How many of the handshakes came about soon."""
        return sum(seconds <= SOON for seconds in self.took) / len(self.took)


def climates(count: int) -> Iterator[Climate]:
    """Those of continuous integration first, then the rest of the grid."""
    known = grid()
    names = itertools.chain(CI, (name for name in known if name not in CI))
    return (Climate(name, known[name]) for name in itertools.islice(names, count))


async def run(trial: Trial) -> Tally:
    """All weathers, a few beside one another; rooms and devices stay, the weather in them changes."""
    todo = list(climates(trial.scale.count))
    outcome = Outcome(trial, len(todo))
    async with Ward(trial.directory, trial.seed) as ward:
        rooms = await _fill_rooms(ward, min(BESIDE_ONE_ANOTHER, len(todo)), trial.scale.patients)
        for first in range(0, len(todo), len(rooms)):
            batch = todo[first : first + len(rooms)]
            async with ward.traffic((EVERYONE,), PAUSE, reports=True), asyncio.TaskGroup() as tasks:
                for climate, room in zip(batch, rooms, strict=False):
                    tasks.create_task(_endure(ward, climate, room, outcome))
        verdicts = await ward.judge()
    return outcome.tally(verdicts, (("messages", ward.said), *figures(todo)))


async def _fill_rooms(ward: Ward, count: int, patients: int) -> list[Room]:
    rooms = []
    for number in range(1, count + 1):
        room = await ward.open_room(f"room-{number}")
        await ward.admit(room, [f"{room.name}-bed-{bed:02}" for bed in range(1, patients // count + 1)])
        rooms.append(room)
    return rooms


async def _endure(ward: Ward, climate: Climate, room: Room, outcome: Outcome) -> None:
    """A room's devices come and go in this weather, until there were enough handshakes; then all must arrive."""
    room.network.weather = climate.weather
    times = math.ceil(HANDSHAKES / len(room.patients))
    try:
        async with asyncio.TaskGroup() as tasks:
            for name in room.patients:
                tasks.create_task(_come_and_go(room, name, times, climate))
        lossy = climate.weather.loss > 0
        await ward.until_arrived(room.patients, CONVERGED_WITHIN, in_session=not lossy)
    except* ScenarioFailed as failed:
        outcome.fail(f"{climate.name}: {failed.exceptions[0]}")
    else:
        if climate.strict and climate.share_soon < SHARE_SOON:
            late = (
                f"{1 - climate.share_soon:.1%} of {len(climate.took)} handshakes took longer than {SOON:g} s"
            )
            outcome.fail(f"{climate.name}: {late}, the slowest {max(climate.took):.1f} s.")
        else:
            outcome.survive()
    finally:
        room.network.weather = FAIR


async def _come_and_go(room: Room, name: str, times: int, climate: Climate) -> None:
    for _ in range(times):
        await room.swarm.stop(name)
        began = time.monotonic()
        room.swarm.start(name)
        await room.swarm.until_connected({name}, climate.patience)
        climate.took.append(time.monotonic() - began)


def figures(climates: Iterable[Climate]) -> Iterator[tuple[str, float]]:
    """How many handshakes there were, and how long they took at each delay, in seconds."""
    yield "handshakes", sum(len(climate.took) for climate in climates)
    by_delay: dict[float, list[float]] = {}
    for climate in climates:
        by_delay.setdefault(climate.weather.delay, []).extend(climate.took)
    for delay, took in sorted(by_delay.items()):
        took.sort()
        for percent in (50, 99):
            yield f"p{percent}_at_{delay * 1000:g}_ms_s", round(took[len(took) * percent // 100], 2)


ROW = Row(
    name="weather",
    threat="T12",
    title="delays of 50, 200, 1000 ms ±50 %, 1 Mbit/s, stalls, connections lost; devices come and go",
    passes=f"{SHARE_SOON:.0%} of handshakes within {SOON:g} s up to 200 ms with stalls, all within {AT_ALL:g} s, at 1000 ms within {IN_THE_END:g} s; I1 to I7",
    ci=Scale(count=4, patients=100),
    release=Scale(count=24, patients=100),
    run=run,
)

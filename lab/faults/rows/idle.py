"""T17: connections that are opened and say nothing, and sessions that say nothing.

Law: twice, by two doctors. One has room for all of them, which shows that the deadline reaps each and what they cost in memory. The other has
the limits of a shipped one, and whoever is cut comes again at once: the door is full all the time, and honest devices come in.
"""

from __future__ import annotations

import asyncio
import time

from lab.faults.callers import Caller
from lab.faults.row import Row, Scale, Tally, Trial
from lab.faults.siege import RSS_LIMIT_MB, Seen, Siege, besieged
from lab.faults.strangers import Crowd, addresses, at_rate

SOURCES = 64
DEADLINE = 10.0  # seconds, the doctor's
MARGIN = 2.0
HONEST_P99 = 2.0
A_SECOND = 2000  # connections, while they come
INSIDE = 3  # patients of the ward
COME_AGAIN = 1.0  # seconds from being cut to the next attempt
INSISTENT = 2000  # that come again: twice as many as the door has places
ENROLLING = 8  # devices beside one another


async def run(trial: Trial) -> Tally:
    """Both doctors, one after the other."""
    held, reaped, kept, roomy, troubles = await _with_room_for_all(trial)
    full = await _with_a_full_door(trial)
    troubles += full.troubles(share=0.99, p99=HONEST_P99)
    figures = [("sessions_kept", kept), *roomy.figures("roomy"), *full.figures("full")]
    return Tally(held, reaped, findings=tuple(troubles), figures=tuple(figures))


async def _with_room_for_all(trial: Trial) -> tuple[int, int, int, Seen, list[str]]:
    """How many connections were held, how many of them reaped in time; how many idle sessions were kept; what was seen."""
    count = trial.scale.count
    limits = {"HALF_OPEN_LIMIT": str(2 * count), "HALF_OPEN_PER_ADDRESS": str(count)}
    async with besieged(trial, "roomy", INSIDE, limits) as siege:
        idle = await _idle_sessions(siege, trial.scale.patients)
        crowd = Crowd(siege.target, addresses(SOURCES))
        async with siege.watched() as seen:
            await at_rate(A_SECOND, count / A_SECOND, crowd.send)
            most = crowd.standing
            await _until_gone(crowd, trial)
        kept = sum(caller.inside for caller in idle)
        await asyncio.gather(*(caller.leave() for caller in idle))
    reaped = sum(each.closed is not None and each.held <= DEADLINE + MARGIN for each in crowd.everyone)
    troubles = seen.troubles(share=0.99, p99=HONEST_P99)
    if kept < len(idle):
        troubles.append(f"{len(idle) - kept} of {len(idle)} idle sessions were lost.")
    if most < 0.9 * len(crowd.everyone) or crowd.unheard:
        troubles.append(
            f"Only {most} of {count} connections stood at once; {crowd.unheard} were not heard at all."
        )
    return len(crowd.everyone), reaped, kept, seen, troubles


async def _idle_sessions(siege: Siege, count: int) -> list[Caller]:
    """So many sessions that are let in, stay, and say nothing but what the protocol wants."""
    callers = [siege.caller() for _ in range(count)]
    turn = asyncio.Semaphore(ENROLLING)

    async def come(caller: Caller) -> None:
        async with turn:
            await caller.come()

    await asyncio.gather(*(come(caller) for caller in callers))
    return callers


async def _until_gone(crowd: Crowd, trial: Trial) -> None:
    """Wait until the doctor has ended them all, or has had long enough for it."""
    until = time.monotonic() + DEADLINE + 2 * MARGIN
    for done, stranger in enumerate(crowd.everyone):
        try:
            async with asyncio.timeout_at(
                asyncio.get_running_loop().time() + max(0.0, until - time.monotonic())
            ):
                await stranger.over.wait()
        except TimeoutError:
            break
        trial.on_progress(done, len(crowd.everyone))
    crowd.let_go()


async def _with_a_full_door(trial: Trial) -> Seen:
    """Idle connections that come again whenever they are cut, for as long as the row has seconds."""
    async with besieged(trial, "full", INSIDE, {}) as siege:
        crowd = Crowd(siege.target, addresses(SOURCES))
        over = time.monotonic() + trial.scale.seconds

        async def insist() -> None:
            while time.monotonic() < over:
                stranger = await crowd.send()
                if stranger is None:
                    return
                try:
                    async with asyncio.timeout(max(0.0, over - time.monotonic())):
                        await stranger.over.wait()
                    await asyncio.sleep(COME_AGAIN)
                except TimeoutError:
                    return

        async with siege.watched() as seen:
            await asyncio.gather(*(insist() for _ in range(min(trial.scale.count, INSISTENT))))
            crowd.let_go()
    return seen


ROW = Row(
    name="idle-connections",
    threat="T17",
    title="connections that say nothing, from 64 addresses; sessions that say nothing",
    passes=f"each reaped after {DEADLINE:g} s; honest handshakes p99 below {HONEST_P99:g} s; memory below {RSS_LIMIT_MB} MiB",
    ci=Scale(count=2000, patients=50, seconds=10),
    release=Scale(count=10_000, patients=1000, seconds=120),
    run=run,
)

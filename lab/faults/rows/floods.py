"""T18 and T19: connections and handshakes by the hundred a second.

Law: each flood comes twice, in two ways that ask for different defences, against a doctor with the limits of a shipped one. Honest
devices come from an address of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial

from doctor.door import DoorKeeper, TurnedAway
from doctor.settings import DoctorSettings
from lab.faults.counting import PROGRAM, Count, count_of
from lab.faults.forgers import Forger
from lab.faults.row import Row, Scale, Tally, Trial
from lab.faults.siege import Seen, besieged
from lab.faults.strangers import Crowd, addresses, at_rate

CONNECTIONS_A_SECOND = 2000
HANDSHAKES_A_SECOND = 500
MANY = 64
INSIDE = 5  # patients of the ward
HOLD = 1.0  # seconds that a connection is held, unless the doctor cuts it
HONEST = 0.95  # share of the honest handshakes
HONEST_P99 = 5.0
FAILING = DoctorSettings().failing_per_second
OPERATIONS_A_HANDSHAKE = 4  # asymmetric ones of the doctor's: open, verify, encapsulate, sign


# Connections


async def flood_connections(trial: Trial) -> Tally:
    """From one address, and then from many."""
    begun, figures, troubles = 0, [], []
    for name, count in (("one", 1), ("many", MANY)):
        async with besieged(trial, name, INSIDE, {}) as siege:
            crowd = Crowd(siege.target, addresses(count))
            async with siege.watched() as seen:
                begun += await at_rate(CONNECTIONS_A_SECOND, trial.scale.seconds, partial(_hold, crowd))
                crowd.let_go()
        trial.on_progress(begun, 2 * round(CONNECTIONS_A_SECOND * trial.scale.seconds))
        turned_away = _turned_away(seen)
        figures += [
            *seen.figures(name),
            (f"{name}_a_second", round(begun_a_second(crowd, seen))),
            (f"{name}_turned_away", turned_away),
        ]
        troubles += [f"{name}: {trouble}" for trouble in seen.troubles(HONEST, HONEST_P99)]
        if not turned_away:
            troubles.append(f"{name}: nobody was turned away, or the log does not say so.")
    return Tally(begun, begun if not troubles else 0, findings=tuple(troubles), figures=tuple(figures))


async def _hold(crowd: Crowd) -> None:
    stranger = await crowd.send()
    if stranger is not None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HOLD):
                await stranger.over.wait()
        stranger.let_go()


def begun_a_second(crowd: Crowd, seen: Seen) -> float:
    """Connections a second that the kernel has passed on."""
    return len(crowd.everyone) / seen.seconds


def _turned_away(seen: Seen) -> int:
    """How many the log says were."""
    return sum(seen.counted[why.value] for why in TurnedAway)


# Handshakes


async def flood_handshakes(trial: Trial) -> Tally:
    """By forgers that do not listen, and by forgers that bring every cookie."""
    begun, figures, troubles = 0, [], []
    for name, ways in (("blind", Forger.blind), ("insistent", Forger.insist)):
        seen, count, forged = await _forge(trial, name, ways)
        begun += forged
        trial.on_progress(begun, 2 * round(HANDSHAKES_A_SECOND * trial.scale.seconds))
        figures += [
            *seen.figures(name),
            (f"{name}_let_in", round(seen.share_let_in, 3)),
            (f"{name}_retries", count.retries),
            (f"{name}_operations_not_asked", count.not_asked),
            (f"{name}_operations_cookie", count.cookie),
            (f"{name}_operations_nothing", count.nothing),
        ]
        found = [*seen.troubles(HONEST, HONEST_P99), *operations(seen, count, trial.scale.seconds)]
        troubles += [f"{name}: {trouble}" for trouble in found]
    return Tally(begun, begun if not troubles else 0, findings=tuple(troubles), figures=tuple(figures))


async def _forge(
    trial: Trial, name: str, way: Callable[[Forger], Awaitable[None]]
) -> tuple[Seen, Count, int]:
    """One kind of flood; what was seen, what the doctor counted, and how many handshakes were begun."""
    async with besieged(trial, name, INSIDE, {}, PROGRAM) as siege:
        forger = Forger(Crowd(siege.target, addresses(MANY)), "bed-1")
        async with siege.watched() as seen:
            begun = await at_rate(HANDSHAKES_A_SECOND, trial.scale.seconds, partial(way, forger))
    return seen, count_of(siege.ward.clinic.doctor), begun


def operations(seen: Seen, count: Count, seconds: float) -> list[str]:
    """Whether the doctor worked for strangers that had shown nothing, or noticed too late what was going on."""
    found = []
    if count.nothing:
        found.append(f"{count.nothing} asymmetric operations under load for who had shown no cookie.")
    if not count.retries:
        found.append("Nobody was asked for a cookie.")
    honest = len(seen.took) + seen.failed + INSIDE + 10
    unnoticed = 2 * DoorKeeper.NEVER_CROWDED + FAILING * (seconds + 10)
    limit = OPERATIONS_A_HANDSHAKE * (honest + unnoticed)
    if count.not_asked > limit:
        found.append(
            f"{count.not_asked} operations before the load was noticed; at most {limit:.0f} were to be."
        )
    return found


CONNECTIONS = Row(
    name="connection-flood",
    threat="T18",
    title=f"{CONNECTIONS_A_SECOND:,} connections a second, from one address and from {MANY}",
    passes="established sessions untouched; who is turned away shows in a bounded log; honest devices get in",
    ci=Scale(seconds=10),
    release=Scale(seconds=60),
    run=flood_connections,
)
HANDSHAKES = Row(
    name="handshake-flood",
    threat="T19",
    title=f"{HANDSHAKES_A_SECOND} handshakes a second with a bad proof, with and without the cookie",
    passes=f"{HONEST:.0%} of honest handshakes, p99 below {HONEST_P99:g} s; no asymmetric operation under load without a cookie",
    ci=Scale(seconds=10),
    release=Scale(seconds=60),
    run=flood_handshakes,
)

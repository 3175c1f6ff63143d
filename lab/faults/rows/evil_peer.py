"""T5, T6, T7, T22: what a peer can do that does not keep to the protocol, and what anyone on the way can.

Law: what is tried and what must answer stands in `lab.evil`; this is the campaign's end of it. What only computes has a
thread of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from lab.evil import live
from lab.evil.flips import try_flips
from lab.evil.insiders import try_forgeries
from lab.evil.replays import CASES, try_replays
from lab.evil.table import MISBEHAVIOURS, try_all
from lab.faults.clinic import Clinic
from lab.faults.row import OnProgress, Row, Run, Scale, Tally, Trial
from lab.faults.watch import Watch


def _in_a_thread(work: Callable[[int, int, OnProgress], Tally]) -> Run:
    """A row that counts to `count` with a seed."""

    async def run(trial: Trial) -> Tally:
        return await asyncio.to_thread(work, trial.scale.count, trial.seed, trial.on_progress)

    return run


async def _misbehave(trial: Trial) -> Tally:
    """First the real connections in memory, then the doctor's own program in a process."""
    times, seed = trial.scale.count, trial.seed
    rows, live_rows = times * len(MISBEHAVIOURS), times * len(live.ROWS)

    def first(done: int, _: int) -> None:
        trial.on_progress(done, rows + live_rows)

    def then(done: int, _: int) -> None:
        trial.on_progress(rows + done, rows + live_rows)

    one = await asyncio.to_thread(try_all, MISBEHAVIOURS, times, seed, first)
    async with Clinic(trial.directory, Watch(), live.SETTINGS, seed) as clinic:
        other = await live.try_live(clinic, times, seed, then)
    return Tally(
        one.tried + other.tried,
        one.survived + other.survived,
        leaked=one.leaked + other.leaked,
        findings=one.findings + other.findings,
    )


EVIL_PEER = Row(
    name="evil-peer",
    threat="T7",
    title=f"a second implementation lies in {len(MISBEHAVIOURS) + len(live.ROWS)} ways, so often each, beside the same without the lie",
    passes="no lie succeeds; each is answered by the check that is named for it; nobody else notices",
    ci=Scale(count=5),
    release=Scale(count=100),
    run=_misbehave,
)
REPLAY = Row(
    name="replay",
    threat="T6",
    title=f"six kinds of message again in eight contexts, at points that are drawn ({len(CASES)} cases in turn)",
    passes="none is accepted, each for the named reason; nothing takes effect twice",
    ci=Scale(count=960),
    release=Scale(count=12_000),
    run=_in_a_thread(try_replays),
)
BIT_FLIPS = Row(
    name="bit-flips",
    threat="T5",
    title="one bit changed in a handshake, a group key, a broadcast or a receipt, of two suites",
    passes="no changed frame is taken, and a check says so",
    ci=Scale(count=3_000),
    release=Scale(count=87_280),  # every bit of both
    run=_in_a_thread(try_flips),
)
INSIDER = Row(
    name="insider",
    threat="T22",
    title="a member of the group forges broadcasts with its key, in sessions that go on",
    passes="none is shown, each for the named reason; what was said is shown once, in order",
    ci=Scale(count=100),
    release=Scale(count=1_000),
    run=_in_a_thread(try_forgeries),
)

ROWS = (BIT_FLIPS, REPLAY, EVIL_PEER, INSIDER)

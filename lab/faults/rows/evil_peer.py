"""T5, T6, T7, T22: what a peer can do that does not keep to the protocol, and what anyone on the way can.

Law: what is tried and what must answer stands in `lab.evil`; this is the campaign's end of it. These rows compute and wait for
nothing, so each has a thread of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from lab.evil.flips import try_flips
from lab.evil.insiders import try_forgeries
from lab.evil.replays import CASES, try_replays
from lab.evil.table import MISBEHAVIOURS, try_all
from lab.faults.row import OnProgress, Row, Run, Scale, Tally, Trial


def _in_a_thread(work: Callable[[int, int, OnProgress], Tally]) -> Run:
    """A row that counts to `count` with a seed."""

    async def run(trial: Trial) -> Tally:
        return await asyncio.to_thread(work, trial.scale.count, trial.seed, trial.on_progress)

    return run


def _misbehave(times: int, seed: int, on_progress: OnProgress) -> Tally:
    return try_all(MISBEHAVIOURS, times, seed, on_progress)


EVIL_PEER = Row(
    name="evil-peer",
    threat="T7",
    title=f"a second implementation lies in {len(MISBEHAVIOURS)} ways, so often each, beside the same without the lie",
    passes="no lie succeeds; each is answered by the check that is named for it; nobody else notices",
    ci=Scale(count=5),
    release=Scale(count=100),
    run=_in_a_thread(_misbehave),
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

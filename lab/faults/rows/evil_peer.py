"""T7: a second implementation of the protocol that lies, by name, to the real doctor and to real patients.

Law: what is lied and what must answer stands in `lab.evil`; this is the campaign's end of it.
"""

from __future__ import annotations

import asyncio

from lab.evil.table import MISBEHAVIOURS, try_all
from lab.faults.row import Row, Scale, Tally, Trial


async def run(trial: Trial) -> Tally:
    """Each misbehaviour `count` times. It computes and waits for nothing, so it has a thread of its own."""
    return await asyncio.to_thread(try_all, MISBEHAVIOURS, trial.scale.count, trial.seed, trial.on_progress)


ROW = Row(
    name="evil-peer",
    threat="T7",
    title=f"{len(MISBEHAVIOURS)} misbehaviours of a second implementation, each with its honest counterpart",
    passes="none succeeds; each is answered by the check that is named for it; nobody else notices",
    ci=Scale(count=5),
    release=Scale(count=100),
    run=run,
)

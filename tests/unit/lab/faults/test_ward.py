"""The ward counts what is owed, and leaves the verdict to the checker."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.faults.history import Accepted, Applied
from lab.faults.outcome import Outcome
from lab.faults.row import Scale, Tally, Trial
from lab.faults.ward import EVERYONE, Ward
from lab.processes import ScenarioFailed


async def test_a_ward_knows_what_has_not_arrived_and_the_checker_agrees(tmp_path: Path) -> None:
    """Behind a partition nothing arrives and it is said to whom; once it heals everything has, and nothing is found."""
    async with Ward(tmp_path, settings={"EPOCH_INTERVAL_S": "3600"}) as ward:
        await ward.create_group("ward-a")
        near, far = await ward.open_room("near"), await ward.open_room("far")
        await ward.admit(near, ["bed-1"], ("ward-a",))
        await ward.admit(far, ["bed-2"])
        far.network.partition()
        await ward.broadcast()
        await ward.send("bed-2")
        await ward.until_arrived(near.patients, 30)
        with pytest.raises(ScenarioFailed, match=r"'bed-2': 2"):
            await ward.until_arrived(far.patients, 0.01)

        far.network.heal()
        async with ward.traffic((EVERYONE, "ward-a"), 0.01):
            await ward.until_arrived(far.patients, 30)
        await ward.until_arrived(near.patients | far.patients, 30)

        near.network.partition()
        await near.swarm.stop("bed-1")
        with pytest.raises(ScenarioFailed, match=r"'bed-1': 0"):
            await ward.until_arrived(near.patients, 0.01)
        await ward.until_arrived(near.patients, 0.01, in_session=False)
        near.network.heal()
        near.swarm.start("bed-1")
        verdicts = await ward.judge()

    assert verdicts.sentences() == []
    assert verdicts.wiretap is not None
    assert verdicts.wiretap.opened_broadcasts >= 2
    assert len(list(ward.history.of(Applied))) >= len(list(ward.history.of(Accepted))) == ward.said


def test_an_outcome_counts_what_held_and_keeps_every_sentence(tmp_path: Path) -> None:
    """Progress is told case by case."""
    told: list[tuple[int, int]] = []
    outcome = Outcome(Trial(Scale(), 1, tmp_path, lambda done, total: told.append((done, total))), 3)
    outcome.survive(2.0)
    outcome.survive()
    outcome.fail("the third case: it rained.")

    assert told == [(1, 3), (2, 3), (3, 3)]
    assert outcome.tally() == Tally(3, 2, findings=("the third case: it rained.",), recovery=(2.0,))

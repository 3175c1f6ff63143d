"""What is watched during an attack, and what counts as trouble."""

from __future__ import annotations

from pathlib import Path

import pytest

from doctor.door import DoorKeeper
from lab.faults.counting import GULLIBLE, PROGRAM, Count, count_of
from lab.faults.forgers import Forger
from lab.faults.row import Scale, Trial
from lab.faults.rows.floods import operations
from lab.faults.siege import Seen, besieged, percentile
from lab.faults.strangers import Crowd, addresses, at_rate


def test_a_percentile_is_the_smallest_value_that_so_many_do_not_exceed() -> None:
    """Of none, of one, of a hundred."""
    assert percentile([], 99) == 0
    assert percentile([3.0], 99) == 3
    assert [percentile(list(range(1, 101)), percent) for percent in (1, 50, 99, 100)] == [1, 50, 99, 100]


def test_a_quiet_siege_has_no_troubles() -> None:
    """Bounds are not reached."""
    seen = Seen(took=[0.1] * 100, rss_mb=100, seconds=10)
    seen.warnings["refused"] = 30
    assert seen.troubles(0.95, 5.0) == []


def test_each_trouble_has_its_sentence() -> None:
    """Who was cut, who did not get in or took too long, memory, and a log that runs over."""
    seen = Seen(
        took=[6.0] * 10, failed=5, rss_mb=600, cut=["bed-1 (lost)"], undelivered=["3 lack"], seconds=10
    )
    seen.warnings["refused"] = 5000

    troubles = seen.troubles(0.95, 5.0)

    assert troubles == [
        "An established session was cut: bed-1 (lost).",
        "3 lack",
        "5 of 15 honest handshakes failed.",
        "The doctor took 600 MiB of memory; the limit is 512.",
        "5000 log lines 'refused' in 10 s; at most 36 were to be.",
    ]
    assert "was 6.00 s" in seen.troubles(0.5, 5.0)[2]
    assert Seen(seconds=10).troubles(0.0, 5.0) == ["0 of 0 honest handshakes failed."]


def test_operations_for_who_has_shown_nothing_are_found() -> None:
    """One is too many; and so is a load that is noticed too late, or never."""
    seen = Seen(took=[0.1] * 100)
    assert operations(seen, Count(not_asked=500, cookie=3000, retries=5), 10) == []
    found = operations(seen, Count(not_asked=50_000, nothing=1, retries=0), 10)
    assert [sentence.split()[0] for sentence in found] == ["1", "Nobody", "50000"]


@pytest.mark.slow
@pytest.mark.parametrize("gullible", [True, False], ids=["without the defence", "with it"])
async def test_the_count_sees_what_forgers_cost_a_doctor_that_asks_for_no_cookie(
    tmp_path: Path, gullible: bool
) -> None:
    """The real doctor in a process of its own, and twice as many forgers as it takes for no load."""
    trial = Trial(Scale(), 1, tmp_path, lambda done, total: None)
    program = (*PROGRAM, GULLIBLE) if gullible else PROGRAM
    async with besieged(trial, "clinic", 1, {}, program) as siege:
        forger = Forger(Crowd(siege.target, addresses(64)), "bed-1")
        async with siege.watched() as seen:
            await at_rate(1000, 5 * DoorKeeper.NEVER_CROWDED / 1000, forger.blind)
    count = count_of(siege.ward.clinic.doctor)

    assert count.retries > 0
    assert (count.nothing > 0) is gullible
    assert bool(operations(seen, count, seen.seconds)) is gullible

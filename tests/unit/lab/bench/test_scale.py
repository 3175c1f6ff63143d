"""A ward is a real doctor with real patients; what grows is compared with what has to grow, or with nothing at all."""

from __future__ import annotations

import resource
from dataclasses import replace

import pytest

from lab.bench import churn, memory, scale
from lab.bench.comparison import Figure, Point
from lab.bench.part import FULL, QUICK, Unwatched
from lab.bench.scale import Costs
from lab.bench.ward import FIRST, new_ward
from shared.errors import UserError


def figures(few: float, many: float) -> dict[int, Figure]:
    """A cost at 100 and at 10,000 patients."""
    return {100: Figure.of([few]), 10_000: Figure.of([many])}


def costs(fanout: float = 1.0, floor: float = 1.0, rekey: float = 1.0, memory: float = 1.0) -> Costs:
    """Costs of which each is 1 for few patients, and so much for many."""
    start = {0: Figure.of([0.5]), **figures(0.6, 10.5)}
    return Costs(figures(1, fanout), figures(1, floor), figures(1, rekey), figures(1, memory), start)


def promised(found: Costs) -> dict[str, bool | None]:
    """What the promises of P8 say of these costs, by what grows."""
    return {row.measure.split(" from ")[0]: row.met for row in scale._growths(found)}


def test_fan_out_may_grow_as_the_bare_loop_does_and_a_little_more() -> None:
    """The event loop's own growth is nobody's fault."""
    what = f"growth of the {scale.FANOUT}"
    assert promised(costs(fanout=1.5, floor=1.4))[what] is True
    assert promised(costs(fanout=1.5, floor=1.2))[what] is False


def test_rekeying_and_memory_are_flat() -> None:
    """Within three tenths."""
    for what in (scale.REKEY, scale.MEMORY):
        assert promised(costs(rekey=1.29, memory=1.29))[f"growth of the {what}"] is True
        assert promised(costs(rekey=1.31, memory=1.31))[f"growth of the {what}"] is False


def test_each_curve_is_a_cost_for_one_patient() -> None:
    """The start's too: what a doctor without patients takes is taken off."""
    curves = {
        (each.measure, each.name): each.points for each in scale._curves(costs(fanout=2e-5, floor=1e-5))
    }
    assert curves[scale.FANOUT, scale.BARE][-1] == Point(10_000, 10.0)
    assert curves[f"{scale.START} for one patient on the roster", "ours"][-1] == Point(10_000, 1000.0)


def test_more_patients_than_the_system_allows_files_is_said_before_anything_begins() -> None:
    """With what to do about it."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    extent = replace(QUICK, members=limit + 1).up_to(limit + 1)
    for part in (churn, memory, scale):
        with pytest.raises(UserError, match=f"ulimit -Hn {limit + 201}"):
            part.compare(extent, Unwatched())


def test_the_largest_ward_can_be_chosen() -> None:
    """The smaller ones stay."""
    assert FULL.up_to(500).patients == (100, 300, 500)
    assert FULL.up_to(None) == FULL


@pytest.mark.slow
def test_a_ward_is_measured_on_a_real_doctor() -> None:
    """All its patients get the broadcast and the epoch, and the doctor's own processor and memory are read."""
    with new_ward(FIRST + 5) as ward:
        assert ward.accepting > 0
        assert ward._each(0.0, ward._broadcast) > 0
        assert ward._each(0.0, ward._begin_epoch) > 0
        ward.doctor.settle()

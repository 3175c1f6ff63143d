"""Parts run one after the other; one that fails is named and takes nothing from the others."""

from __future__ import annotations

import io

from rich.console import Console

from lab.bench.comparison import Better, Comparison, Figure, Measured, series
from lab.bench.part import FULL, QUICK, Extent, Progress
from lab.bench.results import Failure
from lab.bench.run import PARTS, Part, run_parts
from shared.errors import UserError


def measured(extent: Extent, progress: Progress) -> Measured:
    """A part with one row, one curve and a peer that is not there."""
    progress.plan(2)
    progress.step()
    mine = Figure.of([float(extent.subscribers)])
    row = Comparison("P3", "deliveries", "1/s", Better.HIGHER, mine, "a broker", None, 1.3)
    return Measured([row], ["Debian package broker"], [series("P8", "memory", "KiB", "ours", {1: 2.0})])


def failing(extent: Extent, progress: Progress) -> Measured:
    """A part whose measured program ends."""
    raise ConnectionError("the broker closed the connection")


def test_every_part_can_be_run() -> None:
    """There is none without its measures."""
    assert set(PARTS) == set(Part)


def test_a_part_that_fails_is_named_and_leaves_the_others_results() -> None:
    """With its reason, and where it happened for whoever mends it."""
    out = io.StringIO()
    known = {Part.CRYPTO: failing, Part.FANOUT: measured}
    found = run_parts([Part.CRYPTO, Part.FANOUT], True, Console(file=out, width=100), known)
    assert [(each.part, each.reason) for each in found.failed] == [
        ("crypto", "ConnectionError: the broker closed the connection")
    ]
    assert [row.ours for row in found.rows] == [QUICK.subscribers]
    assert found.missing == ["Debian package broker"]
    assert [each.measure for each in found.series] == ["memory"]
    assert "in failing" in out.getvalue()


def test_the_full_size_measures_more() -> None:
    """And says of itself that it is not the quick one."""
    found = run_parts([Part.FANOUT], False, Console(file=io.StringIO()), {Part.FANOUT: measured})
    assert found.rows[0].ours == FULL.subscribers
    assert not found.quick


def test_whoever_waits_sees_a_bar() -> None:
    """On a terminal, with how many steps are done."""
    out = io.StringIO()
    run_parts([Part.FANOUT], True, Console(file=out, width=100, force_terminal=True), {Part.FANOUT: measured})
    assert "1/2" in out.getvalue()


def test_results_tell_what_they_were_measured_on() -> None:
    """The machine, and the version of each library and peer that took part."""
    found = run_parts([], True, Console(file=io.StringIO()))
    assert "Python" in found.surroundings.machine
    assert {"cryptography", "uvloop", "SQLite"} <= {each.name for each in found.surroundings.versions}


def test_what_a_person_can_mend_is_said_without_a_traceback() -> None:
    """It is no bug."""

    def refused(extent: Extent, progress: Progress) -> Measured:
        raise UserError("too few file descriptors")

    out = io.StringIO()
    found = run_parts([Part.SCALE], True, Console(file=out), {Part.SCALE: refused})
    assert found.failed == [Failure("scale", "too few file descriptors")]
    assert "Traceback" not in out.getvalue()

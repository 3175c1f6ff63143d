"""Results of runs that never were, for the tests of what is made from results."""

from __future__ import annotations

from lab.bench.comparison import Better, Comparison, Figure, Line, line, series
from lab.bench.results import Failure, Results
from lab.bench.surroundings import Surroundings, Version

SURROUNDINGS = Surroundings("2026-01-02", "2 × a processor", 0.1, [Version("mosquitto", "2.0")])


def row(
    ours: float,
    theirs: float | None,
    target: float | None = 1.3,
    peer: str = "a broker",
    measure: str = "deliveries",
) -> Line:
    """One row beside one peer."""
    other = None if theirs is None else Figure(theirs, 0.1, 3)
    mine = Figure(ours, 0.2, 3)
    return line(Comparison("P3", measure, "1/s", Better.HIGHER, mine, peer, other, target, "a word"))


def results(*rows: Line, failed: bool = False) -> Results:
    """A run with these rows, one curve, and a peer that was missing."""
    curve = series("P8", "memory", "KiB", "ours", {100: 14.0, 1000: 15.0})
    failures = [Failure("churn", "BenchFailed: the doctor has ended")] if failed else []
    return Results(list(rows), [curve], ["Debian package nats-server"], failures, False, SURROUNDINGS)

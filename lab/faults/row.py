"""A row of the fault campaign: one kind of fault, how often it is tried, and what came of it.

Law: a row tries its fault on the real programs or their real state machines, counts, and puts every deviation into words; whether
it passed follows from the counts alone. A row never stops at its first finding.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum, unique
from pathlib import Path
from statistics import median
from typing import TypeAlias

import msgspec

FINDINGS_KEPT = 20  # a broken defence may produce thousands of the same


@unique
class Size(Enum):
    """How much is tried: what fits into continuous integration, or what a release takes."""

    CI = "ci"
    RELEASE = "release"


class Scale(msgspec.Struct, frozen=True):
    """The extent of one row; what a row does not need stays 0.

    Args:
        count: how often the fault is tried.
        patients, messages: how many take part, and how much is said meanwhile.
        seconds: how long a row runs that runs by time.
    """

    count: int = 0
    patients: int = 0
    messages: int = 0
    seconds: float = 0.0


OnProgress: TypeAlias = Callable[[int, int], None]
"""Told how much of how much is done."""


@dataclass(frozen=True, slots=True)
class Trial:
    """What a row gets for one run.

    Args:
        scale: the extent.
        seed: makes whatever is drawn repeatable.
        directory: an empty directory for the states of programs.
        on_progress: for people who wait.
    """

    scale: Scale
    seed: int
    directory: Path
    on_progress: OnProgress


class Recovery(msgspec.Struct, frozen=True):
    """How long it took, in seconds, until the system served again."""

    median: float
    max: float


@dataclass(frozen=True, slots=True)
class Tally:
    """What came of a row.

    Args:
        tried, survived: how often the fault was tried, and how often everything held.
        lost, duplicated, leaked: messages that broke I1, I2, or any of I3, I4 and I6.
        findings: a sentence for each deviation: which case, with which seed, what happened.
        recovery: seconds from each fault until the system served again, where that means anything.
        figures: what else was measured, by name with its unit (`p99_ratio`, `rss_growth_mb`).
    """

    tried: int
    survived: int
    lost: int = 0
    duplicated: int = 0
    leaked: int = 0
    findings: tuple[str, ...] = ()
    recovery: tuple[float, ...] = ()
    figures: tuple[tuple[str, float], ...] = ()


Run: TypeAlias = Callable[[Trial], Awaitable[Tally]]


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the campaign.

    Args:
        name: what `telemed-lab faults --run` calls it.
        threat: its number in the campaign's list, `T9`.
        title: what is done, in half a sentence.
        passes: what must hold.
        ci, release: the extents.
        run: does it.
    """

    name: str
    threat: str
    title: str
    passes: str
    ci: Scale
    release: Scale
    run: Run

    def scale(self, size: Size) -> Scale:
        """The extent of a size."""
        return self.ci if size is Size.CI else self.release


class Result(msgspec.Struct, frozen=True):
    """One run of one row, as programs read it: the last line of `telemed-lab faults --json` is one of these."""

    row: str
    tried: int
    survived: int
    lost: int
    duplicated: int
    leaked: int
    recovery_seconds: Recovery | None
    passed: bool
    findings: tuple[str, ...]
    figures: dict[str, float]
    scale: Scale
    seed: int
    seconds: float


def result(row: Row, trial: Trial, tally: Tally, seconds: float) -> Result:
    """Judge a tally: it passed if something was tried, everything tried held, and nothing else was found."""
    clean = tally.lost == tally.duplicated == tally.leaked == 0 and not tally.findings
    return Result(
        row=row.name,
        tried=tally.tried,
        survived=tally.survived,
        lost=tally.lost,
        duplicated=tally.duplicated,
        leaked=tally.leaked,
        recovery_seconds=_recovery(tally.recovery),
        passed=tally.tried > 0 and tally.survived == tally.tried and clean,
        findings=tally.findings[:FINDINGS_KEPT],
        figures=dict(tally.figures),
        scale=trial.scale,
        seed=trial.seed,
        seconds=round(seconds, 1),
    )


def _recovery(seconds: Sequence[float]) -> Recovery | None:
    return Recovery(round(median(seconds), 3), round(max(seconds), 3)) if seconds else None

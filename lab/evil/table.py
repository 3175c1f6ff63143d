"""Every misbehaviour by its name, and the campaign's way through them."""

from __future__ import annotations

from collections.abc import Sequence

from lab.evil.lies import (
    alerts,
    arrivals,
    broadcasts,
    elements,
    enrolments,
    forgeries,
    greetings,
    interleavings,
    middle,
    records,
    replies,
    requests,
    rotations,
    sessions,
)
from lab.evil.misbehaviour import Accepted, Deviation, Misbehaviour, attempt
from lab.faults.row import OnProgress, Tally

MISBEHAVIOURS: tuple[Misbehaviour, ...] = (
    *greetings.ROWS,
    *requests.ROWS,
    *enrolments.ROWS,
    *elements.ROWS,
    *arrivals.ROWS,
    *sessions.ROWS,
    *replies.ROWS,
    *rotations.ROWS,
    *alerts.ROWS,
    *records.ROWS,
    *broadcasts.ROWS,
    *middle.ROWS,
    *interleavings.ROWS,
    *forgeries.ROWS,
)


def by_name(name: str) -> Misbehaviour:
    """The row of that name. Raises LookupError."""
    for row in MISBEHAVIOURS:
        if row.name == name:
            return row
    raise LookupError(f"there is no misbehaviour {name!r}")


def try_all(rows: Sequence[Misbehaviour], times: int, seed: int, on_progress: OnProgress) -> Tally:
    """Each misbehaviour so often, each time in another clinic, with its honest counterpart.

    A lie that took effect counts as leaked. An exception is a finding as well: nothing that a peer says may raise one.
    """
    tried = survived = leaked = 0
    findings: list[str] = []
    for repetition in range(times):
        for row in rows:
            tried += 1
            case = f"{row.name}, seed {seed + repetition}: {row.liar.value} {row.does}"
            try:
                attempt(row, seed + repetition)
                survived += 1
            except Accepted as error:
                leaked += 1
                findings.append(f"{case}: {error}")
            except Deviation as error:
                findings.append(f"{case}: {error}")
            except Exception as error:  # a bug of either side must become a finding, not end the row
                findings.append(f"{case}: {type(error).__name__}: {error}")
            on_progress(tried, times * len(rows))
    return Tally(tried, survived, leaked=leaked, findings=tuple(findings))

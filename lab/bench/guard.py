"""The guard against growing slower: the least ratio of each measure that is kept, and which rows of a run fall below theirs.

Law: only ratios are compared, and both of their figures come from the run that is judged. Nothing is measured twice to please.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from lab.bench.comparison import Line
from lab.bench.results import Results

BOUNDS_FILE = Path(__file__).with_name("bounds.yaml")


class Bound(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row, and the ratio that it had when the bound was set."""

    id: str
    measure: str
    peer: str
    kept: Annotated[float, Meta(gt=0)]


class Bounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of them. `margin`: the share of its kept ratio below which a row has become slower, and not the machine noisy."""

    margin: Annotated[float, Meta(gt=0, lt=1)]
    rows: list[Bound]


def bounds() -> Bounds:
    """Those of the project."""
    return msgspec.yaml.decode(BOUNDS_FILE.read_bytes(), type=Bounds)


def judge(results: Results, kept: Bounds, every_peer: bool) -> list[str]:
    """A sentence for each row that fell below its bound or was not there, and for each part that failed.

    Args:
        every_peer: a peer that is not installed is a finding too.
    """
    found = [f"{each.part} came to no result: {each.reason}." for each in results.failed]
    found += [f"{each} is not installed." for each in results.missing if every_peer]
    for bound in kept.rows:
        sentence = _judge(bound, kept.margin, results.rows)
        found += [sentence] if sentence else []
    return found


def _judge(bound: Bound, margin: float, rows: Sequence[Line]) -> str | None:
    name = f"{bound.id}, {bound.measure}, beside {bound.peer}"
    row = next((row for row in rows if (row.id, row.measure, row.peer) == _key(bound)), None)
    if row is None:
        return f"{name}: was not measured."
    if row.ratio is None:  # the peer is missing, which is told once for all its rows
        return None
    least = bound.kept * margin
    if row.ratio >= least:
        return None
    return f"{name}: {row.ratio:.3g} ×, where {least:.3g} × is the least and {bound.kept:g} × was kept."


def _key(bound: Bound) -> tuple[str, str, str]:
    return bound.id, bound.measure, bound.peer

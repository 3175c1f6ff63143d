"""What the parts of the benchmark share: how much is measured, how far they are, what they hand back.

Law: a part measures and compares; it prints nothing, keeps nothing and judges nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias

from lab.bench.comparison import Measured


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured.

    Args:
        runs: how often each figure is taken; its median counts.
        iterations: calls of a primitive within a run, at least; all runs together make a hundred at full size.
        handshakes: within a run.
        subscribers: connected patients of the fan-out.
        deliveries: of a run of the fan-out, at least.
        members: of the group whose epochs are measured.
        repeats: how often what takes seconds each time is done: starts of a doctor, bursts of joins.
        patients: of the wards whose costs are compared, the smallest first.
    """

    runs: int
    iterations: int
    handshakes: int
    subscribers: int
    deliveries: int
    members: int
    repeats: int
    patients: tuple[int, ...]

    def up_to(self, patients: int | None) -> Extent:
        """The same, with a largest ward of so many patients; None: as it is."""
        if patients is None:
            return self
        smaller = tuple(size for size in self.patients if size < patients)
        return replace(self, patients=(*smaller, patients))


QUICK = Extent(
    runs=3,
    iterations=3,
    handshakes=100,
    subscribers=100,
    deliveries=2000,
    members=200,
    repeats=1,
    patients=(100, 300),
)
FULL = Extent(
    runs=9,
    iterations=12,
    handshakes=500,
    subscribers=1000,
    deliveries=5000,
    members=1000,
    repeats=3,
    patients=(100, 300, 1000, 3000, 10_000),
)


class Progress(Protocol):
    """How far a part is, for people who wait."""

    def plan(self, steps: int) -> None:
        """The part will take so many steps in all."""
        ...

    def step(self) -> None:
        """One of them is done."""
        ...


class Unwatched:
    """The progress of what nobody waits for."""

    def plan(self, steps: int) -> None:
        """Nothing."""

    def step(self) -> None:
        """Nothing."""


Compare: TypeAlias = Callable[[Extent, Progress], Measured]
"""The one function that each part's module has for the command."""

"""Which disk is sick and how, and what came of it.

Law: the one vocabulary of these cases, as findings name them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, unique
from pathlib import Path


@unique
class Trouble(Enum):
    """What is wrong; the value is its name in findings."""

    FULL = "full"
    READ_ONLY = "read-only at a start"
    FULL_AT_START = "full at the first start"
    FAILING = "failing every write"
    COVERED = "covered by an empty read-only one"


@unique
class Place(Enum):
    """Whose disk."""

    STATE = "the doctor's state"
    AUDIT = "the doctor's audit volume"
    PATIENTS = "the patients' homes"

    def below(self, directory: Path) -> Path:
        """Where it is."""
        names = {Place.STATE: "doctor", Place.AUDIT: "audit", Place.PATIENTS: "patients"}
        return directory / names[self]


@dataclass(frozen=True, slots=True)
class Case:
    """One trouble of one disk."""

    trouble: Trouble
    place: Place

    def __str__(self) -> str:
        return f"{self.place.value}, {self.trouble.value}"


class Report:
    """What came of one case."""

    def __init__(self) -> None:
        self.flaws: list[str] = []
        self.refused = 0
        self.recovery: float | None = None
        self.lost = self.duplicated = self.leaked = 0

"""What a trial leaves behind, the seven invariants that it is judged by, and the verdicts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, unique

from lab.faults.capture import Capture
from lab.faults.history import History
from lab.faults.keys import KeyRing
from lab.faults.wiretap import Wiretap


@unique
class Invariant(Enum):
    """What must hold, whatever is killed or cut."""

    NOT_LOST = "I1"
    ONCE = "I2"
    CONFIDENTIAL = "I3"
    AUTHENTIC = "I4"
    EXPLAINED = "I5"
    NONCES = "I6"
    AUDITED = "I7"


@dataclass(frozen=True, slots=True)
class Audit:
    """What `telemed-doctor audit verify` said."""

    valid: bool
    entries: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a trial leaves behind.

    Args:
        history: what happened.
        capture: every byte on the wire; None: none was made.
        keys: every key that was ever held.
        audit: the verdict on the audit chain; None: it was not asked for, which is a finding.
        canary: a text in every body; must be found nowhere in clear.
        places: where else to look for it: (name, content) of database, WAL, audit files, logs.
        outsiders: whose keys belong to no patient.
    """

    history: History
    capture: Capture | None = None
    keys: KeyRing = field(default_factory=KeyRing)
    audit: Audit | None = None
    canary: bytes | None = None
    places: Iterable[tuple[str, bytes]] = ()
    outsiders: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The findings against each invariant, as sentences, and what was looked at."""

    findings: dict[Invariant, list[str]]
    wiretap: Wiretap | None

    @property
    def hold(self) -> bool:
        """Whether nothing was found."""
        return not any(self.findings.values())

    @property
    def lost(self) -> int:
        """Findings against I1."""
        return len(self.findings[Invariant.NOT_LOST])

    @property
    def duplicated(self) -> int:
        """Findings against I2."""
        return len(self.findings[Invariant.ONCE])

    @property
    def leaked(self) -> int:
        """Findings against I3, I4 and I6."""
        kinds = (Invariant.CONFIDENTIAL, Invariant.AUTHENTIC, Invariant.NONCES)
        return sum(len(self.findings[kind]) for kind in kinds)

    def sentences(self) -> list[str]:
        """All findings, each with its invariant's number in front."""
        return [f"{kind.value}: {text}" for kind, texts in self.findings.items() for text in texts]

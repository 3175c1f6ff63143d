"""What the checks of `telemed-doctor doctor` look at, and what they raise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from doctor.settings import DoctorSettings
from doctor.stores import DATABASE_FILE
from shared.errors import TelemedError


class Mistake(TelemedError):
    """Something is not as it should be.

    Args:
        found: what it is.
        remedy: what to do about it.
        advice: the doctor works all the same.
    """

    def __init__(self, found: str, remedy: str, advice: bool = False) -> None:
        super().__init__(found)
        self.remedy = remedy
        self.advice = advice


@dataclass(frozen=True, slots=True)
class Place:
    """One doctor's surroundings.

    Attributes:
        running: it answers on its socket.
        now: milliseconds since the Unix epoch.
        descriptors: how many files a process of this user may have open.
        uid: the user that asks, and whom a doctor would run as.
        clock_kept: whether something keeps the clock right; None: not known.
        mounts: the mounted volumes, as of /proc/self/mountinfo.
    """

    settings: DoctorSettings
    running: bool
    now: int
    descriptors: int
    uid: int = 1000
    clock_kept: bool | None = None
    mounts: str = ""

    @property
    def database(self) -> Path:
        """Its file, which may be missing."""
        return Path(self.settings.state_dir) / DATABASE_FILE

"""Many attempts to be let in where nobody may be, one after the other, and the tally of them.

Law: whatever an attempt raises is a finding; only one that was accepted has leaked.
"""

from __future__ import annotations

from collections.abc import Callable

from lab.evil.misbehaviour import Accepted, Deviation
from lab.faults.row import Tally


class Attempts:
    """How they have gone so far."""

    def __init__(self) -> None:
        self._survived = self._leaked = 0
        self._findings: list[str] = []

    def make(self, what: str, attempt: Callable[[], None]) -> bool:
        """One more, called `what` in a finding; whether it went as it must."""
        try:
            attempt()
        except Accepted as error:
            self._leaked += 1
            self._findings.append(f"{what}: {error}")
        except Deviation as error:
            self._findings.append(f"{what}: {error}")
        except Exception as error:  # a bug of either side must become a finding, not end the row
            self._findings.append(f"{what}: {type(error).__name__}: {error}")
        else:
            self._survived += 1
            return True
        return False

    def tally(self, tried: int) -> Tally:
        """All of them."""
        return Tally(tried, self._survived, leaked=self._leaked, findings=tuple(self._findings))

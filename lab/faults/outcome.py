"""How the cases of a row turn out, one after the other, and the tally that comes of it.

Law: a case is counted once, as one that has held or one that has not; the tally never claims a case that was not come to.
"""

from __future__ import annotations

from collections.abc import Sequence

from lab.faults.evidence import Verdicts
from lab.faults.row import Tally, Trial


class Outcome:
    """How the cases of a row have turned out so far.

    Args:
        trial: is told of the progress.
        total: how many cases there are.
    """

    def __init__(self, trial: Trial, total: int) -> None:
        self._trial = trial
        self._total = total
        self._recovery: list[float] = []
        self._trouble: list[str] = []
        self._done = 0

    def survive(self, recovery: float | None = None) -> None:
        """A case has held; `recovery` in seconds, where something had to recover."""
        if recovery is not None:
            self._recovery.append(recovery)
        self._count()

    def fail(self, sentence: str) -> None:
        """A case has not."""
        self._trouble.append(sentence)
        self._count()

    def _count(self) -> None:
        self._done += 1
        self._trial.on_progress(self._done, self._total)

    def tally(self, verdicts: Verdicts | None = None, figures: Sequence[tuple[str, float]] = ()) -> Tally:
        """All of it, with what the checker has found, where there was something to check."""
        return Tally(
            self._total,
            self._done - len(self._trouble),
            verdicts.lost if verdicts else 0,
            verdicts.duplicated if verdicts else 0,
            verdicts.leaked if verdicts else 0,
            (*self._trouble, *(verdicts.sentences() if verdicts else ())),
            tuple(self._recovery),
            tuple(figures),
        )

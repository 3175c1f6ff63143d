"""How long to wait before the next attempt, so that a thousand devices do not all come back in the same second.

Full jitter: a pause is drawn evenly from zero to a ceiling that doubles with each failure. Entropy is an argument.
"""

from __future__ import annotations

from shared.crypto.secret import Random

_LARGEST_EXPONENT = 32  # of the ceiling's growth; far above any maximum that makes sense


class Backoff:
    """Pauses between failed attempts, in seconds.

    Args:
        minimum: the first ceiling.
        maximum: the last one.
        random: entropy.
    """

    def __init__(self, minimum: float, maximum: float, random: Random) -> None:
        self._minimum = minimum
        self._maximum = maximum
        self._random = random
        self.failures = 0

    def reset(self) -> None:
        """An attempt has succeeded."""
        self.failures = 0

    def next(self) -> float:
        """An attempt has failed: the pause before the next one."""
        exponent = min(self.failures, _LARGEST_EXPONENT)
        self.failures += 1
        return between(0, min(self._maximum, self._minimum * 2**exponent), self._random)


def between(low: float, high: float, random: Random) -> float:
    """A number drawn evenly from `low` to `high`."""
    return low + (high - low) * int.from_bytes(random(7), "big") / (1 << 56)

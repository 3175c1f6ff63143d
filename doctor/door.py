"""Who may come in now, and how much it may cost: limits on unfinished handshakes, on what is kept of refusals, and a pause for
devices that keep replacing each other.

Law: counters in memory only. Whether a device is who it says is decided elsewhere.
"""

from __future__ import annotations

from collections import Counter, deque

from shared.protocol.clock import SECOND


class DoorKeeper:
    """Counts the connections that have not finished their handshake, in all and by address."""

    NEVER_CROWDED = 64

    def __init__(self, limit: int, per_address: int) -> None:
        self._limit = limit
        self._per_address = per_address
        self._half_open: Counter[str] = Counter()
        self._total = 0

    @property
    def crowded(self) -> bool:
        """Whether so many are at the door that a newcomer has to show a cookie first: a quarter of the limit.

        Fewer than `NEVER_CROWDED` are no load, whatever the limit is.
        """
        return self._total > max(self._limit // 4, self.NEVER_CROWDED)

    def enter(self, host: str) -> bool:
        """Whether one more from this host may begin a handshake; counts it if so."""
        if self._total >= self._limit or self._half_open[host] >= self._per_address:
            return False
        self._half_open[host] += 1
        self._total += 1
        return True

    def leave(self, host: str) -> None:
        """A handshake ended, well or badly."""
        self._total -= 1
        self._half_open[host] -= 1
        if not self._half_open[host]:
            del self._half_open[host]


class Replacements:
    """Watches how often a patient's sessions replace one another: two devices that hold one key do so without end."""

    LIMIT = 3
    WITHIN = 60 * SECOND
    PAUSE = 60 * SECOND

    def __init__(self) -> None:
        self._recent: dict[str, deque[int]] = {}
        self._paused_until: dict[str, int] = {}

    def note(self, patient_id: str, elapsed: int) -> bool:
        """A session was replaced; whether that was the third time within a minute. If so, newcomers pause for a minute."""
        recent = self._recent.setdefault(patient_id, deque(maxlen=self.LIMIT))
        recent.append(elapsed)
        if len(recent) < self.LIMIT or elapsed - recent[0] > self.WITHIN:
            return False
        del self._recent[patient_id]
        self._paused_until[patient_id] = elapsed + self.PAUSE
        return True

    def paused(self, patient_id: str, elapsed: int) -> bool:
        """Whether a new session of this patient has to wait."""
        until = self._paused_until.get(patient_id)
        if until is not None and elapsed >= until:
            del self._paused_until[patient_id]
            return False
        return until is not None


class Allowance:
    """A bucket for each name that holds so many, and is filled again evenly within a minute: for what comes in bursts.

    Args:
        size: how many at once, and how many a minute.
    """

    WITHIN = 60 * SECOND

    def __init__(self, size: int) -> None:
        self._size = size
        self._used: dict[
            str, tuple[float, int]
        ] = {}  # how much is missing from a bucket, and when that was so

    def take(self, name: str, elapsed: int) -> bool:
        """Whether there is one left for this name; takes it."""
        missing, since = self._used.pop(name, (0.0, elapsed))
        missing = max(0.0, missing - (elapsed - since) * self._size / self.WITHIN)
        left = missing + 1 <= self._size
        # Put behind the others, so that the first is the one that was used the longest time ago.
        self._used[name] = (missing + 1 if left else missing, elapsed)
        oldest = next(iter(self._used))
        if elapsed - self._used[oldest][1] >= self.WITHIN:
            del self._used[oldest]  # full again
        return left


class Budget:
    """So many a minute, for each name, of something that others can cause at will."""

    LIMIT = 10
    EACH = 60 * SECOND

    def __init__(self) -> None:
        self._since = 0
        self._spent: Counter[str] = Counter()

    def spend(self, name: str, elapsed: int) -> bool:
        """Whether one more for this name is within the limit."""
        if elapsed - self._since >= self.EACH:
            self._since = elapsed
            self._spent.clear()
        self._spent[name] += 1
        return self._spent[name] <= self.LIMIT

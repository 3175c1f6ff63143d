"""Who may come in now, and how much it may cost: limits on unfinished and on failed handshakes, on what is kept of refusals, and
a pause for devices that keep replacing each other.

Law: counters in memory only, each of them bounded. Whether a device is who it says is decided elsewhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, unique

from shared.protocol.clock import SECOND


@unique
class TurnedAway(Enum):
    """Why somebody does not get in, or not any further."""

    UNFINISHED = "too many unfinished handshakes"  # from this address
    FAILED = "too many failed handshakes"  # from this address
    MADE_ROOM = (
        "unfinished handshake cut to make room"  # of the address with most of them, when all places are taken
    )


@dataclass(eq=False, frozen=True, slots=True)
class Place:
    """A place at the door, for one handshake that is not finished. `show_out` ends it."""

    host: str
    show_out: Callable[[TurnedAway], None]


class Failures:
    """How many handshakes have failed lately: a level that each failure raises by one, and time lowers."""

    def __init__(self, a_second: int, cap: int) -> None:
        self._a_second = a_second
        self._cap = cap
        self._level = 0.0
        self._at = 0

    def level(self, elapsed: int) -> float:
        """The level now."""
        return max(0.0, self._level - (elapsed - self._at) / SECOND * self._a_second)

    def note(self, elapsed: int) -> None:
        """One more."""
        self._level = min(self.level(elapsed) + 1, self._cap)
        self._at = elapsed


class Queues:
    """Places by address, oldest first, and at any time the address that has most: each step costs the same however many there are."""

    def __init__(self) -> None:
        self.total = 0
        self.most = 0  # places of the address that has most
        self._places: dict[str, dict[Place, None]] = {}
        self._hosts: dict[int, dict[str, None]] = {}  # by how many places they have

    def count(self, host: str) -> int:
        """How many places an address has."""
        return len(self._places.get(host, ()))

    def oldest_of_most(self) -> Place:
        """The oldest place of the address that has most of them; of several the one that has had so many for longest."""
        return next(iter(self._places[next(iter(self._hosts[self.most]))]))

    def add(self, place: Place) -> None:
        """One more."""
        self._places.setdefault(place.host, {})[place] = None
        self._move(place.host, 1)

    def remove(self, place: Place) -> bool:
        """One less; False where it is gone already."""
        mine = self._places.get(place.host, {})
        if place not in mine:
            return False
        del mine[place]
        self._move(place.host, -1)
        if not mine:
            del self._places[place.host]
        return True

    def _move(self, host: str, by: int) -> None:
        self.total += by
        count = len(self._places[host])
        before = self._hosts.get(count - by, {})
        before.pop(host, None)
        if not before:
            self._hosts.pop(count - by, None)
        if count:
            self._hosts.setdefault(count, {})[host] = None
        if count > self.most or self.most not in self._hosts:
            self.most = count


class DoorKeeper:
    """Counts the handshakes that have not finished, in all and by address, and those that have failed.

    When all places are taken a newcomer is not turned away: the address that has most of them loses its oldest one. So who fills
    the door from a few addresses, or even from many, keeps out nobody who comes from another.

    Args:
        limit: of unfinished handshakes in all.
        per_address: of those from one address.
        failing, failing_per_address: how many handshakes may fail within a second before that is load, and from one address.
    """

    NEVER_CROWDED = 64
    ADDRESS_FAILURES = 10  # that are forgiven
    ADDRESSES = 4096  # of which failures are remembered

    def __init__(self, limit: int, per_address: int, failing: int = 10, failing_per_address: int = 1) -> None:
        self._limit = limit
        self._per_address = per_address
        self._failing_per_address = failing_per_address
        self._queues = Queues()
        self._failures = Failures(failing, 2 * self.NEVER_CROWDED)
        self._by_address: dict[str, Failures] = {}

    @property
    def unfinished(self) -> int:
        """How many handshakes are not finished."""
        return self._queues.total

    def crowded(self, elapsed: int) -> bool:
        """Whether a newcomer has to show a cookie before it costs anything.

        So it is when a quarter of the limit is at the door, or more handshakes fail than may. Fewer than
        `NEVER_CROWDED` of either are no load, whatever the limit is.
        """
        if self._queues.total > max(self._limit // 4, self.NEVER_CROWDED):
            return True
        return self._failures.level(elapsed) > self.NEVER_CROWDED

    def enter(self, host: str, show_out: Callable[[TurnedAway], None], elapsed: int) -> Place | TurnedAway:
        """Whether one more from this host may begin a handshake; counts it if so.

        `show_out` is called where it has to make room for another.
        """
        mine = self._queues.count(host)
        if mine >= self._per_address:
            return TurnedAway.UNFINISHED
        if self._fails_too_often(host, elapsed):
            return TurnedAway.FAILED
        if self._queues.total >= self._limit:
            if mine >= self._queues.most:
                return TurnedAway.UNFINISHED
            oldest = self._queues.oldest_of_most()
            self._queues.remove(oldest)
            oldest.show_out(TurnedAway.MADE_ROOM)
        place = Place(host, show_out)
        self._queues.add(place)
        return place

    def leave(self, place: Place) -> None:
        """A handshake ended, well or badly; may be called again."""
        self._queues.remove(place)

    def note_failure(self, host: str, elapsed: int) -> None:
        """A handshake failed a check, or its time was over."""
        self._failures.note(elapsed)
        failures = self._by_address.pop(host, None)
        if failures is None:
            failures = Failures(self._failing_per_address, 2 * self.ADDRESS_FAILURES)
        failures.note(elapsed)
        self._by_address[host] = (
            failures  # the last one now: who has not failed for longest is forgotten first
        )
        if len(self._by_address) > self.ADDRESSES:
            del self._by_address[next(iter(self._by_address))]

    def _fails_too_often(self, host: str, elapsed: int) -> bool:
        """Judged under load alone: a ward of devices with a wrong clock behind one address locks nobody out."""
        failures = self._by_address.get(host)
        if failures is None or not self.crowded(elapsed):
            return False
        return failures.level(elapsed) > self.ADDRESS_FAILURES


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

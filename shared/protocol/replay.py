"""A cache of the nonces that patients have used, as long as their timestamps would still be accepted.

Freshness comes from the nonces of both sides; this cache is the second line, in memory only. It is written only after
a signature has verified, so an outsider cannot fill it.
"""

from __future__ import annotations

from collections import deque

from shared.protocol.clock import Instant


class ReplayCache:
    """Remembers (patient, nonce) for `window` milliseconds of elapsed time."""

    __slots__ = ("_order", "_seen", "_window")

    def __init__(self, window: int) -> None:
        self._window = window
        self._seen: set[tuple[str, bytes]] = set()
        self._order: deque[tuple[int, tuple[str, bytes]]] = deque()

    def __len__(self) -> int:
        return len(self._seen)

    def seen(self, patient_id: str, nonce: bytes, now: Instant) -> bool:
        """Whether the patient used this nonce within the window."""
        self._forget(now)
        return (patient_id, nonce) in self._seen

    def add(self, patient_id: str, nonce: bytes, now: Instant) -> None:
        """Remember a nonce that a verified request used."""
        self._seen.add((patient_id, nonce))
        self._order.append((now.elapsed, (patient_id, nonce)))

    def _forget(self, now: Instant) -> None:
        while self._order and now.elapsed - self._order[0][0] > self._window:
            self._seen.discard(self._order.popleft()[1])

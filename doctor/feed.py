"""Tells whoever watches that something has changed: what it is now, a watcher asks for itself.

Law: a topic and nothing more goes through here, so a listener that is slow is bounded by the number of topics, and nothing of a
patient's passes. Where nobody listens, telling costs one look at an empty set. The event loop alone calls it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, unique

from shared.errors import UserError

LISTENERS = 128


@unique
class Topic(Enum):
    """What may have changed."""

    PATIENTS = "patients"  # who is enrolled, connected, away; epochs; troubles
    MESSAGES = "messages"  # what was accepted, and its receipts
    GROUPS = "groups"  # which there are, and their members
    EVENTS = "events"  # refusals, and what else the audit log or the noise has to say
    HANDSHAKES = "handshakes"
    REPORTS = "reports"  # vitals and replies


class Listener:
    """One watcher. `ended`: there is nothing to come any more."""

    def __init__(self) -> None:
        self.ended = False
        self._pending: set[Topic] = set()
        self._changed = asyncio.Event()

    def tell(self, topic: Topic) -> None:
        """Something has changed; told once, however often it was."""
        self._pending.add(topic)
        self._changed.set()

    def end(self) -> None:
        """Let go of whoever waits."""
        self.ended = True
        self._changed.set()

    async def wait(self, seconds: float) -> bool:
        """Wait until there is something, at most so long; whether there is."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def take(self) -> list[Topic]:
        """What has changed since the last call, in a fixed order."""
        self._changed.clear()
        taken, self._pending = self._pending, set()
        return [topic for topic in Topic if topic in taken]


class Feed:
    """All watchers of one doctor."""

    def __init__(self) -> None:
        self._listeners: set[Listener] = set()

    def tell(self, topic: Topic) -> None:
        """Something has changed."""
        for listener in self._listeners:
            listener.tell(topic)

    @property
    def listeners(self) -> int:
        """How many listen now."""
        return len(self._listeners)

    @contextmanager
    def listening(self) -> Iterator[Listener]:
        """Listen for as long as the block lasts.

        Raises:
            UserError: too many do already.
        """
        if len(self._listeners) >= LISTENERS:
            raise UserError(f"{LISTENERS} pages are watching already; close some of them.")
        listener = Listener()
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    def close(self) -> None:
        """The doctor stops."""
        for listener in self._listeners:
            listener.end()

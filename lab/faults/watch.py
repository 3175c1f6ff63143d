"""Waiting for something that will have happened: conditions are looked at when something changes, and never by the clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from lab.processes import ScenarioFailed


class Watch:
    """Told of every change; lets others wait until a condition holds."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Event] = set()

    def changed(self) -> None:
        """Something has happened: whoever waits looks again."""
        for event in self._waiting:
            event.set()

    async def until(self, holds: Callable[[], bool], what: str, seconds: float) -> None:
        """Wait until a condition holds.

        Raises:
            ScenarioFailed: it did not within that time; `what` says what was awaited.
        """
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            async with asyncio.timeout(seconds):
                while not holds():
                    event.clear()
                    await event.wait()
        except TimeoutError:
            raise ScenarioFailed(f"{what}: not within {seconds:g} s.") from None
        finally:
            self._waiting.discard(event)

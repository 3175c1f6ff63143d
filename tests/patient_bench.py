"""What the tests of the patient share: a listener for notices, and time that does not pass."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from patient.notices import Notice
from tests.small_doctor import Happenings

N = TypeVar("N", bound=Notice)


class Heard(Happenings):
    """Takes notices and lets a test wait for them."""

    def __init__(self) -> None:
        super().__init__()
        self.notices: list[Notice] = []

    def __call__(self, notice: Notice) -> None:
        """Take one notice."""
        self.notices.append(notice)
        self.changed()

    def of(self, kind: type[N]) -> list[N]:
        """The notices of one kind."""
        return [notice for notice in self.notices if isinstance(notice, kind)]


class Pauses:
    """Stands for the passing of time: notes how long, does what the test wants meanwhile, and returns at once."""

    def __init__(self) -> None:
        self.taken: list[float] = []
        self.meanwhile: Callable[[], object] = lambda: None

    async def __call__(self, seconds: float) -> None:
        """Note a pause; others get their turn."""
        self.taken.append(seconds)
        self.meanwhile()
        await asyncio.sleep(0)

"""What the tests of the patient share: a listener for notices, and time that does not pass."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from patient.device import Conditions, Device
from patient.identity import DeviceHome, create
from patient.notices import Notice
from patient.settings import PatientSettings
from shared.crypto.suites import suite_by_name
from tests.small_doctor import Happenings, SmallDoctor

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


@asynccontextmanager
async def device(
    doctor: SmallDoctor, settings: PatientSettings, heard: Heard, conditions: Conditions, **changes: Any
) -> AsyncIterator[Device]:
    """A device "alice" that `doctor` has invited; a second call comes back with the same one."""
    home = DeviceHome(Path(settings.state_dir) / "alice")
    if not home.has_identity:
        home.path.mkdir(parents=True, mode=0o700)
        home.save(create(doctor.invite(), suite_by_name(settings.suite), None, conditions.random))
    async with Device(
        home, home.load(), msgspec.structs.replace(settings, **changes), heard, conditions
    ) as found:
        yield found

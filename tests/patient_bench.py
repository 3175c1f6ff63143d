"""What the tests of the patient share: a listener for notices, and time that does not pass."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from patient import outbox, stored
from patient.device import Conditions, Device
from patient.identity import DeviceHome, create
from patient.link import Link
from patient.notices import Notice
from patient.settings import PatientSettings
from shared.crypto.suites import suite_by_name
from shared.storage.sealed import Sealer
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


def make(home: DeviceHome, doctor: SmallDoctor, settings: PatientSettings, conditions: Conditions) -> None:
    """Make the directory and the identity of a device "alice" that `doctor` has invited."""
    home.path.mkdir(parents=True, mode=0o700)
    home.save(create(doctor.invite(), suite_by_name(settings.suite), None, conditions.random))


@asynccontextmanager
async def device(
    doctor: SmallDoctor, settings: PatientSettings, heard: Heard, conditions: Conditions, **changes: Any
) -> AsyncIterator[Device]:
    """A device "alice" that `doctor` has invited; a second call comes back with the same one."""
    home = DeviceHome(Path(settings.state_dir) / "alice")
    if not home.has_identity:
        make(home, doctor, settings, conditions)
    async with Device(
        home, home.load(), msgspec.structs.replace(settings, **changes), heard, conditions
    ) as found:
        yield found


@dataclass(frozen=True)
class Bench:
    """What the test of one device needs: its settings, its conditions, and who hears what it tells."""

    settings: PatientSettings
    heard: Heard
    conditions: Conditions

    @property
    def home(self) -> DeviceHome:
        """Alice's directory."""
        return DeviceHome(Path(self.settings.state_dir) / "alice")

    def make(self, doctor: SmallDoctor) -> None:
        """Alice on the disk, before she has ever run."""
        make(self.home, doctor, self.settings, self.conditions)

    def device(self, doctor: SmallDoctor, **changes: Any) -> AbstractAsyncContextManager[Device]:
        """Alice, not connected yet; a second call comes back with the same device. `changes`: of the settings."""
        return device(doctor, self.settings, self.heard, self.conditions, **changes)

    @asynccontextmanager
    async def in_session(self, doctor: SmallDoctor, **changes: Any) -> AsyncIterator[Device]:
        """Alice with an established session."""
        async with self.device(doctor, **changes) as alice:
            await session(alice)
            yield alice

    def stored(self) -> list[bytes | None]:
        """The bodies in her inbox."""
        sealer = Sealer(self.home.load().storage_key, bytes)
        return [each.body for each in stored.read(self.home.inbox_file, sealer)]

    def receipted(self) -> list[bool]:
        """Whether the doctor has the receipt, for each message in her inbox."""
        sealer = Sealer(self.home.load().storage_key, bytes)
        return [each.receipted for each in stored.read(self.home.inbox_file, sealer)]

    def reported(self) -> list[tuple[bytes, bool]]:
        """The bodies in her outbox, and whether the doctor has them."""
        sealer = Sealer(self.home.load().storage_key, bytes)
        return [(each.body, each.kept is not None) for each in outbox.read(self.home.outbox_file, sealer)]


async def session(alice: Device) -> Link:
    """An established session."""
    link = await alice.connect()
    assert isinstance(link, Link)
    return link

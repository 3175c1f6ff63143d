"""Many real devices in one process: each with its own directory, keys, inbox and connection, as `telemed-patient run` has them.

Law: nothing of a device is replaced but its pauses and where its notices go. One process holds hundreds, which as many processes
could not; what kill -9 does to a device is tried on processes instead.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TypeAlias

from lab.faults.watch import Watch
from patient import notices
from patient.device import Conditions, Device
from patient.identity import DeviceHome, create
from patient.notices import Notice
from patient.presence import Presence
from patient.settings import PatientSettings
from patient.slots import DeviceLock
from patient.verdicts import Verdict
from shared.config import SuiteName
from shared.crypto.suites import suite_by_name
from shared.protocol.invitations import from_text
from shared.storage.keyfile import private_directory

DEFAULT_SUITE: SuiteName = "elgamal-p256-mlkem768"


@dataclass(frozen=True, slots=True)
class Told:
    """What a device has told, in which of its lives; `time` in seconds of the monotonic clock."""

    patient: str
    life: int
    time: float
    notice: Notice


OnTold: TypeAlias = Callable[[Told], None]


@dataclass(slots=True)
class Member:
    """One device of the swarm.

    Attributes:
        life: how often it was started.
        connected: whether its session is established.
        verdict: how its last life ended, None while it lives or if it was stopped.
    """

    name: str
    home: DeviceHome
    life: int = 0
    connected: bool = False
    verdict: Verdict | None = None
    task: asyncio.Task[Verdict] | None = field(default=None, repr=False)


class Swarm:
    """Devices by name. Leaving the `async with` stops them all.

    Args:
        directory: where their homes are made.
        address: of the doctor, or of a proxy before it.
        watch: told of every notice.
        on_told: called with every notice, in the order in which they came.
        suite: that all use.
    """

    def __init__(
        self,
        directory: Path,
        address: str,
        watch: Watch,
        on_told: OnTold = lambda told: None,
        suite: SuiteName = DEFAULT_SUITE,
    ) -> None:
        self.members: dict[str, Member] = {}
        self._watch = watch
        self._on_told = on_told
        self._conditions = Conditions()
        self._settings = PatientSettings(
            suite=suite,
            state_dir=str(private_directory(directory)),
            doctor_addresses=(address,),
            backoff_min_s=0.05,
            backoff_max_s=1.0,
        )

    async def __aenter__(self) -> Swarm:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(self.stop(name) for name in self.members))

    @property
    def connected(self) -> set[str]:
        """Who has a session now."""
        return {member.name for member in self.members.values() if member.connected}

    def enrol(self, name: str, invitation: str) -> None:
        """Make a device from its invitation and start its first life.

        Raises:
            UserError: the invitation does not fit.
        """
        home = DeviceHome(private_directory(Path(self._settings.state_dir) / name))
        identity = create(
            from_text(invitation), suite_by_name(self._settings.suite), name, self._conditions.random
        )
        home.save(identity)
        self.members[name] = Member(name, home)
        self.start(name)

    def start(self, name: str) -> None:
        """Begin a device's next life."""
        member = self.members[name]
        assert member.task is None  # noqa: S101  a device is one process at a time
        member.life += 1
        member.verdict = None
        member.task = asyncio.create_task(self._live(member))
        member.task.add_done_callback(lambda task: self._ended(member, task))

    async def stop(self, name: str) -> None:
        """End a device's life in good order, as a signal would; one that has ended stays so."""
        task = self.members[name].task
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    async def until_connected(self, names: set[str], seconds: float) -> None:
        """Wait until all of these have a session.

        Raises:
            ScenarioFailed: somebody has none; names who.
        """
        try:
            await self._watch.until(lambda: names <= self.connected, "sessions", seconds)
        except Exception as error:
            error.add_note(f"Without a session: {', '.join(sorted(names - self.connected))}")
            raise

    async def _live(self, member: Member) -> Verdict:
        life = member.life

        def tell(notice: Notice) -> None:
            if isinstance(notice, notices.Established):
                member.connected = True
            elif isinstance(notice, notices.Disconnected):
                member.connected = False
            self._on_told(Told(member.name, life, time.monotonic(), notice))
            self._watch.changed()

        with DeviceLock.acquire(member.home):
            identity = member.home.load()
            async with Device(member.home, identity, self._settings, tell, self._conditions) as device:
                presence = Presence(device, member.home, self._settings, tell, self._conditions)
                return await presence.keep()

    def _ended(self, member: Member, task: asyncio.Task[Verdict]) -> None:
        member.task = None
        member.connected = False
        member.verdict = None if task.cancelled() else task.result()
        self._watch.changed()

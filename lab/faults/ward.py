"""A clinic with its devices on as many networks as a row needs, and a record of all that happens there.

Law: what the checker must know is recorded here, by those who did it; a row only says what it does to the doctor, the devices
and their networks. What is still owed is counted for the devices that stay members, so that a row can wait until all has arrived.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType

import msgspec

from doctor.answers import GroupAnswer, MessageAnswer
from doctor.orders import GroupOrder, MessageOrder
from lab.faults import canaries
from lab.faults.capture import Discarded
from lab.faults.clinic import DOCTOR, Clinic
from lab.faults.evidence import Verdicts
from lab.faults.history import Accepted, History
from lab.faults.keys import recorded
from lab.faults.processes import DeviceProcess
from lab.faults.proxy import FAIR, Proxy, Weather
from lab.faults.recorder import Recorder
from lab.faults.swarm import Swarm, Told
from lab.faults.watch import Watch
from lab.processes import ScenarioFailed
from patient import notices
from shared.storage.keyfile import private_directory

EVERYONE = "everyone"


class Room:
    """Devices that share one network."""

    def __init__(self, name: str, network: Proxy, swarm: Swarm) -> None:
        self.name = name
        self.network = network
        self.swarm = swarm

    @property
    def patients(self) -> set[str]:
        """Their names."""
        return set(self.swarm.members)


class Ward:
    """One doctor, its rooms, and the record. `async with` starts the doctor; leaving stops everything.

    Args:
        directory: for the states of all programs.
        seed: of every network's weather.
        settings, program: of the doctor, as `Clinic` takes them.

    Attributes:
        members: who stays in which group; nothing else is counted as owed.
        said: how many messages there were.
        filler: behind the text of each, to make it longer.
    """

    def __init__(
        self,
        directory: Path,
        seed: int = 0,
        settings: Mapping[str, str] | None = None,
        program: Sequence[str] = DOCTOR,
    ) -> None:
        self.watch = Watch()
        self.clinic = Clinic(directory, self.watch, settings, seed, program)
        self.record = Recorder()
        self.rooms: dict[str, Room] = {}
        self.members: dict[str, set[str]] = defaultdict(set)
        self.told: list[Told] = []
        self._directory = directory
        self._seed = seed
        self._adopted: list[DeviceProcess] = []
        self._owed: dict[str, set[tuple[str, int]]] = defaultdict(set)
        self._applied: set[tuple[str, str, int]] = set()
        self.said = 0
        self.filler = ""
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Ward:
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(recorded(self.record.keys))
            await stack.enter_async_context(self.clinic)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    @property
    def history(self) -> History:
        """What has happened so far."""
        return self.record.history

    # Who is there

    async def open_room(self, name: str, weather: Weather = FAIR) -> Room:
        """A network of its own, in front of the clinic's."""
        host, _, port = self.clinic.address.rpartition(":")
        seed = self._seed + len(self.rooms)
        network = await self._stack.enter_async_context(Proxy(host, int(port), seed, Discarded()))
        network.weather = weather
        return await self.furnish(name, network)

    async def furnish(self, name: str, network: Proxy) -> Room:
        """A room on a network that somebody else has made, and will end."""
        directory = self._directory / "patients" / name
        directory.parent.mkdir(exist_ok=True)
        swarm = Swarm(directory, f"127.0.0.1:{network.port}", self.watch, self._hear)
        self.rooms[name] = await self._room(name, network, swarm)
        return self.rooms[name]

    async def _room(self, name: str, network: Proxy, swarm: Swarm) -> Room:
        await self._stack.enter_async_context(swarm)
        return Room(name, network, swarm)

    async def create_group(self, name: str) -> None:
        """A group without members."""
        await self.clinic.until_accepted("/v1/groups", GroupOrder(name), GroupAnswer)

    async def admit(
        self, room: Room, names: Iterable[str], groups: Sequence[str] = (), patience: float = 60.0
    ) -> None:
        """Enrol devices that stay: wait until all are connected, and count them as members from then on.

        Raises:
            ScenarioFailed: some are not connected in that time.
        """
        asked, joining = time.monotonic(), set(names)
        for name in sorted(joining):
            self.record.joining(name, asked, (EVERYONE, *groups))
            room.swarm.enrol(name, await self.clinic.invite(name, groups))
        await room.swarm.until_connected(joining, patience)
        for group in (EVERYONE, *groups):
            self.members[group] |= joining

    async def adopt(self, name: str, arguments: Sequence[str]) -> DeviceProcess:
        """A device in a process of its own; `arguments` as `DeviceProcess` takes them. It is not counted as owed anything.

        Whoever starts it says when it has joined; in the end it must have all that was accepted for it since.
        """
        directory = private_directory(self._directory / "adopted")
        invitation = await self.clinic.invite(name)
        device = DeviceProcess(name, directory, self.clinic.address, invitation, arguments)
        await self._stack.enter_async_context(device)
        self._adopted.append(device)
        return device

    # What is said

    async def broadcast(self, group: str = EVERYONE) -> Accepted:
        """Have one more broadcast accepted."""
        text, asked = self._next_text(), time.monotonic()
        answer = await self.clinic.broadcast(text, group)
        stream, number = f"group:{group}", answer.number
        accepted = self.record.accepted(asked, answer.id, stream, number, answer.recipients, text)
        return self._owe(self.members[group], accepted)

    async def send(self, patient: str) -> Accepted:
        """Have one more private message accepted."""
        text, asked = self._next_text(), time.monotonic()
        path = f"/v1/patients/{patient}/messages"
        answer = await self.clinic.until_accepted(path, MessageOrder(text), MessageAnswer)
        accepted = self.record.accepted(asked, answer.id, f"patient:{patient}", answer.number, 1, text)
        return self._owe({patient} & self.members[EVERYONE], accepted)

    async def report(self, patient: str) -> None:
        """Let a device report something."""
        homes = (room.swarm.members[patient].home for room in self.rooms.values() if patient in room.patients)
        await self.record.report(patient, next(homes), f"{self.record.canary} a word of {patient}")

    def _next_text(self) -> str:
        self.said += 1
        return f"{self.record.canary} {self.said}{self.filler}"

    def _owe(self, patients: set[str], accepted: Accepted) -> Accepted:
        place = (accepted.stream, accepted.number)
        for patient in patients:
            if (patient, *place) not in self._applied:
                self._owed[patient].add(place)
        return accepted

    @contextlib.asynccontextmanager
    async def traffic(
        self, groups: Sequence[str], pause: float, reports: bool = False
    ) -> AsyncIterator[None]:
        """Broadcasts to these groups and private messages in turn, with a pause between two, as long as the block lasts.

        `reports`: and what patients report, in between.
        """
        over = asyncio.Event()
        talking = asyncio.create_task(self._talk(groups, pause, reports, over))
        try:
            yield
        finally:
            # Not cancelled: what has been ordered must be recorded, or nobody would have accepted it.
            over.set()
            await talking

    async def _talk(self, groups: Sequence[str], pause: float, reports: bool, over: asyncio.Event) -> None:
        for turn in itertools.count():
            patients = sorted(self.members[EVERYONE])
            patient = patients[turn // (len(groups) + 2) % len(patients)]
            acts: list[Callable[[], Awaitable[object]]] = [partial(self.broadcast, group) for group in groups]
            acts.append(partial(self.send, patient))
            if reports:
                acts.append(partial(self.report, patient))
            await acts[turn % len(acts)]()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await over.wait()
            if over.is_set():
                return

    def _hear(self, told: Told) -> None:
        self.told.append(told)
        self.record.hear(told)
        if isinstance(told.notice, notices.Message):
            place = (told.notice.stream, told.notice.number)
            self._applied.add((told.patient, *place))
            self._owed[told.patient].discard(place)

    # What has come of it

    def owed(self, patients: Iterable[str]) -> int:
        """How many messages these have not applied yet."""
        return sum(len(self._owed[patient]) for patient in patients)

    async def until_arrived(self, patients: set[str], seconds: float, *, in_session: bool = True) -> None:
        """Wait until these are connected and have applied all that has been accepted for them up to now.

        Args:
            in_session: all of them at one and the same moment; False where connections go on being lost, so that such a moment may
                never come.

        Raises:
            ScenarioFailed: somebody has not; says who, and how much it lacks.
        """
        due = {patient: set(self._owed[patient]) for patient in patients}
        swarms = [room.swarm for room in self.rooms.values()]

        def lacking() -> dict[str, int]:
            connected = set().union(*(swarm.connected for swarm in swarms))
            owed = {patient: len(due[patient] & self._owed[patient]) for patient in sorted(patients)}
            return {
                patient: count
                for patient, count in owed.items()
                if count or (in_session and patient not in connected)
            }

        try:
            await self.watch.until(lambda: not lacking(), "all that was accepted", seconds)
        except ScenarioFailed as failed:
            raise ScenarioFailed(f"{failed} These lack so many messages, or a session: {lacking()}") from None

    async def judge(self, patience: float = 20.0) -> Verdicts:
        """Ask the doctor what it has in its books, stop the devices, and give all that was recorded to the checker.

        Args:
            patience: seconds until the last receipt must be in the doctor's books.
        """
        await self.record.ask_doctor(self.clinic.orders, patience)
        for room in self.rooms.values():
            await room.swarm.__aexit__(None, None, None)
            for name, member in room.swarm.members.items():
                self.record.read_inbox(name, member.home)
        for device in self._adopted:
            await device.stop()
            for applied in device.applied(time.monotonic()):
                self.history.add(applied)
            self.record.read_inbox(device.name, device.home)
        await self.clinic.stop()
        files = canaries.files_below(self.clinic.state_dir, self.clinic.audit_dir)
        return await self.record.judge(self.clinic.proxy.capture, [*files, *self._logs()])

    def _logs(self) -> list[tuple[str, bytes]]:
        return [(f"the log of {life.name}", msgspec.json.encode(life.lines)) for life in self.clinic.lives]

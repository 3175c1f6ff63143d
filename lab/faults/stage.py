"""A clinic, a swarm and devices in processes of their own, with every act recorded: what the kill rows run on.

Law: an order goes on until it is accepted, whatever dies meanwhile, and is recorded with its beginning and its end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AsyncExitStack
from http import HTTPStatus
from pathlib import Path
from types import TracebackType

import msgspec

from doctor.answers import (
    BroadcastAnswer,
    DepartureAnswer,
    GroupAnswer,
    MemberAnswer,
    MessageAnswer,
    RotationAnswer,
)
from doctor.orders import BroadcastOrder, GroupOrder, MemberOrder, MessageOrder
from lab.faults.bed import Bed
from lab.faults.canaries import files_below
from lab.faults.clinic import PATIENCE, Clinic
from lab.faults.evidence import Verdicts
from lab.faults.history import Joined, Left
from lab.faults.keys import recorded
from lab.faults.orders import Refused
from lab.faults.recorder import Recorder
from lab.faults.swarm import Swarm
from lab.faults.watch import Watch
from lab.processes import ScenarioFailed

EVERYONE = "everyone"


class Stage:
    """One trial. `async with` starts the doctor, and ends everything; `judge` comes before that end.

    Args:
        directory: for all states, the history and the keys.
        seed: of the weather.
        settings: of the doctor, see `Clinic`.

    Attributes:
        record, watch, clinic, swarm: the parts.
        beds: devices in processes of their own, by name.
    """

    def __init__(self, directory: Path, seed: int = 0, settings: Mapping[str, str] | None = None) -> None:
        self.watch = Watch()
        self.record = Recorder(directory / "history.jsonl")
        self.clinic = Clinic(directory / "clinic", self.watch, settings, seed)
        self.swarm: Swarm
        self.beds: dict[str, Bed] = {}
        self._patients = directory / "patients"
        self._processes = directory / "processes"
        self._exit = AsyncExitStack()

    async def __aenter__(self) -> Stage:
        self._exit.enter_context(self.record.history)
        self._exit.enter_context(recorded(self.record.keys))
        await self._exit.enter_async_context(self.clinic)
        self.swarm = Swarm(self._patients, self.clinic.address, self.watch, self.record.hear)
        await self._exit.enter_async_context(self.swarm)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(bed.stop() for bed in self.beds.values()))
        for bed in self.beds.values():
            bed.close()
        await self._exit.__aexit__(kind, error, trace)

    # Members

    async def enrol(self, name: str, *groups: str) -> None:
        """Invite a patient and start its device."""
        self.swarm.enrol(name, await self._invite(name, *groups))

    async def make_bed(self, name: str) -> Bed:
        """Invite a patient whose device will be a process of its own; it is not started yet."""
        invitation = await self._invite(name)
        bed = self.beds[name] = Bed(self._processes, name, invitation, self.watch, self.record.hear)
        return bed

    async def _invite(self, name: str, *groups: str) -> str:
        self.record.joining(name, time.monotonic(), (EVERYONE, *groups))
        return await self.clinic.invite(name, groups)

    def has_joined(self, name: str) -> bool:
        """Whether a patient that was invited has been admitted."""
        return name in {*self.swarm.members, *self.beds} and self.record.has_joined(name)

    async def gather(self, names: Iterable[str], seconds: float = PATIENCE) -> None:
        """Wait until all of these have a session. Raises ScenarioFailed."""
        await self.swarm.until_connected(set(names), seconds)

    def returning(self, name: str) -> None:
        """A retired patient is about to come back: it becomes a member of everyone again."""
        self.record.joining(name, time.monotonic(), (EVERYONE,))

    async def revoke(self, name: str) -> None:
        """Expel a patient."""
        await self._depart(name, "revoked", "revoke")

    async def retire(self, name: str) -> None:
        """Remove a patient until it comes back."""
        await self._depart(name, "retired", "retire")

    async def _depart(self, name: str, reason: str, verb: str) -> None:
        asked = time.monotonic()
        await self.clinic.until_accepted(f"/v1/patients/{name}/{verb}", None, DepartureAnswer)
        self.record.history.add(Left(time=time.monotonic(), asked=asked, patient=name, reason=reason))

    async def rotate_keys(self) -> None:
        """Have the doctor make new keys; nothing happens where somebody lacks those of the last rotation still."""
        try:
            await self.clinic.until_accepted("/v1/keys/rotation", None, RotationAnswer)
        except Refused as refused:
            if refused.status != HTTPStatus.CONFLICT:
                raise

    async def create_group(self, group: str) -> None:
        """Make a group."""
        await self.clinic.until_accepted("/v1/groups", GroupOrder(group), GroupAnswer)

    async def add(self, group: str, name: str) -> None:
        """Add a patient to a group."""
        asked = time.monotonic()
        await self.clinic.until_accepted(f"/v1/groups/{group}/members", MemberOrder(name), MemberAnswer)
        self.record.history.add(Joined(time=time.monotonic(), asked=asked, patient=name, group=group))

    async def remove(self, group: str, name: str) -> None:
        """Remove a patient from a group."""
        asked = time.monotonic()
        path = f"/v1/groups/{group}/members/{name}"
        await self.clinic.until_accepted(path, None, MemberAnswer, delete=True)
        self.record.history.add(
            Left(time=time.monotonic(), asked=asked, patient=name, reason="removed", group=group)
        )

    # What is said

    async def say(self, text: str, group: str = EVERYONE) -> None:
        """Have a broadcast accepted."""
        asked, text = time.monotonic(), f"{self.record.canary} {text}"
        answer = await self.clinic.until_accepted(
            "/v1/broadcasts", BroadcastOrder(text, group), BroadcastAnswer
        )
        self.record.accepted(asked, answer.id, f"group:{group}", answer.number, answer.recipients, text)

    async def tell(self, patient: str, text: str) -> None:
        """Have a message for one patient accepted."""
        asked, text = time.monotonic(), f"{self.record.canary} {text}"
        path = f"/v1/patients/{patient}/messages"
        answer = await self.clinic.until_accepted(path, MessageOrder(text), MessageAnswer)
        self.record.accepted(asked, answer.id, f"patient:{patient}", answer.number, 1, text)

    async def report(self, name: str, text: str) -> None:
        """Let a device report something."""
        home = self.beds[name].home if name in self.beds else self.swarm.members[name].home
        await self.record.report(name, home, f"{self.record.canary} {text}")

    # The end

    async def judge(self, seconds: float = 2 * PATIENCE) -> Verdicts:
        """Let everything be delivered, stop everything, and check all that is left behind.

        Raises:
            ScenarioFailed: the doctor does not end in good order.
        """
        await self.record.ask_doctor(self.clinic.orders, seconds)
        await self._stop()
        for member in self.swarm.members.values():
            self.record.read_inbox(member.name, member.home)
        for bed in self.beds.values():
            self.record.read_inbox(bed.name, bed.home)
            self.record.keys.read(bed.keys)
        return await self.record.judge(self.clinic.proxy.capture, self._places())

    async def judge_round(self, seconds: float, last: bool) -> Verdicts:
        """Let everything be delivered, and check what was recorded since the round began; behind the last one, stop everything.

        Inboxes hold the messages of all rounds, and are not read.

        Raises:
            ScenarioFailed: the doctor does not end in good order.
        """
        await self.record.ask_doctor(self.clinic.orders, seconds)
        if last:
            await self._stop()
        return await self.record.judge(self.clinic.proxy.capture, self._places() if last else ())

    async def _stop(self) -> None:
        devices = [self.swarm.stop(name) for name in self.swarm.members]
        await asyncio.gather(*devices, *(bed.stop() for bed in self.beds.values()))
        if (code := await self.clinic.stop()) != 0:
            raise ScenarioFailed(f"The doctor ended with {code}.\n{self.clinic.doctor.last_words()}")

    def _places(self) -> Iterator[tuple[str, bytes]]:
        """Where no body may stand in clear. What a device says on its standard output is what it shows."""
        for life in self.clinic.lives:
            yield (
                f"the log of {life.name}",
                b"\n".join([*map(msgspec.json.encode, life.lines), life.unparsed()]),
            )
        for bed in self.beds.values():
            yield from ((f"the log of {life.name}", life.unparsed()) for life in bed.lives)
        keys = {str(bed.keys) for bed in self.beds.values()}
        for place in files_below(self.clinic.directory, self._patients, self._processes):
            if place[0] not in keys:
                yield place

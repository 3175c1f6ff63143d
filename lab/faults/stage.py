"""A clinic and a swarm whose every act is recorded: what most rows run on, and what the checker judges.

Law: nothing is recorded that was not seen. A message is accepted when the API has answered, applied when the device has told it, and
everything else the checker gets (the inboxes, the doctor's last word on each recipient, the files) is read when all is over.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from types import TracebackType

import msgspec

from doctor.answers import (
    AuditAnswer,
    BroadcastAnswer,
    BroadcastOrder,
    DepartureAnswer,
    GroupAnswer,
    GroupOrder,
    MemberAnswer,
    MemberOrder,
    MessageAnswer,
    MessageOrder,
    Problem,
    ReceiptAnswer,
)
from lab.faults.canaries import files_below
from lab.faults.checker import check
from lab.faults.clinic import PATIENCE, Clinic
from lab.faults.evidence import Audit, Evidence, Verdicts
from lab.faults.history import Accepted, Applied, History, Joined, Kept, Left, Receipted, Refused
from lab.faults.keys import KeyRing, recorded
from lab.faults.orders import Refused as OrderRefused
from lab.faults.swarm import Swarm, Told
from lab.faults.watch import Watch
from lab.processes import ScenarioFailed
from patient import inbox, notices
from shared.storage.sealed import Sealer

EVERYONE = "everyone"
AT_ONCE = 16  # questions to the API at a time
FINAL = frozenset({"delivered", "expired", "revoked", "retired"})


class Stage:
    """One trial. `async with` starts the doctor, and ends everything; `judge` comes before that end.

    Args:
        directory: for all states, the history and the keys.
        seed: of the weather.
        settings: of the doctor, see `Clinic`.

    Attributes:
        canary: stands in every body.
        history, keys, watch, clinic, swarm: the parts.
    """

    def __init__(self, directory: Path, seed: int = 0, settings: Mapping[str, str] | None = None) -> None:
        self.canary = f"CANARY-{secrets.token_hex(8)}"
        self.directory = directory
        self.watch = Watch()
        self.history = History(directory / "history.jsonl")
        self.keys = KeyRing()
        self.clinic = Clinic(directory / "clinic", self.watch, settings, seed)
        self.swarm: Swarm
        self._joining: dict[str, tuple[float, tuple[str, ...]]] = {}
        self._exit = AsyncExitStack()

    async def __aenter__(self) -> Stage:
        self._exit.enter_context(self.history)
        self._exit.enter_context(recorded(self.keys))
        await self._exit.enter_async_context(self.clinic)
        self.swarm = Swarm(self.directory / "patients", self.clinic.address, self.watch, self._told)
        await self._exit.enter_async_context(self.swarm)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._exit.__aexit__(kind, error, trace)

    # Members

    async def enrol(self, name: str, *groups: str) -> None:
        """Invite a patient and start its device."""
        asked = time.monotonic()
        invitation = await self.clinic.invite(name, groups)
        self._joining[name] = (asked, (EVERYONE, *groups))
        self.swarm.enrol(name, invitation)

    async def gather(self, names: Iterable[str], seconds: float = PATIENCE) -> None:
        """Wait until all of these have a session. Raises ScenarioFailed."""
        await self.swarm.until_connected(set(names), seconds)

    def has_joined(self, name: str) -> bool:
        """Whether an invited patient has been admitted."""
        return name in self.swarm.members and name not in self._joining

    async def revoke(self, name: str) -> None:
        """Expel a patient."""
        await self._depart(name, "revoked", "revoke")

    async def retire(self, name: str) -> None:
        """Remove a patient until it comes back."""
        await self._depart(name, "retired", "retire")

    async def _depart(self, name: str, reason: str, verb: str) -> None:
        asked = time.monotonic()
        await self.clinic.until_accepted(f"/v1/patients/{name}/{verb}", None, DepartureAnswer)
        self.history.add(Left(time=time.monotonic(), asked=asked, patient=name, reason=reason))

    def come_back(self, name: str) -> None:
        """A retired patient's device is started again, and is a member of everyone anew."""
        self._joining[name] = (time.monotonic(), (EVERYONE,))
        self.swarm.start(name)

    async def create_group(self, group: str) -> None:
        """Make a group."""
        await self.clinic.until_accepted("/v1/groups", GroupOrder(group), GroupAnswer)

    async def add(self, group: str, name: str) -> None:
        """Add a patient to a group."""
        asked = time.monotonic()
        await self.clinic.until_accepted(f"/v1/groups/{group}/members", MemberOrder(name), MemberAnswer)
        self.history.add(Joined(time=time.monotonic(), asked=asked, patient=name, group=group))

    async def remove(self, group: str, name: str) -> None:
        """Remove a patient from a group."""
        asked = time.monotonic()
        path = f"/v1/groups/{group}/members/{name}"
        await self.clinic.until_accepted(path, None, MemberAnswer, delete=True)
        self.history.add(
            Left(time=time.monotonic(), asked=asked, patient=name, reason="removed", group=group)
        )

    # Messages

    async def say(self, text: str, group: str = EVERYONE) -> BroadcastAnswer:
        """Have a broadcast accepted, whatever happens to the doctor meanwhile."""
        asked, text = time.monotonic(), f"{self.canary} {text}"
        answer = await self.clinic.until_accepted(
            "/v1/broadcasts", BroadcastOrder(text, group), BroadcastAnswer
        )
        self._accepted(asked, answer.id, f"group:{group}", answer.number, answer.recipients, text)
        return answer

    async def tell(self, patient: str, text: str) -> MessageAnswer:
        """Have a message for one patient accepted."""
        asked, text = time.monotonic(), f"{self.canary} {text}"
        path = f"/v1/patients/{patient}/messages"
        answer = await self.clinic.until_accepted(path, MessageOrder(text), MessageAnswer)
        self._accepted(asked, answer.id, f"patient:{patient}", answer.number, 1, text)
        return answer

    def _accepted(
        self, asked: float, message: str, stream: str, number: int, recipients: int, text: str
    ) -> None:
        self.history.add(
            Accepted(
                time=time.monotonic(),
                asked=asked,
                message=message,
                stream=stream,
                number=number,
                recipients=recipients,
                body=text.encode(),
            )
        )

    def refused(self, who: str, error: OrderRefused) -> None:
        """Record that the API said no, for I5."""
        try:
            problem = msgspec.json.decode(error.body, type=Problem)
        except msgspec.DecodeError:
            problem = Problem(error.body.decode(errors="replace"), "")
        self.history.add(Refused(time=time.monotonic(), who=who, code=problem.code, sentence=problem.error))

    def _told(self, told: Told) -> None:
        notice = told.notice
        if isinstance(notice, notices.Message):
            self.history.add(
                Applied(
                    time=told.time,
                    patient=told.patient,
                    life=told.life,
                    stream=notice.stream,
                    number=notice.number,
                    body=notice.body.encode(),
                )
            )
        elif isinstance(notice, notices.Established):
            asked, groups = self._joining.pop(told.patient, (0.0, ()))
            for group in groups:
                self.history.add(Joined(time=told.time, asked=asked, patient=told.patient, group=group))
        elif isinstance(notice, notices.Refused | notices.Disconnected):
            code = notice.code if isinstance(notice, notices.Refused) else notice.reason
            self.history.add(Refused(time=told.time, who=told.patient, code=code, sentence=notice.sentence))

    # The end

    async def settle(self, seconds: float) -> dict[str, list[ReceiptAnswer]]:
        """Wait until the doctor has the last word on every message, at most so long; what it says of each."""
        said: dict[str, list[ReceiptAnswer]] = {}
        waiting = list(dict.fromkeys(each.message for each in self.history.of(Accepted)))
        try:
            async with asyncio.timeout(seconds):
                while waiting:
                    said |= await self._receipts(waiting)
                    waiting = [name for name in waiting if any(row.state not in FINAL for row in said[name])]
                    if waiting:
                        await asyncio.sleep(0.25)  # the API tells states, not changes
        except TimeoutError:
            pass  # the checker says what is missing
        return said

    async def _receipts(self, names: Sequence[str]) -> dict[str, list[ReceiptAnswer]]:
        orders, turns = self.clinic.orders, asyncio.Semaphore(AT_ONCE)

        async def ask(name: str) -> list[ReceiptAnswer]:
            async with turns:
                return await orders.get(f"/v1/broadcasts/{name}/receipts", list[ReceiptAnswer])

        answers = await asyncio.gather(*(ask(name) for name in names))
        return dict(zip(names, answers, strict=True))

    async def judge(self, seconds: float = 2 * PATIENCE, outsiders: Iterable[str] = ()) -> Verdicts:
        """Let everything be delivered, stop everything, and check all that is left behind."""
        said = await self.settle(seconds)
        for message, rows in said.items():
            for row in rows:
                self.history.add(
                    Receipted(time=time.monotonic(), message=message, patient=row.patient, state=row.state)
                )
        audit = await self.clinic.orders.get("/v1/audit/verify", AuditAnswer)
        await asyncio.gather(*(self.swarm.stop(name) for name in self.swarm.members))
        self._read_inboxes()
        if (code := await self.clinic.stop()) != 0:
            raise ScenarioFailed(f"The doctor ended with {code}.\n{self.clinic.doctor.last_words()}")
        evidence = Evidence(
            history=self.history,
            capture=self.clinic.proxy.capture,
            keys=self.keys,
            audit=Audit(audit.valid, audit.entries, audit.reason),
            canary=self.canary.encode(),
            places=self._places(),
            outsiders=frozenset(outsiders),
        )
        return await asyncio.to_thread(partial(check, evidence))

    def _read_inboxes(self) -> None:
        for member in self.swarm.members.values():
            identity = member.home.load()
            sealer = Sealer(identity.storage_key, secrets.token_bytes)
            for stored in inbox.read(member.home.inbox_file, sealer):
                self.history.add(
                    Kept(
                        time=time.monotonic(),
                        patient=member.name,
                        stream=str(stored.stream),
                        number=stored.number,
                        body=stored.body,
                    )
                )

    def _places(self) -> list[tuple[str, bytes]]:
        logs = [
            (f"the log of {life.name}", b"\n".join([*map(msgspec.json.encode, life.lines), life.unparsed()]))
            for life in self.clinic.lives
        ]
        return [*logs, *files_below(self.clinic.directory, self.directory / "patients")]

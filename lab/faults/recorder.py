"""Takes down what happens in a trial, asks everybody for their last word when it is over, and gives all of it to the checker.

Law: nothing is recorded that was not seen. A message is accepted when the API has answered, applied when the device has told it, and
everything else the checker gets (the inboxes, the doctor's last word on each recipient) is read when all is over.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from doctor.answers import AuditAnswer, Problem, ReceiptAnswer, ReportAnswer
from lab.faults.capture import Capture
from lab.faults.checker import check
from lab.faults.evidence import Audit, Evidence, Verdicts
from lab.faults.history import (
    Accepted,
    Applied,
    History,
    Joined,
    Kept,
    Left,
    Receipted,
    Refused,
    Reported,
    ReportKept,
)
from lab.faults.keys import KeyRing
from lab.faults.orders import Orders
from lab.faults.orders import Refused as OrderRefused
from lab.faults.swarm import Told
from patient import notices, stored
from patient.identity import DeviceHome
from patient.outbox import Outbox
from shared.storage.sealed import Sealer
from shared.wire.messages import ReportKind

AT_ONCE = 16  # questions to the API at a time
ASK_AGAIN = 0.25  # seconds; the API tells states, not changes
OPEN = frozenset({"queued", "sent"})


class Recorder:
    """The record of one trial.

    Args:
        path: of the history's file; None: it is only kept in memory.

    Attributes:
        canary: to stand in every body.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.canary = f"CANARY-{secrets.token_hex(8)}"
        self.history = History(path)
        self.keys = KeyRing()
        self._joining: dict[str, tuple[float, Sequence[str]]] = {}
        self._audit: Audit | None = None

    def begin_round(self) -> None:
        """Forget messages and keys; who is a member stays known, and what was reported, which the doctor goes on showing."""
        stays = [each for each in self.history.events if isinstance(each, Joined | Left | Reported)]
        self.history.events[:] = stays
        self.keys.sessions.clear()
        self.keys.epochs.clear()

    # While it goes on

    def joining(self, name: str, asked: float, groups: Sequence[str]) -> None:
        """A patient is about to become a member of these; it is one when its session is established."""
        self._joining[name] = (asked, groups)

    def has_joined(self, name: str) -> bool:
        """Whether that has come true."""
        return name not in self._joining

    def accepted(
        self, asked: float, message: str, stream: str, number: int, recipients: int, text: str
    ) -> Accepted:
        """The API has accepted a message just now; `asked` when it was ordered."""
        accepted = Accepted(
            time=time.monotonic(),
            asked=asked,
            message=message,
            stream=stream,
            number=number,
            recipients=recipients,
            body=text.encode(),
        )
        self.history.add(accepted)
        return accepted

    def refused(self, who: str, error: OrderRefused) -> None:
        """The API has said no."""
        try:
            problem = msgspec.json.decode(error.body, type=Problem)
        except msgspec.DecodeError:
            problem = Problem(error.body.decode(errors="replace"), "")
        self.history.add(Refused(time=time.monotonic(), who=who, code=problem.code, sentence=problem.error))

    async def report(self, name: str, home: DeviceHome, body: str) -> None:
        """Put a report into a device's outbox, as a program beside it would."""
        box = Outbox(home.outbox_file, _sealer(home), secrets.token_bytes)
        try:
            report = await box.write(ReportKind.REPLY, body.encode(), int(time.time() * 1000))
        finally:
            await box.close()
        self.history.add(
            Reported(time=time.monotonic(), patient=name, report=report.hex(), body=body.encode())
        )

    def hear(self, told: Told) -> None:
        """A device has told something."""
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

    # When it is over

    async def ask_doctor(self, orders: Orders, seconds: float) -> None:
        """Ask until nothing is open any more, at most so long, and take down the doctor's last word on everything.

        What is open behind that is the checker's to say.
        """
        ends = time.monotonic() + seconds
        receipts, reports = await self._ask_receipts(orders), await self._ask_reports(orders)
        while self._is_open(receipts, reports) and time.monotonic() < ends:
            await asyncio.sleep(ASK_AGAIN)
            unfinished = [name for name, rows in receipts.items() if any(row.state in OPEN for row in rows)]
            receipts |= await self._ask_receipts(orders, unfinished)
            reports = await self._ask_reports(orders)
        now = time.monotonic()
        for message, rows in receipts.items():
            for row in rows:
                self.history.add(Receipted(time=now, message=message, patient=row.patient, state=row.state))
        for patient, kept in reports.items():
            for each in kept:
                body = each.body.encode()
                self.history.add(ReportKept(time=now, patient=patient, report=each.id, body=body))
        answer = await orders.get("/v1/audit/verify", AuditAnswer)
        self._audit = Audit(answer.valid, answer.entries, answer.reason)

    async def _ask_receipts(
        self, orders: Orders, names: Sequence[str] | None = None
    ) -> dict[str, list[ReceiptAnswer]]:
        if names is None:
            names = list(dict.fromkeys(each.message for each in self.history.of(Accepted)))
        turns = asyncio.Semaphore(AT_ONCE)

        async def ask(name: str) -> list[ReceiptAnswer]:
            async with turns:
                try:
                    return await orders.get(f"/v1/broadcasts/{name}/receipts", list[ReceiptAnswer])
                except OrderRefused:
                    return []  # it denies what it has accepted: the checker misses the recipients

        return dict(zip(names, await asyncio.gather(*map(ask, names)), strict=True))

    async def _ask_reports(self, orders: Orders) -> dict[str, list[ReportAnswer]]:
        patients = sorted({each.patient for each in self.history.of(Reported)})
        return {
            name: await orders.get(f"/v1/patients/{name}/reports", list[ReportAnswer]) for name in patients
        }

    def _is_open(
        self, receipts: dict[str, list[ReceiptAnswer]], reports: dict[str, list[ReportAnswer]]
    ) -> bool:
        gone = {each.patient for each in self.history.of(Left) if each.reason != "removed"}
        kept = {each.id for answers in reports.values() for each in answers}
        return any(row.state in OPEN for rows in receipts.values() for row in rows) or any(
            each.report not in kept and each.patient not in gone for each in self.history.of(Reported)
        )

    def read_inbox(self, name: str, home: DeviceHome) -> None:
        """Take down what a device, which must be at rest, has kept."""
        for message in stored.read(home.inbox_file, _sealer(home)):
            self.history.add(
                Kept(
                    time=time.monotonic(),
                    patient=name,
                    stream=str(message.stream),
                    number=message.number,
                    body=message.body,
                )
            )

    async def judge(self, capture: Capture, places: Iterable[tuple[str, bytes]]) -> Verdicts:
        """What the checker says to all that."""
        evidence = Evidence(
            history=self.history,
            capture=capture,
            keys=self.keys,
            audit=self._audit,
            canary=self.canary.encode(),
            places=places,
        )
        return await asyncio.to_thread(check, evidence)


def _sealer(home: DeviceHome) -> Sealer:
    return Sealer(home.load().storage_key, secrets.token_bytes)

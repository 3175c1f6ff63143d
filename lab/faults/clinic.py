"""A real doctor that may die and come back, with a proxy in front that keeps everything that was on the wire.

Law: the doctor is the shipped program in a process of its own; each of its lives is a new process on the same directories. Devices
are given the proxy's address, which stays the same from life to life.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import msgspec

from doctor.answers import BroadcastAnswer, InvitationAnswer
from doctor.orders import BroadcastOrder, InviteOrder
from lab.faults.orders import NotAnswered, Orders, Refused, new_key
from lab.faults.proxy import Proxy
from lab.faults.watch import Watch
from lab.processes import Program, ScenarioFailed
from shared.crypto.suites import DEFAULT_SUITE

PATIENCE = 60.0  # seconds that a doctor may take to start, or to be reached again
LATE = 5  # times that an order may come in too late
DOCTOR = ("-m", "doctor")
UNALARMED = {"FAILING_PER_SECOND": "1000000", "FAILING_PER_ADDRESS": "1000000", "LOG_LEVEL": "debug"}
"""For a row that says the wrong thing a thousand times to see what is answered: nothing of it is load, and the log tells each."""

T = TypeVar("T")


class Clinic:
    """One doctor from life to life. `async with` starts the first life and ends the last one.

    Args:
        directory: for the doctor's state and its audit volume.
        watch: told when the doctor is ready or gone.
        settings: its settings as TELEMED_DOCTOR_<KEY> without the prefix, on top of ours.
        seed: of the proxy's weather.
        program: arguments of the interpreter that become the doctor, in every life that names no others.

    Attributes:
        lives: every process so far, the present one last.
        proxy: where devices connect.
        port: where the present life listens, for those who go round the proxy.
        orders: the API of the present life.
        serving: set while a life is ready.
    """

    def __init__(
        self,
        directory: Path,
        watch: Watch,
        settings: Mapping[str, str] | None = None,
        seed: int = 0,
        program: Sequence[str] = DOCTOR,
    ) -> None:
        self.directory = directory
        self.state_dir = directory / "doctor"
        self.audit_dir = directory / "audit"
        self.lives: list[Program] = []
        self.port = 0
        self.proxy = Proxy("127.0.0.1", 9, seed)
        self.serving = asyncio.Event()
        self._watch = watch
        self._settings = dict(settings or {})
        self._program = program
        self._orders: Orders | None = None
        self._mourner: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Clinic:
        await self.proxy.__aenter__()
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        await self.proxy.__aexit__()
        for life in self.lives:
            life.close()

    @property
    def doctor(self) -> Program:
        """The present life, or the last one."""
        return self.lives[-1]

    @property
    def orders(self) -> Orders:
        """The API of the present life."""
        assert self._orders is not None  # noqa: S101  it is started
        return self._orders

    @property
    def address(self) -> str:
        """What devices are given."""
        return f"127.0.0.1:{self.proxy.port}"

    async def start(self, arguments: Sequence[str] | None = None) -> float:
        """Begin a life; returns the seconds until it served devices and orders.

        Args:
            arguments: of the interpreter; a program that becomes the doctor.

        Raises:
            ScenarioFailed: it ended, or did not become ready.
        """
        began = time.monotonic()
        doctor = Program(
            f"doctor, life {len(self.lives) + 1}",
            list(arguments or self._program),
            self._environment(),
            "stderr",
        )
        self.lives.append(doctor)
        await doctor.start()
        self._mourner = asyncio.create_task(self._mourn(doctor))
        await doctor.wait_for("be ready", lambda p: bool(p.find(event="api ready")), PATIENCE)
        port = doctor.find(event="listening")[-1]["port"]
        assert isinstance(port, int)  # noqa: S101  a port is a number in the log
        self.port = port
        self.proxy.retarget("127.0.0.1", port)
        self._orders = Orders(self.state_dir)
        self.serving.set()
        self._watch.changed()
        return time.monotonic() - began

    async def kill(self) -> None:
        """End the present life at once: kill -9."""
        await self.doctor.kill()
        await self.died(PATIENCE)

    async def stop(self) -> int:
        """End the present life in good order; its exit code."""
        code = await self.doctor.stop()
        await self.died(PATIENCE)
        return code

    async def died(self, seconds: float) -> None:
        """Wait until the present life is over, by whatever hand.

        Raises:
            ScenarioFailed: it lives on.
        """
        assert self._mourner is not None  # noqa: S101  it is started
        try:
            async with asyncio.timeout(seconds):
                await asyncio.shield(self._mourner)
        except TimeoutError:
            raise ScenarioFailed(f"{self.doctor.name} was to die within {seconds:g} s and did not.") from None

    # Orders

    async def invite(self, patient: str, groups: Sequence[str] = ()) -> str:
        """An invitation for one patient, as a string."""
        answer = await self.until_accepted(
            "/v1/invitations", InviteOrder(patient, list(groups)), InvitationAnswer
        )
        return answer.invitation

    async def broadcast(self, text: str, group: str = "everyone") -> BroadcastAnswer:
        """Have a broadcast accepted."""
        return await self.until_accepted("/v1/broadcasts", BroadcastOrder(text, group), BroadcastAnswer)

    async def until_accepted(
        self, path: str, order: msgspec.Struct | None, kind: type[T], *, delete: bool = False
    ) -> T:
        """Give an order, again under the same key whenever the doctor was gone before it had answered.

        Args:
            delete: take away what `path` names, instead of posting `order` to it.

        Raises:
            Refused: the doctor said no. ScenarioFailed: it did not come back.
        """
        key, late = new_key(), 0
        while True:
            await self._watch.until(self.serving.is_set, f"{path}: waiting for a doctor", PATIENCE)
            life = self.doctor
            try:
                if delete:
                    return await self.orders.delete(path, kind, key)
                return await self.orders.post(path, order, kind, key)
            except NotAnswered as error:
                # Only death excuses a doctor that does not answer; then its next life is asked.
                await self._watch.until(partial(_over, life), f"{error}, but it is alive", PATIENCE)
            except Refused as refused:
                # This machine was too busy to send an order within ten seconds, and the doctor has not carried it out.
                late += 1
                if refused.status != HTTPStatus.REQUEST_TIMEOUT or late > LATE:
                    raise

    # Inside

    async def _mourn(self, doctor: Program) -> None:
        await doctor.ended_by_itself()
        self.serving.clear()
        self._watch.changed()
        if self._orders is not None:
            await self._orders.__aexit__(None, None, None)

    def _environment(self) -> dict[str, str]:
        settings = {
            "LISTEN_PORT": "0",
            "CONSOLE_PORT": "null",
            "ADDRESSES": self.address,
            "STATE_DIR": str(self.state_dir),
            "AUDIT_DIR": str(self.audit_dir),
            "SUITES": DEFAULT_SUITE.name,
            "LOG_LEVEL": "info",
            "LOG_FORMAT": "json",
            **self._settings,
        }
        return {f"TELEMED_DOCTOR_{key}": value for key, value in settings.items()}


def _over(life: Program) -> bool:
    return life.ended

"""One device as the shipped program in a process of its own, that may be killed at a failpoint and started again.

Law: each of its lives runs on the same directory, by the lab's runner, which takes down its keys in a file; what it tells on
standard output is heard line by line, in order.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import msgspec

from lab.faults.failpoints import HIT, NONE
from lab.faults.points import Failpoint
from lab.faults.swarm import DEFAULT_SUITE, OnTold, Told
from lab.faults.watch import Watch
from lab.processes import Line, Program, ScenarioFailed
from patient import notices
from patient.identity import DeviceHome
from shared.storage.keyfile import private_directory, write_private

AnyNotice = (
    notices.Handshake
    | notices.Established
    | notices.Epoch
    | notices.Message
    | notices.Refused
    | notices.Disconnected
    | notices.Waiting
    | notices.Enrolled
    | notices.ReportKept
)


class Bed:
    """A device and its lives.

    Args:
        directory: where all of them keep their states.
        name: the patient's id.
        invitation: by which it enrols at its first start.
        watch: told of every line.
        on_told: called with every notice.

    Attributes:
        lives: every process so far, the present one last.
        connected: whether its session is established.
        connected_at: when its present life was first; None: not yet.
        keys: the file in which its keys are taken down.
    """

    def __init__(self, directory: Path, name: str, invitation: str, watch: Watch, on_told: OnTold) -> None:
        self.name = name
        self.lives: list[Program] = []
        self.connected = False
        self.connected_at: float | None = None
        self.home = DeviceHome(private_directory(directory) / name)
        self.keys = directory / f"{name}.keys"
        self._invitation = directory / f"{name}.invitation"
        self._watch = watch
        self._on_told = on_told
        write_private(self._invitation, invitation.encode())

    @property
    def device(self) -> Program:
        """The present life, or the last one."""
        return self.lives[-1]

    async def start(self, point: Failpoint | None = None, nth: int = 1) -> None:
        """Begin a life, with a failpoint in it or without."""
        name = NONE if point is None else point.name
        runner = ["-m", "lab.faults.failpoints", "patient", name, str(nth), "--keys", str(self.keys)]
        environment = {
            "TELEMED_PATIENT_STATE_DIR": str(self.home.path.parent),
            "TELEMED_PATIENT_INVITATION_FILE": str(self._invitation),
            "TELEMED_PATIENT_SUITE": DEFAULT_SUITE,
            "TELEMED_PATIENT_BACKOFF_MIN_S": "0.05",
            "TELEMED_PATIENT_BACKOFF_MAX_S": "1.0",
        }
        life = len(self.lives) + 1
        arguments = [*runner, "--", self.name, "--json"]
        program = Program(
            f"{self.name}, life {life}",
            arguments,
            environment,
            "stdout",
            lambda line: self._hear(life, line),
        )
        self.connected, self.connected_at = False, None
        self.lives.append(program)
        await program.start()

    async def died(self, seconds: float) -> str | None:
        """Wait until its present life is over; the failpoint that ended it, None where it was something else.

        Raises:
            ScenarioFailed: it lives on.
        """
        try:
            async with asyncio.timeout(seconds):
                await self.device.ended_by_itself()
        except TimeoutError:
            raise ScenarioFailed(f"{self.device.name} was to die within {seconds:g} s and did not.") from None
        self.connected = False
        hits = [str(line["at"]) for line in self.device.find(event=HIT)]
        return hits[-1] if hits else None

    async def stop(self) -> None:
        """End its present life in good order."""
        if self.lives:
            await self.device.stop()
        self.connected = False

    def close(self) -> None:
        """Forget what its lives have said."""
        for life in self.lives:
            life.close()

    def _hear(self, life: int, line: Line) -> None:
        if line["event"] != HIT:
            notice = msgspec.convert(line, type=AnyNotice)
            if isinstance(notice, notices.Established):
                self.connected = True
                self.connected_at = self.connected_at or time.monotonic()
            elif isinstance(notice, notices.Disconnected):
                self.connected = False
            self._on_told(Told(self.name, life, time.monotonic(), notice))
        self._watch.changed()

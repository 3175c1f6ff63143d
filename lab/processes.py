"""The project's own programs as child processes, and what they say, line by line.

A program says what happens as JSON lines: a patient on its standard output, the doctor in its log on standard error. A test or
a demo waits for a line that it names; nothing here sleeps and hopes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO

import msgspec

from shared.errors import TelemedError

STOP_PATIENCE = 10.0  # seconds from SIGTERM to SIGKILL

Line = Mapping[str, object]


class ScenarioFailed(TelemedError):
    """A step of a scenario did not turn out as it must; `str(error)` says which, and shows what the programs said last."""


def integer(line: Line, key: str) -> int:
    """A number that a program has said. Raises ScenarioFailed if it is none."""
    value = line[key]
    if not isinstance(value, int):
        raise ScenarioFailed(f"{key} is no number in {line}")
    return value


def inherited_environment() -> dict[str, str]:
    """Our own environment without the project's settings: what a program under test is given comes from the test alone."""
    return {key: value for key, value in os.environ.items() if not key.startswith("TELEMED_")}


class Program:
    """One child process whose output is kept as parsed JSON lines.

    Args:
        name: how people call it.
        arguments: after the interpreter, for example `-m doctor`.
        environment: variables on top of a clean copy of our own.
        channel: where its JSON lines come from, "stdout" or "stderr".
        on_line: called with every JSON line, in order.
    """

    def __init__(
        self,
        name: str,
        arguments: list[str],
        environment: Mapping[str, str],
        channel: str,
        on_line: Callable[[Line], None] = lambda line: None,
    ) -> None:
        self.name = name
        self.lines: list[Line] = []
        self._arguments = arguments
        self._environment = {**inherited_environment(), **environment}
        self._channel = channel
        self._on_line = on_line
        self._said = asyncio.Condition()
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._rest: IO[bytes] | None = None

    async def start(self) -> None:
        """Start it."""
        self._rest = tempfile.TemporaryFile()  # noqa: SIM115  closed in `close`; what is no JSON, in case of a failure
        pipes = {"stdout": self._rest, "stderr": self._rest, self._channel: asyncio.subprocess.PIPE}
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            *self._arguments,
            stdin=asyncio.subprocess.DEVNULL,
            env=self._environment,
            limit=1 << 20,
            **pipes,  # type: ignore[arg-type]  # either of the two kinds that both parameters take
        )
        output = self._process.stdout if self._channel == "stdout" else self._process.stderr
        assert output is not None  # noqa: S101  it is the pipe
        self._reader = asyncio.create_task(self._read(output))

    async def _read(self, output: asyncio.StreamReader) -> None:
        async for raw in output:
            try:
                line = msgspec.json.decode(raw, type=dict[str, object])
            except msgspec.DecodeError:
                assert self._rest is not None  # noqa: S101  it is started
                self._rest.write(raw)
                continue
            async with self._said:
                self.lines.append(line)
                self._said.notify_all()
            self._on_line(line)
        async with self._said:
            self._said.notify_all()

    @property
    def pid(self) -> int:
        """The process's number; only once it is started."""
        assert self._process is not None  # noqa: S101  said above
        return self._process.pid

    @property
    def environment(self) -> Mapping[str, str]:
        """What it was given on top of our own, cleaned of the project's settings."""
        return {key: value for key, value in self._environment.items() if key.startswith("TELEMED_")}

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self._process is None or self._process.returncode is not None

    def find(self, **wanted: object) -> list[Line]:
        """The lines so far that have all of these fields."""
        return [line for line in self.lines if all(line.get(key) == value for key, value in wanted.items())]

    async def wait_for(self, what: str, holds: Callable[[Program], bool], seconds: float) -> None:
        """Wait until what this program has said fulfils a condition.

        Raises:
            ScenarioFailed: the process ended, or the time is over; says what was awaited and what was said last.
        """
        try:
            async with asyncio.timeout(seconds), self._said:
                while not holds(self):
                    if self._reader is not None and self._reader.done():
                        raise ScenarioFailed(
                            f"{self.name} ended while it was to {what}.\n{self.last_words()}"
                        )
                    await self._said.wait()
        except TimeoutError:
            detail = f"{self.name} did not {what} within {seconds:.0f} s.\n{self.last_words()}"
            raise ScenarioFailed(detail) from None

    async def wait_for_exit(self, seconds: float) -> int:
        """Wait until it has ended by itself; its exit code.

        Raises:
            ScenarioFailed: the time is over.
        """
        assert self._process is not None  # noqa: S101  only what was started is waited for
        try:
            async with asyncio.timeout(seconds):
                return await self._process.wait()
        except TimeoutError:
            raise ScenarioFailed(
                f"{self.name} did not end within {seconds:.0f} s.\n{self.last_words()}"
            ) from None

    async def stop(self) -> int:
        """Ask it to end, and wait; its exit code. One that takes longer than STOP_PATIENCE is killed."""
        process = self._process
        if process is None:
            return 0
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(STOP_PATIENCE):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        if self._reader is not None:
            await self._reader
        return process.returncode if process.returncode is not None else -1

    async def kill(self) -> None:
        """End it at once: kill -9."""
        assert self._process is not None  # noqa: S101  only what was started is killed
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self.ended_by_itself()

    async def ended_by_itself(self) -> int:
        """Wait, however long it takes, until it has ended and everything that it said is read; its exit code."""
        assert self._process is not None  # noqa: S101  only what was started is waited for
        assert self._reader is not None  # noqa: S101  it is started
        code = await self._process.wait()
        await self._reader
        return code

    def last_words(self) -> str:
        """The end of what it said, for a person who has to find out why."""
        other = self.unparsed().decode(errors="replace").splitlines()[-10:]
        lines = [msgspec.json.encode(line).decode() for line in self.lines[-10:]]
        return "\n".join(f"    {line}" for line in [*lines, *other])

    def unparsed(self) -> bytes:
        """All that it said, on either channel, that was no JSON."""
        if self._rest is None:
            return b""
        self._rest.flush()
        self._rest.seek(0)
        return self._rest.read()

    def close(self) -> None:
        """Forget what it said that was no JSON."""
        if self._rest is not None:
            self._rest.close()

    async def __aenter__(self) -> Program:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        self.close()


def doctor_program(directory: Path, suite: str, console_port: int | None = None) -> Program:
    """A doctor on a free loopback port, whose log is JSON and tells every step of a handshake."""
    environment = {
        "TELEMED_DOCTOR_LISTEN_PORT": "0",
        "TELEMED_DOCTOR_CONSOLE_PORT": "null" if console_port is None else str(console_port),
        "TELEMED_DOCTOR_STATE_DIR": str(directory / "doctor"),
        "TELEMED_DOCTOR_AUDIT_DIR": str(directory / "audit"),
        "TELEMED_DOCTOR_SUITES": suite,
        "TELEMED_DOCTOR_LOG_LEVEL": "debug",
        "TELEMED_DOCTOR_LOG_FORMAT": "json",
    }
    return Program("the doctor", ["-m", "doctor"], environment, "stderr")


def patient_program(
    directory: Path, patient_id: str, suite: str, invitation: Path, address: str = "", vitals_every: int = 0
) -> Program:
    """A patient that enrols with an invitation file at its first start.

    `address`: other than the invitation has it. `vitals_every`: so many seconds its simulated sensor reports.
    """
    environment = {
        "TELEMED_PATIENT_STATE_DIR": str(directory / "patients"),
        "TELEMED_PATIENT_INVITATION_FILE": str(invitation),
        "TELEMED_PATIENT_SUITE": suite,
        "TELEMED_PATIENT_DOCTOR_ADDRESSES": address,
        "TELEMED_PATIENT_VITALS_INTERVAL_S": str(vitals_every),
        "TELEMED_PATIENT_LOG_LEVEL": "warning",
    }
    return Program(patient_id, ["-m", "patient", patient_id, "--json"], environment, "stdout")


@contextlib.asynccontextmanager
async def running(programs: list[Program]) -> AsyncIterator[list[Program]]:
    """Start several programs, and stop them all together in the end."""
    async with contextlib.AsyncExitStack() as stack:
        for program in programs:
            await stack.enter_async_context(program)
        try:
            yield programs
        finally:
            await asyncio.gather(*(program.stop() for program in programs))

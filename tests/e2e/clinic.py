"""A doctor with its console and patients with their devices, as processes of their own; for tests that block in a browser.

The processes are watched on an event loop in a thread: the browser's interface has the test's own thread for itself.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from doctor.answers import ConsoleAnswer, InvitationAnswer
from doctor.client import Client
from doctor.orders import InviteOrder
from lab.processes import Program, doctor_program, patient_program
from shared.crypto.suites import DEFAULT_SUITE
from shared.storage.keyfile import write_private

T = TypeVar("T")

PATIENCE = 60.0  # seconds that any one step of a process may take
REVOKED_EXIT = 7


class Clinic:
    """One doctor and its patients, below one directory; empty at first.

    Attributes:
        doctor: the running doctor. client: its API.
        patients: the devices by the patient's name, started or ended.
        address: of the console, without a slash at its end.
        password: the first operator's.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="clinic")
        self._stack = AsyncExitStack()
        self._connections = ExitStack()
        self.doctor = doctor_program(directory, DEFAULT_SUITE.name, console_port=0)
        self.patients: dict[str, Program] = {}

    def __enter__(self) -> Clinic:
        self._thread.start()
        try:
            self._begin(self._stack.enter_async_context(self.doctor)).result()
            self._until(self.doctor, "listen", event="api ready")
            self._until(self.doctor, "serve the console", event="console ready")
            self.client = self._connections.enter_context(Client(str(self._directory / "doctor")))
            place = self.client.get("/v1/console", ConsoleAnswer)
        except BaseException:
            self._end()
            raise
        self.address, self.password = place.address.rstrip("/"), place.first_password or ""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def admit(self, *names: str, vitals_every: int = 0) -> None:
        """Invite patients and start their devices; whoever calls waits for what is to come of it.

        `vitals_every`: so many seconds their simulated sensors report.
        """
        for name in names:
            answer = self.client.post("/v1/invitations", InviteOrder(name), InvitationAnswer)
            path = self._directory / f"{name}.invitation"
            write_private(path, answer.invitation.encode())
            self.patients[name] = patient_program(
                self._directory, name, DEFAULT_SUITE.name, path, vitals_every=vitals_every
            )
            self._begin(self._stack.enter_async_context(self.patients[name])).result()

    def restart(self, name: str) -> None:
        """Start a device that has ended once more, as who it was."""
        path = self._directory / f"{name}.invitation"
        self.patients[name] = patient_program(self._directory, name, DEFAULT_SUITE.name, path)
        self._begin(self._stack.enter_async_context(self.patients[name])).result()

    def stop(self, name: str) -> None:
        """Ask a device to end, and wait for it; `restart` lets it come back."""
        self._begin(self.patients[name].stop()).result()

    def until_established(self) -> None:
        """Wait for all devices."""
        for patient in self.patients.values():
            self._until(patient, "be established", event="established")

    def until_read(self, name: str, text: str) -> None:
        """Wait until a device shows this text."""
        self._until(self.patients[name], f"read {text!r}", event="message", body=text)

    def exit_code(self, name: str) -> int:
        """Wait until a device has ended by itself."""
        return self._begin(self.patients[name].wait_for_exit(PATIENCE)).result()

    def report(self, name: str, text: str) -> None:
        """Have a device tell the doctor something."""
        command = "import sys; from patient.cli import main; sys.exit(main())"
        arguments = ["-c", command, "report", text, "--id", name, "--json"]
        program = Program(f"report of {name}", arguments, self.patients[name].environment, "stdout")
        self._begin(self._run(program)).result()

    async def _run(self, program: Program) -> None:
        async with program:
            assert await program.wait_for_exit(PATIENCE) == 0, program.last_words()

    def _until(self, program: Program, what: str, **wanted: object) -> None:
        self._begin(program.wait_for(what, lambda said: bool(said.find(**wanted)), PATIENCE)).result()

    def _begin(self, work: Coroutine[object, object, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _end(self) -> None:
        try:
            self._connections.close()
            self._begin(self._stop()).result()
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _stop(self) -> None:
        await asyncio.gather(*(program.stop() for program in (*self.patients.values(), self.doctor)))
        await self._stack.aclose()

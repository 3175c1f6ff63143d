"""A device as a process of its own, from life to life: for what cannot be done to one of many in a process, such as to its clock.

Law: each life is the shipped program on the same directory; what its lives have told stays, in order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from lab.faults.history import Applied
from lab.processes import Line, Program
from patient.identity import DeviceHome
from shared.storage.keyfile import write_private

PATIENCE = 30.0


class DeviceProcess:
    """One device. Leaving the `async with` ends its present life.

    Args:
        name: its id.
        directory: of all devices; this one gets a folder in it.
        address: of the doctor, or of a proxy before it.
        invitation: for its first life.
        arguments: of the interpreter, for each life; something that becomes `patient NAME --json`.
    """

    def __init__(
        self, name: str, directory: Path, address: str, invitation: str, arguments: Sequence[str]
    ) -> None:
        self.name = name
        self.home = DeviceHome(directory / name)
        self.lives: list[Program] = []
        self._arguments = list(arguments)
        path = directory / f"{name}.invitation"
        write_private(path, invitation.encode())
        settings = {
            "STATE_DIR": str(directory),
            "INVITATION_FILE": str(path),
            "DOCTOR_ADDRESSES": address,
            "BACKOFF_MIN_S": "0.05",
            "BACKOFF_MAX_S": "0.5",
            "LOG_LEVEL": "warning",
        }
        self._environment = {f"TELEMED_PATIENT_{key}": value for key, value in settings.items()}

    async def __aenter__(self) -> DeviceProcess:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        for life in self.lives:
            life.close()

    @property
    def present(self) -> Program:
        """Its present life, or the last one."""
        return self.lives[-1]

    async def start(self, attempts: int = 0) -> Program:
        """Begin a life that gives up after so many failed attempts; 0: never."""
        environment = {**self._environment, "TELEMED_PATIENT_ATTEMPTS": str(attempts)}
        life = Program(f"{self.name}, life {len(self.lives) + 1}", self._arguments, environment, "stdout")
        self.lives.append(life)
        await life.start()
        return life

    async def stop(self) -> None:
        """End the present life in good order."""
        if self.lives:
            await self.present.stop()

    async def until(self, what: str, holds: Callable[[Program], bool], seconds: float = PATIENCE) -> None:
        """Wait until what the present life has told fulfils a condition.

        Raises:
            ScenarioFailed: it did not, or the life is over.
        """
        await self.present.wait_for(what, holds, seconds)

    async def until_established(self, seconds: float = PATIENCE) -> None:
        """Wait until the present life has its first session; raises as `until`."""
        await self.until("be established", lambda life: bool(life.find(event="established")), seconds)

    def told(self, **wanted: object) -> list[Line]:
        """What all its lives have told with these fields."""
        return [line for life in self.lives for line in life.find(**wanted)]

    def applied(self, time: float) -> list[Applied]:
        """The messages that it has told, for the record."""
        return [
            Applied(
                time=time,
                patient=self.name,
                life=number,
                stream=str(line["stream"]),
                number=int(str(line["number"])),
                body=str(line["body"]).encode(),
            )
            for number, life in enumerate(self.lives, 1)
            for line in life.find(event="message")
        ]

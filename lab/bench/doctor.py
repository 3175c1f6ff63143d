"""The doctor under measurement: its process, its directories, its processor time."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

import msgspec

from lab.bench.gateway_host import Answer, Order, Settled
from lab.bench.timing import processor_seconds, resident_bytes
from lab.processes import inherited_environment
from shared.errors import TelemedError

SETTLING = 0.002  # seconds between two questions; six hundred times in a quick run something has to settle, for some milliseconds each


class BenchFailed(TelemedError):
    """A measured program ended or said something unexpected."""


class MeasuredDoctor:
    """A gateway host as a child process. `with` starts and ends it.

    Args:
        directory: for its state.
        suite: that it allows.

    Attributes:
        port: of the devices.
    """

    def __init__(self, directory: Path, suite: str) -> None:
        self.port = 0
        self._directory = directory
        self._environment = {
            **inherited_environment(),
            "TELEMED_DOCTOR_LISTEN_PORT": "0",
            "TELEMED_DOCTOR_CONSOLE_PORT": "null",
            "TELEMED_DOCTOR_STATE_DIR": str(directory / "doctor"),
            "TELEMED_DOCTOR_AUDIT_DIR": str(directory / "audit"),
            "TELEMED_DOCTOR_SUITES": suite,
            "TELEMED_DOCTOR_FLEET_USES": "100000",
            # All patients of a benchmark come from one address, and as fast as they can.
            "TELEMED_DOCTOR_HALF_OPEN_LIMIT": "10000",
            "TELEMED_DOCTOR_HALF_OPEN_PER_ADDRESS": "10000",
            # Every login is to have its audit entry, although the same few patients come again and again.
            "TELEMED_DOCTOR_LOGINS_PER_MINUTE": "1000000",
            "TELEMED_DOCTOR_LOG_LEVEL": "error",
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> MeasuredDoctor:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lab.bench.gateway_host"],
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.port = self._answer().port
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None  # noqa: S101  entered
        assert self._process.stdin is not None  # noqa: S101  it is a pipe
        assert self._process.stdout is not None  # noqa: S101  it is a pipe
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None  # noqa: S101  entered
        return self._process.pid

    @property
    def address(self) -> tuple[str, int]:
        """Where patients connect."""
        return "127.0.0.1", self.port

    def order(self, order: Order) -> str:
        """Give an order and wait for its answer.

        Raises:
            BenchFailed: the process has ended.
        """
        assert self._process is not None  # noqa: S101  entered
        assert self._process.stdin is not None  # noqa: S101  it is a pipe
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")
        self._process.stdin.flush()
        return self._answer().text

    def settle(self, pause: float = SETTLING) -> None:
        """Wait until nothing is left to do of what was sent to everyone: no receipt is outstanding, on the disk either.

        `pause`: seconds between two questions, each of which costs the doctor some processor time.
        """
        while not self.order(Settled()):
            time.sleep(pause)

    def processor_seconds(self) -> float:
        """Processor time so far."""
        return processor_seconds(self.pid)

    def resident_bytes(self) -> int:
        """Physical memory."""
        return resident_bytes(self.pid)

    def _answer(self) -> Answer:
        assert self._process is not None  # noqa: S101  entered
        assert self._process.stdout is not None  # noqa: S101  it is a pipe
        line = self._process.stdout.readline()
        if not line:
            raise BenchFailed("The measured doctor has ended; its own words are above.")
        return msgspec.json.decode(line, type=Answer)

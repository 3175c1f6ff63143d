"""Who counts, times and judges the attempts on one target, and writes down what came of them.

Law: no finding ends the run; the same finding at the same place is counted, and its first input kept.
"""

from __future__ import annotations

import gc
import hashlib
import os
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from lab.faults.fuzzing.subject import Subject

SLOW = 1.0  # seconds of processor time for one input
WARM = 0.2  # the part of the attempts after which memory is first measured
DETAIL = 200  # characters of a finding's text that are kept
REPORT = "report.json"
PAGE = os.sysconf("SC_PAGE_SIZE")


class Crash(msgspec.Struct, frozen=True):
    """A kind of finding, by where it was raised, with the first input that brought it about."""

    what: str
    detail: str
    file: str
    count: int


class Report(msgspec.Struct, frozen=True):
    """What came of one target. Memory in MB; `honest_seconds` None: an honest client was not served."""

    target: str
    attempts: int
    seconds: float
    crashes: list[Crash]
    slowest: float
    growth_mb: float
    honest_seconds: float | None
    inputs: int


@dataclass
class Jury:
    """Judges attempts; writes the report after the last one.

    Args:
        target: its name.
        subject: what is attacked.
        directory: where inputs and the report are kept; `corpus` in it holds the interesting inputs.
        runs, seconds: whichever is reached first ends the run; no seconds: 0.
        end: called when the report is written: libFuzzer would go on, so it ends the process.
    """

    target: str
    subject: Subject
    directory: Path
    runs: int
    seconds: float
    end: Callable[[], None]
    began: float = field(default_factory=time.monotonic)
    attempts: int = 0
    slowest: float = 0.0
    warm: int = 0
    crashes: dict[str, Crash] = field(default_factory=dict)

    def __call__(self, data: bytes) -> None:
        """One attempt."""
        before = time.process_time()
        try:
            self.subject.attempt(data)
        except Exception as error:  # every one is a finding, and the next input is tried all the same
            self._note(_place(error), data, str(error))
        took = time.process_time() - before
        self.slowest = max(self.slowest, took)
        if took > SLOW:
            self._note("an input is slow", data, f"{took:.1f} s of processor time")
        self.attempts += 1
        self._measure()
        if self.attempts >= self.runs or self._late():
            self.finish()

    def _measure(self) -> None:
        if not self.warm and (
            self.attempts >= self.runs * WARM or (self.seconds and self._elapsed() > self.seconds * WARM)
        ):
            self.warm = _resident()

    def _elapsed(self) -> float:
        return time.monotonic() - self.began

    def _late(self) -> bool:
        return bool(self.seconds) and self._elapsed() > self.seconds

    def _note(self, what: str, data: bytes, detail: str) -> None:
        known = self.crashes.get(what)
        if known is not None:
            self.crashes[what] = msgspec.structs.replace(known, count=known.count + 1)
            return
        path = self.directory / f"{self.target}-{hashlib.sha256(data).hexdigest()[:16]}"
        path.write_bytes(data)
        self.crashes[what] = Crash(what, detail[:DETAIL], path.name, 1)

    def finish(self) -> None:
        """Ask the same thing for an honest client's service, write the report, and end."""
        honest = self._honest()
        growth = (_resident() - (self.warm or _resident())) * PAGE / 1e6
        report = Report(
            self.target,
            self.attempts,
            self._elapsed(),
            list(self.crashes.values()),
            self.slowest,
            growth,
            honest,
            len(list((self.directory / "corpus").iterdir())),
        )
        (self.directory / REPORT).write_bytes(msgspec.json.encode(report))
        self.end()

    def _honest(self) -> float | None:
        before = time.monotonic()
        try:
            served = self.subject.serves()
        except Exception as error:
            self._note(f"an honest client: {_place(error)}", b"", str(error))
            return None
        return time.monotonic() - before if served else None


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [
        frame for frame in frames if "site-packages" not in frame.filename and "/lib/" not in frame.filename
    ]
    where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(ours[-2:]))
    return f"{type(error).__name__} at {where}"


def _resident() -> int:
    gc.collect()
    with Path("/proc/self/statm").open() as file:
        return int(file.read().split()[1])

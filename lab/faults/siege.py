"""What a clinic goes through while somebody attacks its door: patients that are in, patients that come, and the doctor's own state.

Law: the same things are watched whatever the attack is. Devices that have a session keep it and get every broadcast; honest
newcomers are let in; the doctor's memory and what it writes to its log stay within bounds.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from doctor.answers import InvitationAnswer
from doctor.orders import InviteOrder
from lab.faults.callers import Caller
from lab.faults.clinic import DOCTOR
from lab.faults.row import Trial
from lab.faults.strangers import Target, allow_descriptors
from lab.faults.ward import EVERYONE, Ward
from lab.processes import ScenarioFailed
from patient import notices

CALLERS = 4  # that come and go without end
PAUSE = 0.1  # seconds between two visits of a caller, and between two looks at the doctor's memory
BROADCASTS_EVERY = 0.5  # seconds
ARRIVED_WITHIN = 30.0  # seconds from the end of the attack
MEGABYTE = 1024 * 1024
RSS_LIMIT_MB = 512
LINES_A_WINDOW = 12  # warnings of one kind in ten seconds: ten in full, one sum, one of the window before


@dataclass(slots=True)
class Seen:
    """What was seen during one attack.

    Attributes:
        took: seconds of each honest handshake that succeeded.
        failed: how many did not.
        rss_mb: the most memory that the doctor had, in MiB.
        cut: sessions of the ward that ended.
        undelivered: what had not arrived long after the attack.
        seconds: how long it lasted.
        warnings: lines from warning on, by event, that the doctor wrote from its beginning on; known when the doctor has ended.
        counted: what those lines stand for: those that were summed up count as many as they say.
    """

    took: list[float] = field(default_factory=list)
    failed: int = 0
    asked_again: int = 0
    rss_mb: float = 0.0
    cut: list[str] = field(default_factory=list)
    undelivered: list[str] = field(default_factory=list)
    seconds: float = 0.0
    warnings: Counter[str] = field(default_factory=Counter)
    counted: Counter[str] = field(default_factory=Counter)

    @property
    def p99(self) -> float:
        """Of the honest handshakes, in seconds; a failed one counts as the longest."""
        return percentile([*self.took, *([float("inf")] * self.failed)], 99)

    @property
    def share_let_in(self) -> float:
        """How many of the honest handshakes succeeded."""
        return len(self.took) / max(1, len(self.took) + self.failed)

    def troubles(self, share: float, p99: float) -> list[str]:
        """What did not hold, in sentences.

        Args:
            share: of the honest handshakes that must succeed.
            p99: of those, in seconds.
        """
        found = [f"An established session was cut: {name}." for name in self.cut] + self.undelivered
        if not self.took or self.share_let_in < share:
            found.append(f"{self.failed} of {len(self.took) + self.failed} honest handshakes failed.")
        elif (took := percentile(self.took, 99)) >= p99:
            found.append(
                f"The 99th percentile of honest handshakes was {took:.2f} s; it must be below {p99:g} s."
            )
        if self.rss_mb >= RSS_LIMIT_MB:
            found.append(f"The doctor took {self.rss_mb:.0f} MiB of memory; the limit is {RSS_LIMIT_MB}.")
        limit = LINES_A_WINDOW * (self.seconds // 10 + 2)
        for event, count in self.warnings.items():
            if count > limit:
                found.append(
                    f"{count} log lines {event!r} in {self.seconds:.0f} s; at most {limit:.0f} were to be."
                )
        return found

    def figures(self, name: str) -> list[tuple[str, float]]:
        """What was measured, under the attack's name."""
        return [
            (f"{name}_handshakes", len(self.took) + self.failed),
            (f"{name}_handshake_p50_s", round(percentile(self.took, 50), 3)),
            (f"{name}_handshake_p99_s", round(percentile(self.took, 99), 3)),
            (f"{name}_rss_mb", round(self.rss_mb)),
            (f"{name}_log_lines", sum(self.warnings.values())),
        ]


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that so many percent do not exceed; 0 for none."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)] if ordered else 0.0


class Siege:
    """A ward with a doctor that is going to be attacked, and honest callers. See `besieged`."""

    def __init__(self, ward: Ward, fleet: str) -> None:
        self.ward = ward
        self.target = Target(ward.clinic.port)
        self._fleet = fleet
        self._callers = [self.caller() for _ in range(CALLERS)]
        self._logs: list[tuple[Seen, int]] = []  # and the line of the doctor's log with which each began

    def caller(self) -> Caller:
        """One more honest device, which has not been there before."""
        return Caller(self._fleet, "127.0.0.1", self.ward.clinic.port)

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[Seen]:
        """Watch all that must hold as long as the block lasts; then wait until everything that was broadcast has arrived."""
        seen, began, doctor = Seen(), time.monotonic(), self.ward.clinic.doctor
        told, lines, over = len(self.ward.told), len(doctor.lines), asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for caller in self._callers:
                tasks.create_task(_come_and_go(caller, seen, over))
            tasks.create_task(_weigh(doctor.pid, seen, over))
            try:
                async with self.ward.traffic((EVERYONE,), BROADCASTS_EVERY):
                    yield seen
            finally:
                over.set()
        seen.seconds = time.monotonic() - began
        self._logs.append((seen, lines))
        for each in self.ward.told[told:]:
            if isinstance(each.notice, notices.Disconnected):
                seen.cut.append(f"{each.patient} ({each.notice.reason})")
        try:
            await self.ward.until_arrived(self.ward.members[EVERYONE], ARRIVED_WITHIN)
        except ScenarioFailed as failed:
            seen.undelivered.append(str(failed))
        if twice := self._applied_twice():
            seen.undelivered.append(f"{twice} messages were shown more than once.")

    def read_log(self) -> None:
        """Count what the doctor has written, now that it has ended and written all of it."""
        for seen, first in self._logs:
            for line in self.ward.clinic.doctor.lines[first:]:
                if line.get("level") in ("warning", "error"):
                    count = line.get("count", 1)
                    seen.warnings[str(line["event"])] += 1
                    seen.counted[str(line["event"])] += count if isinstance(count, int) else 1

    def _applied_twice(self) -> int:
        """How many messages a device has shown more than once."""
        shown = Counter(
            (each.patient, each.notice.stream, each.notice.number)
            for each in self.ward.told
            if isinstance(each.notice, notices.Message)
        )
        return sum(count - 1 for count in shown.values())


@contextlib.asynccontextmanager
async def besieged(
    trial: Trial, name: str, patients: int, settings: Mapping[str, str], program: Sequence[str] = DOCTOR
) -> AsyncIterator[Siege]:
    """A doctor with so many patients that are in, whose log tells the usual.

    Args:
        name: of the directory, for a row that needs several doctors.
        settings: of the doctor.
        program: that becomes the doctor.
    """
    allow_descriptors()
    (trial.directory / name).mkdir()
    async with Ward(trial.directory / name, trial.seed, settings, program) as ward:
        room = await ward.open_room("inside")
        await ward.admit(room, [f"bed-{number}" for number in range(1, patients + 1)])
        fleet = await ward.clinic.until_accepted("/v1/invitations", InviteOrder(None), InvitationAnswer)
        siege = Siege(ward, fleet.invitation)
        for caller in siege._callers:
            if await caller.visit() is None:
                raise ScenarioFailed("An honest device was not let in before the attack had begun.")
        yield siege
    siege.read_log()


def rss(pid: int) -> float:
    """The memory of a process, in MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / MEGABYTE
    return 0.0


async def _weigh(pid: int, seen: Seen, over: asyncio.Event) -> None:
    while not over.is_set():
        seen.rss_mb = max(seen.rss_mb, rss(pid))
        await _pause(over)


async def _come_and_go(caller: Caller, seen: Seen, over: asyncio.Event) -> None:
    before = caller.asked_again
    while not over.is_set():
        took = await caller.visit()
        if took is None:
            seen.failed += 1
        else:
            seen.took.append(took)
        await _pause(over)
    seen.asked_again += caller.asked_again - before


async def _pause(over: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PAUSE):
            await over.wait()

"""A ward: a doctor, so many patients that are connected to it, and what they cost it, in its own processor time and memory.

Law: what the doctor pays once, however many patients it has, is measured before the first one comes and taken off, so that a
large ward does not look cheap by sharing it.
"""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.bench.comparison import Figure
from lab.bench.doctor import MeasuredDoctor
from lab.bench.drain import Drain
from lab.bench.gateway_host import Broadcast, CurrentEpoch, Invite, NextEpoch
from lab.bench.subscribers import OurSubscribers, group_key_size
from shared.crypto.suites import DEFAULT_SUITE
from shared.errors import UserError

BODY = 1024
FIRST = 20  # patients that come before memory is looked at: by then everything is imported and every cache is made
ALONE = 30  # broadcasts and epochs of a doctor without patients
OTHER_FILES = 200  # descriptors that each process needs beside its connections
ENOUGH = 3000  # deliveries in one sample, so that it takes many ticks of any clock


@dataclass(frozen=True, slots=True)
class Ward:
    """See the module. `accepting`, `beginning`: processor seconds of a broadcast and of an epoch without patients; `empty`:
    bytes of memory before all but the first patients came."""

    patients: int
    doctor: MeasuredDoctor
    drain: Drain
    accepting: float
    beginning: float
    empty: int

    def fanout(self) -> float:
        """Processor seconds of one delivery, without what accepting the message costs."""
        return self._each(self.accepting, self._broadcast)

    def rekey(self) -> float:
        """Processor seconds of an epoch for each member, without what beginning one for nobody costs."""
        return self._each(self.beginning, self._begin_epoch)

    def rekey_whole(self) -> float:
        """Processor seconds of an epoch for each member, with all that it costs."""
        return self._each(0.0, self._begin_epoch)

    def memory(self) -> float:
        """Bytes that each patient after the first ones has added."""
        return (self.doctor.resident_bytes() - self.empty) / (self.patients - FIRST)

    def _each(self, once: float, work: Callable[[Callable[[], object]], object]) -> float:
        rounds = max(1, ENOUGH // self.patients)
        spent = 0.0
        for _ in range(rounds):
            spent += self._spent(work)
            self.doctor.settle()
        return (spent / rounds - once) / self.patients

    def _spent(self, work: Callable[[Callable[[], object]], object]) -> float:
        """Until the last byte has come: the receipts that follow are no part of it."""
        taken: list[float] = []
        before = self.doctor.processor_seconds()
        work(lambda: taken.append(self.doctor.processor_seconds()))
        return taken[0] - before

    def _broadcast(self, then: Callable[[], object]) -> None:
        self.drain.round(1, BODY, lambda: self.doctor.order(Broadcast(1, BODY)), then)

    def _begin_epoch(self, then: Callable[[], object]) -> None:
        following = int(self.doctor.order(CurrentEpoch())) + 1
        self.drain.read(group_key_size(following), lambda: self.doctor.order(NextEpoch()), then)


@contextmanager
def ward(patients: int, directory: Path) -> Iterator[Ward]:
    """A doctor whose state is in `directory`, and its patients, more than `FIRST`."""
    with ExitStack() as stack:
        doctor = stack.enter_context(MeasuredDoctor(directory, DEFAULT_SUITE.name))
        invitation = doctor.order(Invite())
        accepting = _alone(doctor, lambda: doctor.order(Broadcast(1, BODY)))
        beginning = _alone(doctor, lambda: doctor.order(NextEpoch()))
        drain = stack.enter_context(Drain(OurSubscribers(invitation, DEFAULT_SUITE.name, doctor.address)))
        drain.connect(FIRST)
        empty = doctor.resident_bytes()
        drain.connect(patients - FIRST)
        yield Ward(patients, doctor, drain, accepting, beginning, empty)


@contextmanager
def new_ward(patients: int) -> Iterator[Ward]:
    """A ward whose doctor begins with nothing and leaves nothing."""
    with (
        tempfile.TemporaryDirectory(prefix="telemed-bench-") as directory,
        ward(patients, Path(directory)) as made,
    ):
        yield made


def require_descriptors(patients: int) -> None:
    """Raise UserError where a process may not hold so many connections; says what to do."""
    needed, limit = patients + OTHER_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if limit != resource.RLIM_INFINITY and limit < needed:
        raise UserError(
            f"{patients} patients need {needed} file descriptors in one process, and this one may have {limit}. Raise the hard"
            f" limit (`ulimit -Hn {needed}` as root, LimitNOFILE= of systemd, --ulimit nofile= of Docker) or ask for fewer:"
            f" --patients {max(0, limit - OTHER_FILES)}."
        )


def _alone(doctor: MeasuredDoctor, order: Callable[[], object]) -> float:
    def once() -> float:
        before = doctor.processor_seconds()
        order()
        return doctor.processor_seconds() - before

    return Figure.of([once() for _ in range(ALONE)]).value

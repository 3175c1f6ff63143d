"""The bare write loop with as many connections as a ward has: what of a ward's costs is the event loop's and the kernel's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from lab.bench.drain import Drain
from lab.bench.peers import bare
from lab.bench.peers.bare import BareServer
from lab.bench.subscribers import frame_size
from lab.bench.timing import processor_seconds, resident_bytes
from lab.bench.ward import BODY, ENOUGH, FIRST


@dataclass(frozen=True, slots=True)
class BareWard:
    """A loop, its connections, and its memory before all but the first of them came."""

    patients: int
    server: BareServer
    drain: Drain
    frame: int
    empty: int

    def fanout(self) -> float:
        """Processor seconds of one delivery."""
        rounds = max(1, ENOUGH // self.patients)
        before = processor_seconds(self.server.pid)
        for _ in range(rounds):
            self.drain.read(self.frame, lambda: self.server.publish(1, self.frame))
        return (processor_seconds(self.server.pid) - before) / rounds / self.patients

    def memory(self) -> float:
        """Bytes that each connection after the first ones has added."""
        return (resident_bytes(self.server.pid) - self.empty) / (self.patients - FIRST)


@contextmanager
def bare_ward(patients: int) -> Iterator[BareWard]:
    """A loop of its own and so many connections, more than `FIRST`."""
    with ExitStack() as stack:
        server, frame = stack.enter_context(bare.server()), frame_size(BODY)
        drain = stack.enter_context(Drain(bare.BareSubscribers(server.port, frame)))
        drain.connect(FIRST)
        drain.read(frame, lambda: server.publish(1, frame))
        empty = resident_bytes(server.pid)
        drain.connect(patients - FIRST)
        yield BareWard(patients, server, drain, frame, empty)

"""P2 and P9: handshakes a second of the server's processor, ours and mutual TLS 1.3.

The crowd is the same for all: `CROWD` clients connect at once, authenticate with their certificate or key, get the server's first
bytes, and leave; then the next ones come. That is the moment at which it counts what a handshake costs: when a ward's network is
back, or the doctor has been started anew. What a single client costs that comes alone is shown beside it. What is counted is the
server's processor time, all its threads, so a client that is slower or faster changes nothing. Ours includes everything that a
returning device costs: roster, database, audit entry, group key; the prekeys' share as well. A last pair of rows holds against the
peers what our suite's public-key operations cost alone: a target beyond that ratio is out of reach for anybody.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from lab.bench import ceiling, newcomers
from lab.bench.comparison import Better, Comparison, Figure, Measured
from lab.bench.doctor import MeasuredDoctor
from lab.bench.gateway_host import Invite
from lab.bench.lean import LeanCaller, LeanPatient
from lab.bench.newcomers import Caller
from lab.bench.part import Extent, Progress
from lab.bench.peers import tls
from lab.bench.timing import alternate, turns
from shared.crypto.suites import DEFAULT_SUITE, Suite, suite_by_name
from shared.protocol.invitations import from_text

CROWD = 32
CEILING = "what our suite can reach at best, for information"
AS_SET = "one client at a time, the figure of the peer from which the target was derived"
ALONE = "one client at a time, for information"


class Server(Protocol):
    """Somebody who lets clients in."""

    @property
    def address(self) -> tuple[str, int]: ...

    def processor_seconds(self) -> float:
        """Processor time so far."""
        ...

    def callers(self, count: int) -> Sequence[Caller]:
        """So many clients that it knows, each of them new or back again."""
        ...


class HandshakeServer:
    """Our doctor and patients that are enrolled with it."""

    def __init__(self, suite: Suite, stack: ExitStack) -> None:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="telemed-bench-")))
        self._doctor = stack.enter_context(MeasuredDoctor(directory, suite.name))
        self.address = self._doctor.address
        self.processor_seconds = self._doctor.processor_seconds
        invitation = from_text(self._doctor.order(Invite()))
        # Twice as many as come at once: nobody is back before the doctor has seen it go, and replaces its own session.
        self._patients = [LeanPatient(invitation, suite) for _ in range(2 * CROWD)]
        self._next = 0
        rate(self, 2 * CROWD, CROWD)  # the first time they enrol

    @property
    def pid(self) -> int:
        """The doctor's process."""
        return self._doctor.pid

    def callers(self, count: int) -> list[LeanCaller]:
        """The patients whose turn it is."""
        first, self._next = self._next, self._next + count
        return [LeanCaller(self._patients[number % (2 * CROWD)]) for number in range(first, self._next)]


def rate(server: Server, count: int, at_once: int) -> float:
    """Handshakes a second of the server's processor; `at_once` of them overlap."""
    before = server.processor_seconds()
    for begun in range(0, count, at_once):
        newcomers.visit(server.address, server.callers(min(at_once, count - begun)))
    return count / (server.processor_seconds() - before)


def compare(extent: Extent, progress: Progress) -> Measured:
    """P2 for the default suite and P9 for the finite-field one."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="telemed-bench-")))
        certificate = tls.make_certificate(directory)
        default = HandshakeServer(DEFAULT_SUITE, stack)
        field = HandshakeServer(suite_by_name("elgamal-ffdhe3072"), stack)
        servers: list[Server] = [default, stack.enter_context(tls.uvloop_server(certificate))]
        openssl = tls.openssl_server(certificate)
        if openssl is not None:
            servers.append(stack.enter_context(openssl))
        few = max(CROWD, extent.handshakes // 5)
        measures = [
            _measure(field, few, 1),
            *(_measure(server, extent.handshakes, CROWD) for server in servers),
            *(_measure(server, few, 1) for server in servers),
            lambda: ceiling.handshakes_a_second(DEFAULT_SUITE),
        ]
        progress.plan(turns(len(measures), extent.runs))
        figures = alternate(measures, extent.runs, progress)
    together, alone = figures[1 : 1 + len(servers)], figures[1 + len(servers) : -1]
    missing = [] if openssl is not None else ["Debian package openssl"]
    return Measured(_compared(figures[0], together, alone, figures[-1]), missing)


def _measure(server: Server, count: int, at_once: int) -> Callable[[], float]:
    return lambda: rate(server, count, at_once)


def _compared(field: Figure, together: list[Figure], alone: list[Figure], limit: Figure) -> list[Comparison]:
    name = DEFAULT_SUITE.name

    def rows(
        number: str,
        suite: str,
        mine: Figure,
        theirs: Sequence[Figure],
        targets: Sequence[float | None],
        note: str,
        how: str = "",
    ) -> list[Comparison]:
        measure = f"handshakes a second of server CPU, {suite}{how}"
        peers = ("mutual TLS 1.3, uvloop", "mutual TLS 1.3, openssl s_server")
        return [
            Comparison(
                number,
                measure,
                "1/s",
                Better.HIGHER,
                mine,
                peer,
                dict(enumerate(theirs)).get(at),
                target,
                note,
            )
            for at, (peer, target) in enumerate(zip(peers, targets, strict=False))
        ]

    note = f"{CROWD} clients at once"
    return [
        *rows("P2", name, together[0], together[1:], (2.0, 1.5), note),
        *rows("P9", "elgamal-ffdhe3072", field, alone[1:], (0.17,), AS_SET),
        *rows("P2", name, alone[0], alone[1:], (None, None), ALONE, ", one client at a time"),
        *rows("P2", name, limit, together[1:], (None, None), CEILING, ", public-key operations alone"),
    ]

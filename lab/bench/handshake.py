"""P2 and P9: handshakes a second of the server's processor, ours and mutual TLS 1.3.

All are sequential: one client connects, authenticates with its certificate or key, gets the server's first bytes, and leaves. What
counts is the server's processor time a handshake, so a client that is slower or faster changes nothing. Ours includes everything
that a returning device costs: roster, database, audit entry, group key; the prekeys' share as well.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from lab.bench.comparison import Better, Comparison, Figure
from lab.bench.doctor import MeasuredDoctor
from lab.bench.gateway_host import Invite
from lab.bench.lean import LeanPatient
from lab.bench.peers import tls
from lab.bench.timing import alternate
from shared.crypto.suites import DEFAULT_SUITE, Suite, suite_by_name
from shared.protocol.invitations import from_text

PATIENTS = 20  # that come back in turns; a single one would replace its own session each time


class HandshakeServer:
    """Our doctor and patients that are enrolled with it."""

    def __init__(self, suite: Suite, stack: ExitStack) -> None:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="telemed-bench-")))
        self._doctor = stack.enter_context(MeasuredDoctor(directory, suite.name))
        invitation = from_text(self._doctor.order(Invite()))
        self._patients = [LeanPatient(invitation, suite) for _ in range(PATIENTS)]
        self.rate(PATIENTS)

    def rate(self, count: int) -> float:
        """Handshakes a second of processor."""
        before = self._doctor.processor_seconds()
        for number in range(count):
            self._patients[number % PATIENTS].connect(self._doctor.address).close()
        return count / (self._doctor.processor_seconds() - before)


def compare(runs: int, count: int) -> tuple[list[Comparison], list[str]]:
    """P2 for the default suite and P9 for the finite-field one; and the peers that are not installed."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="telemed-bench-")))
        certificate = tls.make_certificate(directory)
        default = HandshakeServer(DEFAULT_SUITE, stack)
        field = HandshakeServer(suite_by_name("elgamal-ffdhe3072"), stack)
        uvloop_tls = stack.enter_context(tls.uvloop_server(certificate))
        measures: list[Callable[[], float]] = [
            lambda: default.rate(count),
            lambda: field.rate(max(PATIENTS, count // 5)),
            lambda: uvloop_tls.rate(count),
        ]
        openssl = tls.openssl_server(certificate)
        if openssl is not None:
            server = stack.enter_context(openssl)
            measures.append(lambda: server.rate(count))
        figures = alternate(measures, runs)
    return _compared(figures), [] if openssl is not None else ["Debian package openssl"]


def _compared(figures: list[Figure]) -> list[Comparison]:
    default, field, python, *native = figures
    theirs = native[0] if native else None

    def row(
        number: str, suite: str, mine: Figure, peer: str, other: Figure | None, target: float
    ) -> Comparison:
        measure = f"handshakes a second of server CPU, {suite}"
        return Comparison(number, measure, "1/s", Better.HIGHER, mine, peer, other, target)

    name = DEFAULT_SUITE.name
    return [
        row("P2", name, default, "mutual TLS 1.3, uvloop", python, 2.0),
        row("P2", name, default, "mutual TLS 1.3, openssl s_server", theirs, 1.5),
        row("P9", "elgamal-ffdhe3072", field, "mutual TLS 1.3, uvloop", python, 0.17),
    ]

"""P1: the published table of operations, its method and ours side by side.

The published "key generation" read the parts of a key that existed; a fresh key pair is what anybody would take it for. Both are
shown, and the promise is kept against the fresh one as well as against every other row of the toy. What comes nearest to the
published row is the drawing of a key that was made ahead, as the doctor draws its signed prekey in each handshake.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from lab.bench.comparison import Better, Comparison, Figure, Measured
from lab.bench.part import Extent, Progress
from lab.bench.peers import textbook
from lab.bench.timing import alternate, seconds_per_call, turns
from shared.crypto import kdf
from shared.crypto.aead import Aead
from shared.crypto.groups import G, P
from shared.crypto.kdf import Label
from shared.crypto.suites import DEFAULT_SUITE, SUITES, Suite
from shared.net.stream import clock
from shared.protocol.prekeys import PrekeyRing

TEXT = b"Take one tablet."  # 16 bytes, as long as a block
FULL_BITS = 3072
MICROSECONDS = 1e6


@dataclass(frozen=True, slots=True)
class Method:
    """One way to do the four operations; each is a function without arguments."""

    name: str
    generate: Callable[[], object]
    encrypt: Callable[[], object]
    digest: Callable[[], object]
    sign: Callable[[], object]

    def operations(self) -> tuple[Callable[[], object], ...]:
        """In the order of the table."""
        return self.generate, self.encrypt, self.digest, self.sign


OPERATIONS = ("key generation, a fresh key pair", "AES encryption", "hash", "signature")


def ours(suite: Suite) -> Method:
    """A suite of ours: identity key pairs, AES-256-GCM under a session's key, labelled SHA-256."""
    key = suite.signer.generate(os.urandom)
    aead, counter, label = Aead(os.urandom(32)), iter(range(1 << 40)), Label.BODY_HASH
    return Method(
        suite.name,
        lambda: suite.signer.generate(os.urandom),
        lambda: aead.seal(next(counter), TEXT, b""),
        lambda: kdf.digest(label, TEXT),
        lambda: suite.signer.sign(key, Label.ENVELOPE_SIGNATURE, TEXT),
    )


def published(bits: int) -> Method:
    """The textbook's method with a prime of so many bits.

    The toy draws its group with each key, as its library call does. At full size nobody would: there a fresh key pair is a
    fresh exponent in the standard group.
    """
    toy = bits == textbook.PUBLISHED_BITS
    group = textbook.generate(bits) if toy else textbook.TextbookKey(P, G, 0, 0)
    key = textbook.fresh_pair(group)
    aes_key = os.urandom(16)
    return Method(
        f"textbook, {bits}-bit p",
        (lambda: textbook.generate(bits)) if toy else (lambda: textbook.fresh_pair(group)),
        lambda: textbook.encrypt(aes_key, TEXT),
        lambda: textbook.digest(TEXT),
        lambda: textbook.sign(key, TEXT),
    )


def compare(extent: Extent, progress: Progress) -> Measured:
    """The whole table: every suite against the toy and against the textbook at full size."""
    mine = [ours(suite) for suite in SUITES.values()]
    peers = [published(textbook.PUBLISHED_BITS), published(FULL_BITS)]
    progress.plan(turns(len(OPERATIONS) * len([*mine, *peers]) + 3, extent.runs))
    tables = [operation(index, mine, peers, extent, progress) for index in range(len(OPERATIONS))]
    suites = [row for rows in zip(*tables, strict=True) for table in rows for row in table]
    return Measured([*suites, *_attribute_read(extent, progress)])


def operation(
    index: int, mine: list[Method], peers: list[Method], extent: Extent, progress: Progress
) -> list[list[Comparison]]:
    """One operation, all methods in turns; for each of ours its rows."""
    timed = [_timed(each.operations()[index], extent.iterations) for each in (*mine, *peers)]
    figures = alternate(timed, extent.runs, progress)
    theirs = list(zip(peers, figures[len(mine) :], strict=True))
    return [
        [_comparison(OPERATIONS[index], method.name, figure, peer.name, their) for peer, their in theirs]
        for method, figure in zip(mine, figures[: len(mine)], strict=True)
    ]


def _attribute_read(extent: Extent, progress: Progress) -> list[Comparison]:
    """What the published table called key generation, beside ours, which makes a key, and the drawing of one made ahead."""
    toy = textbook.generate(textbook.PUBLISHED_BITS)
    signer, now = DEFAULT_SUITE.signer, clock()
    key = signer.generate(os.urandom)
    ring = PrekeyRing("bench", {key.algorithm: key}, os.urandom)
    read, made, drawn = alternate(
        [
            _timed(lambda: textbook.public_key(toy), extent.iterations),
            _timed(lambda: signer.generate(os.urandom), extent.iterations),
            _timed(lambda: ring.offer(DEFAULT_SUITE.id, now), extent.iterations),
        ],
        extent.runs,
        progress,
    )

    def row(measure: str, mine: Figure, note: str) -> Comparison:
        named = f"{measure}, {DEFAULT_SUITE.name}"
        return Comparison("P1", named, "µs", Better.LOWER, mine, "textbook, attribute read", read, None, note)

    reading = "the published row timed the reading of a key that existed; nothing that makes one can be compared with it"
    drawing = "the doctor's signed prekey, made ahead for all handshakes of five seconds; its age and the clock are judged at each"
    return [
        row("key generation as published", made, reading),
        row("key generation, a key made ahead", drawn, drawing),
    ]


def _timed(work: Callable[[], object], iterations: int) -> Callable[[], float]:
    return lambda: seconds_per_call(work, iterations) * MICROSECONDS


def _comparison(operation: str, suite: str, mine: Figure, peer: str, theirs: Figure) -> Comparison:
    target = 1.0 if suite == DEFAULT_SUITE.name else None
    return Comparison("P1", f"{operation}, {suite}", "µs", Better.LOWER, mine, peer, theirs, target)

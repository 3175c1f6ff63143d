"""P1: the published table of operations, its method and ours side by side.

The published "key generation" read the parts of a key that existed; a fresh key pair is what anybody would take it for. Both are
shown, and the promise is kept against the fresh one as well as against every other row of the toy.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from lab.bench.comparison import Better, Comparison, Figure
from lab.bench.peers import textbook
from lab.bench.timing import alternate, seconds_per_call
from shared.crypto import kdf
from shared.crypto.aead import Aead
from shared.crypto.groups import G, P
from shared.crypto.kdf import Label
from shared.crypto.suites import DEFAULT_SUITE, SUITES, Suite

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
    aead, counter = Aead(os.urandom(32)), iter(range(1 << 40))
    return Method(
        suite.name,
        lambda: suite.signer.generate(os.urandom),
        lambda: aead.seal(next(counter), TEXT, b""),
        lambda: kdf.digest(Label.BODY_HASH, TEXT),
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


def compare(runs: int, iterations: int) -> list[Comparison]:
    """The whole table: every suite against the toy and against the textbook at full size."""
    peers = (published(textbook.PUBLISHED_BITS), published(FULL_BITS))
    found = [each for suite in SUITES.values() for each in _against(ours(suite), peers, runs, iterations)]
    return [*found, *_attribute_read(runs, iterations)]


def _against(method: Method, peers: tuple[Method, ...], runs: int, iterations: int) -> list[Comparison]:
    promised = method.name == DEFAULT_SUITE.name
    found = []
    for index, name in enumerate(OPERATIONS):
        timed = [_timed(each.operations()[index], iterations) for each in (method, *peers)]
        mine, *theirs = alternate(timed, runs)
        for peer, figure in zip(peers, theirs, strict=True):
            found.append(_comparison(f"{name}, {method.name}", mine, peer.name, figure, promised))
    return found


def _attribute_read(runs: int, iterations: int) -> list[Comparison]:
    """What the published table called key generation, beside ours, which makes a key."""
    toy = textbook.generate(textbook.PUBLISHED_BITS)
    signer = DEFAULT_SUITE.signer
    read, made = alternate(
        [
            _timed(lambda: textbook.public_key(toy), iterations),
            _timed(lambda: signer.generate(os.urandom), iterations),
        ],
        runs,
    )
    note = "the published row timed the reading of a key that existed; nothing that makes one can be compared with it"
    measure = f"key generation as published, {DEFAULT_SUITE.name}"
    return [Comparison("P1", measure, "µs", Better.LOWER, made, "textbook, attribute read", read, None, note)]


def _timed(work: Callable[[], object], iterations: int) -> Callable[[], float]:
    return lambda: seconds_per_call(work, iterations) * MICROSECONDS


def _comparison(measure: str, mine: Figure, peer: str, theirs: Figure, promised: bool) -> Comparison:
    return Comparison("P1", measure, "µs", Better.LOWER, mine, peer, theirs, 1.0 if promised else None)

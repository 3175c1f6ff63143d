"""What the tests of the primitives share: reproducible entropy and changed bits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from itertools import count


def entropy(seed: str) -> Callable[[int], bytes]:
    """Return a source of bytes that depends on `seed` alone and never repeats itself."""
    calls = count()
    return lambda size: hashlib.shake_256(f"{seed} {next(calls)}".encode()).digest(size)


def flip_bit(data: bytes, bit: int) -> bytes:
    """Return `data` with one bit changed; bit 0 is the lowest bit of the first byte."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def flipped(data: bytes, step: int = 1) -> Iterator[bytes]:
    """Yield `data` with each bit changed in turn, or with every `step`-th."""
    for bit in range(0, 8 * len(data), step):
        yield flip_bit(data, bit)

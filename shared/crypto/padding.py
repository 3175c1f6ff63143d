"""Padding of sealed plaintexts, so that a frame's length says little about its content.

Law of this module: one canonical form. A padded plaintext is the length of the content (4 bytes, big-endian), the content,
and zeros up to the size. Anything else is refused, so that two different padded texts never mean the same content.
"""

from __future__ import annotations

from functools import lru_cache

from shared.errors import InvalidSeal, LocalError

PREFIX_SIZE = 4
"""Bytes that the length in front takes; `pad` needs a size of at least the content and these."""


@lru_cache(maxsize=1024)
def padme_length(n: int, minimum: int = 256) -> int:
    """Return the Padmé length for `n` bytes: at least `n`, at least `minimum`, at most 12 % above the larger of the two.

    Padmé leaves an observer O(log log n) bits of a length (Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and
    Communication with PURBs", PETS 2019, algorithm 1).
    """
    n = max(n, minimum, 2)
    exponent = n.bit_length() - 1
    free_bits = exponent - exponent.bit_length()
    mask = (1 << free_bits) - 1
    return (n + mask) & ~mask


def pad(plaintext: bytes, size: int) -> bytes:
    """Return `plaintext` padded to exactly `size` bytes, its length in front included.

    Raises LocalError if it does not fit.
    """
    fill = size - PREFIX_SIZE - len(plaintext)
    if fill < 0:
        raise LocalError(f"{len(plaintext)} bytes and a length of {PREFIX_SIZE} do not fit into {size} bytes")
    return len(plaintext).to_bytes(PREFIX_SIZE, "big") + plaintext + bytes(fill)


def unpad(padded: bytes) -> bytes:
    """Return the content of a padded plaintext.

    Raises InvalidSeal if the length in front does not fit or the fill is not all zeros. Call it only on what an AEAD has
    opened: then the sender's key made the flaw, and the refusal tells an outsider nothing.
    """
    end = PREFIX_SIZE + int.from_bytes(padded[:PREFIX_SIZE], "big")
    if len(padded) < PREFIX_SIZE or end > len(padded):
        raise InvalidSeal(
            f"the padded plaintext of {len(padded)} bytes is shorter than the length in front of it says"
        )
    if padded.count(0, end) != len(padded) - end:
        raise InvalidSeal("the padding holds something other than zeros")
    return padded[PREFIX_SIZE:end]

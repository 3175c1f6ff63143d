"""Sealing: AES-256-GCM with a 96-bit nonce and a 128-bit tag (NIST SP 800-38D).

Law of this module: one `Aead` is one key and one cached context. The caller owns the nonce: a counter that never repeats under
a key for what travels, a random nonce for what rests. GCM loses everything on a repeated nonce, so no other way in exists.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared.crypto.secret import Random
from shared.errors import InvalidSeal, LocalError

KEY_SIZE = 32
NONCE_SIZE = 12
TAG_SIZE = 16


class Aead:
    """An AES-256-GCM key. Raises LocalError unless `key` has 32 bytes."""

    __slots__ = ("_context",)

    def __init__(self, key: bytes) -> None:
        # The library takes 16 and 24 bytes too; this project promises AES-256.
        if len(key) != KEY_SIZE:
            raise LocalError(f"an AES-256 key has {KEY_SIZE} bytes, not {len(key)}")
        self._context = AESGCM(key)

    def seal(self, nonce_counter: int, plaintext: bytes, associated: bytes) -> bytes:
        """Return ciphertext and tag: 16 bytes longer than `plaintext`.

        `nonce_counter` is the 96-bit nonce, big-endian; the caller never uses it twice under this key, and must not seal more
        than 2³² messages with it. Raises LocalError if the counter is negative or has more than 96 bits.
        """
        return self._context.encrypt(_nonce(nonce_counter), plaintext, associated)

    def open(self, nonce_counter: int, ciphertext: bytes, associated: bytes) -> bytes:
        """Return the plaintext.

        Raises InvalidSeal if the tag does not verify (a wrong key, nonce, associated data or changed byte look alike), and
        LocalError for a counter outside 96 bits.
        """
        return self._open(_nonce(nonce_counter), ciphertext, associated)

    def seal_random(self, plaintext: bytes, associated: bytes, random: Random) -> bytes:
        """Return a random nonce (12 bytes), ciphertext and tag, for data at rest: 28 bytes longer than `plaintext`.

        Random 96-bit nonces collide with probability below 2⁻³² only while a key seals fewer than 2³² messages
        (SP 800-38D section 8.3); the owner of the key rotates it long before.
        """
        nonce = random(NONCE_SIZE)
        return nonce + self._context.encrypt(nonce, plaintext, associated)

    def open_random(self, sealed: bytes, associated: bytes) -> bytes:
        """Return the plaintext of `seal_random`. Raises InvalidSeal if it does not verify or is too short."""
        if len(sealed) < NONCE_SIZE + TAG_SIZE:
            raise InvalidSeal(f"{len(sealed)} bytes are too short to hold a nonce and a tag")
        return self._open(sealed[:NONCE_SIZE], sealed[NONCE_SIZE:], associated)

    def _open(self, nonce: bytes, ciphertext: bytes, associated: bytes) -> bytes:
        try:
            return self._context.decrypt(nonce, ciphertext, associated)
        except InvalidTag:
            raise InvalidSeal("the tag does not verify") from None


def _nonce(counter: int) -> bytes:
    try:
        return counter.to_bytes(NONCE_SIZE, "big")
    except OverflowError:
        raise LocalError("a nonce counter is between 0 and 2⁹⁶ − 1") from None

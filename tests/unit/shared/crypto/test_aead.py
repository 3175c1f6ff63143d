"""Sealing and opening."""

from __future__ import annotations

import os

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared.crypto.aead import KEY_SIZE, NONCE_SIZE, TAG_SIZE, Aead
from shared.errors import InvalidSeal, LocalError
from tests.crypto_tools import flipped

KEY = bytes(range(32))


def test_round_trip_and_size() -> None:
    """What was sealed opens again and is a tag longer."""
    sealed = Aead(KEY).seal(7, b"text", b"header")

    assert len(sealed) == 4 + TAG_SIZE
    assert Aead(KEY).open(7, sealed, b"header") == b"text"


def test_the_counter_is_the_nonce_in_big_endian() -> None:
    """Checked against the library with the nonce written out."""
    expected = AESGCM(KEY).encrypt(b"\0\0\0\0\0\0\0\0\0\0\1\2", b"text", b"header")

    assert Aead(KEY).seal(258, b"text", b"header") == expected


def test_every_flipped_bit_is_refused() -> None:
    """In the ciphertext, in the tag and in the associated data."""
    aead = Aead(KEY)
    sealed = aead.seal(0, b"text", b"hd")

    for changed in flipped(sealed):
        with pytest.raises(InvalidSeal, match="does not verify"):
            aead.open(0, changed, b"hd")
    for changed in flipped(b"hd"):
        with pytest.raises(InvalidSeal, match="does not verify"):
            aead.open(0, sealed, changed)


def test_wrong_key_nonce_or_length_is_refused() -> None:
    """Each looks the same from outside."""
    sealed = Aead(KEY).seal(0, b"text", b"")

    for aead, counter, ciphertext in [
        (Aead(bytes(32)), 0, sealed),
        (Aead(KEY), 1, sealed),
        (Aead(KEY), 0, sealed[:-1]),
        (Aead(KEY), 0, sealed[:15]),
        (Aead(KEY), 0, b""),
    ]:
        with pytest.raises(InvalidSeal, match="does not verify"):
            aead.open(counter, ciphertext, b"")


@pytest.mark.parametrize("size", [0, 16, 24, 31, 33])
def test_only_keys_of_32_bytes(size: int) -> None:
    """AES-128 and AES-192 are not in the promise."""
    with pytest.raises(LocalError, match=f"{KEY_SIZE} bytes, not {size}"):
        Aead(bytes(size))


@pytest.mark.parametrize("counter", [-1, 1 << 96])
def test_a_counter_outside_the_nonce_is_our_error(counter: int) -> None:
    """It would wrap around and repeat a nonce."""
    aead = Aead(KEY)

    with pytest.raises(LocalError, match="nonce counter"):
        aead.seal(counter, b"", b"")
    with pytest.raises(LocalError, match="nonce counter"):
        aead.open(counter, bytes(16), b"")


def test_the_largest_counter_works() -> None:
    """The edge itself is inside."""
    top = (1 << 96) - 1

    assert Aead(KEY).open(top, Aead(KEY).seal(top, b"x", b""), b"") == b"x"


def test_random_nonce_stands_in_front() -> None:
    """Data at rest carries its nonce, drawn from the argument."""
    nonce = b"twelve bytes"
    sealed = Aead(KEY).seal_random(b"text", b"row 1", lambda size: nonce[:size])

    assert sealed == nonce + AESGCM(KEY).encrypt(nonce, b"text", b"row 1")
    assert Aead(KEY).open_random(sealed, b"row 1") == b"text"


def test_sealed_rows_cannot_be_exchanged_changed_or_cut() -> None:
    """The associated data holds a row in its place."""
    aead = Aead(KEY)
    sealed = aead.seal_random(b"text", b"row 1", os.urandom)

    for data, associated in [
        (sealed, b"row 2"),
        (bytes([sealed[0] ^ 1]) + sealed[1:], b"row 1"),
        (sealed[:-1], b"row 1"),
        (sealed[: NONCE_SIZE + TAG_SIZE - 1], b"row 1"),
        (sealed[: NONCE_SIZE - 5], b"row 1"),
        (b"", b"row 1"),
    ]:
        with pytest.raises(InvalidSeal):
            aead.open_random(data, associated)

"""Hashed ElGamal in ffdhe3072, checked with Python's own power."""

from __future__ import annotations

import os

import pytest
from Crypto.Math.Numbers import Integer

from shared.crypto import elgamal
from shared.crypto.groups import G, P, encode_element
from shared.crypto.kdf import Label, derive
from shared.errors import InvalidElement
from tests.crypto_tools import entropy

BAD_ELEMENTS = pytest.mark.parametrize(
    "data",
    [
        (0).to_bytes(384, "big"),
        (1).to_bytes(384, "big"),
        (P - 1).to_bytes(384, "big"),
        P.to_bytes(384, "big"),
        (P + 4).to_bytes(384, "big"),
        (P - 4).to_bytes(384, "big"),
        (4).to_bytes(383, "big"),
        (4).to_bytes(385, "big"),
        b"",
    ],
    ids=["0", "1", "p-1", "p", "p+4", "non-residue", "short", "long", "empty"],
)


def test_the_arithmetic_is_the_librarys_constant_time_one() -> None:
    """Where pycryptodome's C code is missing it falls back on Python integers: secret exponents must not go through those."""
    assert Integer.__module__ == "Crypto.Math._IntegerNat"


@pytest.mark.parametrize("drawn", [bytes(35), b"\xff" * 35, b"\x80" + bytes(34)])
def test_exponents_always_have_280_bits(drawn: bytes) -> None:
    """Even entropy of zeros gives an exponent of full length."""
    x = int(elgamal.random_exponent(lambda _: drawn))

    assert x.bit_length() == 280
    assert x == int.from_bytes(drawn, "big") | 1 << 279


def test_the_public_element_is_g_to_the_private_exponent() -> None:
    """Key generation, computed anew."""
    x, public = elgamal.generate(os.urandom)

    assert public == encode_element(pow(G, int(x), P))


def test_both_sides_derive_the_secret_from_the_same_power() -> None:
    """Encryption and decryption, computed anew from the formula."""
    x, public = elgamal.generate(os.urandom)

    ciphertext, secret = elgamal.encapsulate(public, os.urandom)

    z = encode_element(pow(int.from_bytes(ciphertext, "big"), int(x), P))
    assert secret == derive(Label.FF_KEM, (z,), (ciphertext, public))
    assert elgamal.decapsulate(x, public, ciphertext) == secret


def test_encapsulation_depends_on_the_given_entropy_alone() -> None:
    """The same bytes give the same ciphertext: vectors can be made."""
    _, public = elgamal.generate(entropy("key"))

    first, again, other = [elgamal.encapsulate(public, entropy(seed)) for seed in ("one", "one", "two")]

    assert first == again
    assert first[0] != other[0]


def test_a_related_ciphertext_gives_an_unrelated_secret() -> None:
    """Textbook ElGamal is malleable. Here c·g gives no key that follows from the first one without the private exponent."""
    x, public = elgamal.generate(os.urandom)
    ciphertext, secret = elgamal.encapsulate(public, os.urandom)
    related = encode_element(int.from_bytes(ciphertext, "big") * G % P)

    assert elgamal.decapsulate(x, public, related) != secret


def test_textbook_encryption_shows_why_the_secret_is_hashed() -> None:
    """Positive control: doubling the second half of a textbook ciphertext doubles the message."""
    x, public = elgamal.generate(os.urandom)
    y, r, message = int.from_bytes(public, "big"), 98765, 10
    c1, c2 = pow(G, r, P), message * pow(y, r, P) % P

    assert c2 * 2 * pow(c1, -int(x), P) % P == 20


@BAD_ELEMENTS
def test_bad_public_elements_are_refused(data: bytes) -> None:
    """Before anything is computed with them."""
    with pytest.raises(InvalidElement):
        elgamal.encapsulate(data, os.urandom)


@BAD_ELEMENTS
def test_bad_ciphertexts_are_refused(data: bytes) -> None:
    """Before the private exponent touches them."""
    x, public = elgamal.generate(os.urandom)

    with pytest.raises(InvalidElement):
        elgamal.decapsulate(x, public, data)


def test_a_non_residue_would_show_a_bit_of_the_private_exponent() -> None:
    """Positive control for the subgroup check: p − c gives ±c^x by the parity of x."""
    x, _ = elgamal.generate(os.urandom)
    c = pow(G, 777, P)

    assert (pow(P - c, int(x), P) == pow(c, int(x), P)) == (int(x) % 2 == 0)

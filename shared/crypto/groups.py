"""The two groups of the project and the checks that a public value must pass before anything is computed with it.

Law of this module: group parameters are constants. No function takes a modulus, a generator or a curve, so no peer can hand
us a composite, a smooth or a tiny one. What comes from outside is refused here or is an element of the right group.

Two libraries compute in ffdhe3072. Secret exponents go into pycryptodome's power, which takes care of side channels. Public
values go into GMP's functions, whose time depends on what they are given, and which are up to two hundred times faster.

- ffdhe3072 (RFC 7919 appendix A.2): a safe prime p = 2q + 1 with generator 2 of the subgroup of prime order q.
- NIST P-256 (SP 800-186 section 3.2.1.3), only as uncompressed points (SEC 1 section 2.3.4).
"""

from __future__ import annotations

from functools import cache
from typing import Final

import gmpy2
from Crypto.Math.Numbers import Integer
from cryptography.hazmat.primitives.asymmetric import ec

from shared.errors import InvalidElement, LocalError

# RFC 7919 writes the prime as 2^3072 - 2^3008 + (floor(2^2942 * e) + 2625351) * 2^64 - 1; the tests compute it from there.
P: Final = int(
    "FFFFFFFFFFFFFFFFADF85458A2BB4A9AAFDC5620273D3CF1D8B9C583CE2D3695A9E13641146433FBCC939DCE249B3EF9"
    "7D2FE363630C75D8F681B202AEC4617AD3DF1ED5D5FD65612433F51F5F066ED0856365553DED1AF3B557135E7F57C935"
    "984F0C70E0E68B77E2A689DAF3EFE8721DF158A136ADE73530ACCA4F483A797ABC0AB182B324FB61D108A94BB2C8E3FB"
    "B96ADAB760D7F4681D4F42A3DE394DF4AE56EDE76372BB190B07A7C8EE0A6D709E02FCE1CDF7E2ECC03404CD28342F61"
    "9172FE9CE98583FF8E4F1232EEF28183C3FE3B1B4C6FAD733BB5FCBC2EC22005C58EF1837D1683B2C6F34A26C1B2EFFA"
    "886B4238611FCFDCDE355B3B6519035BBC34F4DEF99C023861B46FC9D6E6C9077AD91D2691F7F7EE598CB0FAC186D91C"
    "AEFE130985139270B4130C93BC437944F4FD4452E2D74DD364F2E21E71F54BFF5CAE82AB9C9DF69EE86D2BC522363A0D"
    "ABC521979B0DEADA1DBF9A42D5C4484E0ABCD06BFA53DDEF3C1B20EE3FD59D7C25E41D2B66C62E37FFFFFFFFFFFFFFFF",
    16,
)
Q: Final = (P - 1) // 2
G: Final = 2

ELEMENT_SIZE: Final = 384
"""Bytes of an encoded ffdhe3072 element: big-endian, always full width."""

POINT_SIZE: Final = 65
"""Bytes of an encoded P-256 point: 04, x, y."""

CURVE: Final = ec.SECP256R1()

# The library keeps a Montgomery context with the modulus object; `public` lets it use that for the generator as well.
MODULUS: Final = Integer(P, public=True)
GENERATOR: Final = Integer(G, public=True)

PUBLIC_MODULUS: Final = gmpy2.mpz(P)
"""For what anybody may know; never together with a secret."""

EXPONENT_BITS: Final = 672
"""The longest public exponent: the second half of a Schnorr signature."""

_WINDOW: Final = (
    6  # bits of an exponent that one multiplication covers; a table of 3 MB for exponents of 672 bits
)


def check_element(y: int) -> None:
    """Check that `y` lies in the order-q subgroup of ffdhe3072 and is neither 1 nor p − 1.

    Raises InvalidElement. For a safe prime the order-q subgroup is the set of squares, so the Jacobi symbol decides it (SP
    800-56A revision 3, section 5.6.2.3.1, asks for y^q = 1, which is the same statement at eight times the cost).
    """
    if not 1 < y < P - 1:
        raise InvalidElement("the ffdhe3072 element is not between 2 and p − 2")
    if gmpy2.jacobi(y, PUBLIC_MODULUS) != 1:
        raise InvalidElement("the ffdhe3072 element is outside the subgroup of order q")


def public_power_of_generator(exponent: int) -> gmpy2.mpz:
    """Return g^exponent mod p for a public exponent of at most 672 bits.

    Its time depends on the exponent, and so do the places of memory that it reads: never give it a secret. One multiplication
    for each six bits, from a table of the generator's powers (Brickell, Gordon, McCurley, Wilson, EUROCRYPT 1992). Raises LocalError for
    a longer exponent.
    """
    if exponent.bit_length() > EXPONENT_BITS:
        raise LocalError(
            f"the table of powers ends at {EXPONENT_BITS} bits, the exponent has {exponent.bit_length()}"
        )
    product = gmpy2.mpz(1)
    for row in _generator_table():
        product = product * row[exponent & ((1 << _WINDOW) - 1)] % PUBLIC_MODULUS
        exponent >>= _WINDOW
    return product


@cache
def _generator_table() -> tuple[tuple[gmpy2.mpz, ...], ...]:
    """g^(d · 2^(6i)) for every digit d and place i; made when the first signature is verified."""
    rows, base = [], gmpy2.mpz(G)
    for _ in range(EXPONENT_BITS // _WINDOW):
        row = [gmpy2.mpz(1)]
        for _ in range((1 << _WINDOW) - 1):
            row.append(row[-1] * base % PUBLIC_MODULUS)
        rows.append(tuple(row))
        base = row[-1] * base % PUBLIC_MODULUS
    return tuple(rows)


def encode_element(y: int) -> bytes:
    """Encode an element as 384 bytes, big-endian. `y` is one that `check_element` accepts."""
    return y.to_bytes(ELEMENT_SIZE, "big")


def decode_element(data: bytes) -> int:
    """Decode 384 bytes and check the element. Raises InvalidElement."""
    if len(data) != ELEMENT_SIZE:
        raise InvalidElement(f"an ffdhe3072 element has {ELEMENT_SIZE} bytes, not {len(data)}")
    y = int.from_bytes(data, "big")
    check_element(y)
    return y


def load_p256_public(data: bytes) -> ec.EllipticCurvePublicKey:
    """Load an uncompressed P-256 point (65 bytes: 04, x, y).

    Raises InvalidElement for every other encoding (compressed, hybrid, infinity), for coordinates not below the field prime,
    and for points off the curve. The cofactor is 1: a point on the curve that is not infinity has the full order.
    """
    if len(data) != POINT_SIZE or data[0] != 4:
        raise InvalidElement(f"a P-256 point is {POINT_SIZE} bytes that start with 04")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(CURVE, data)
    except ValueError:
        raise InvalidElement("the P-256 point is not on the curve") from None

"""The scheme that this project sets right, as it was published: textbook ElGamal on a fresh toy group, AES in CBC mode.

Reproduced from its description to be measured, and for nothing else. It is unsafe at any size: encryption is malleable, signatures
are forgeable, the key pair's parameters come from whoever connects.
"""

from __future__ import annotations

import hashlib
import math
import os
import secrets
from dataclasses import dataclass

from Crypto.Cipher import AES
from Crypto.Util import number
from Crypto.Util.Padding import pad

PUBLISHED_BITS = 128  # of the prime in the published figures


@dataclass(frozen=True, slots=True)
class TextbookKey:
    """p, g, x and y = g^x mod p, as Python numbers."""

    p: int
    g: int
    x: int
    y: int


def generate(bits: int) -> TextbookKey:
    """Draw a prime, a base and a key pair: what key generation means for this scheme, which fixes no group."""
    p = number.getPrime(bits)
    return fresh_pair(TextbookKey(p, secrets.randbelow(p - 3) + 2, 0, 0))


def fresh_pair(group: TextbookKey) -> TextbookKey:
    """Only a new exponent in a group that is there already."""
    x = secrets.randbelow(group.p - 3) + 2
    return TextbookKey(group.p, group.g, x, pow(group.g, x, group.p))


def public_key(key: TextbookKey) -> tuple[int, int, int]:
    """What the published table timed as key generation: reading the parts of a key that exists."""
    return key.p, key.g, key.y


def encrypt(key: bytes, text: bytes) -> bytes:
    """AES in CBC mode with a random start and PKCS#7 padding, nothing authenticated; 16 bytes of key were published."""
    start = os.urandom(16)
    return start + AES.new(key, AES.MODE_CBC, start).encrypt(pad(text, 16))


def digest(text: bytes) -> int:
    """SHA-256 as a number."""
    return int.from_bytes(hashlib.sha256(text).digest(), "big")


def sign(key: TextbookKey, text: bytes) -> tuple[int, int]:
    """r = g^k, s = (H(m) − x·r) / k modulo p − 1 (Menezes et al., Handbook of Applied Cryptography, 11.64)."""
    order = key.p - 1
    while True:
        k = secrets.randbelow(order - 2) + 1
        if math.gcd(k, order) == 1:
            break
    r = pow(key.g, k, key.p)
    return r, (digest(text) - key.x * r) * pow(k, -1, order) % order


def verify(key: TextbookKey, text: bytes, signature: tuple[int, int]) -> bool:
    """g^H(m) = y^r · r^s."""
    r, s = signature
    left = pow(key.g, digest(text) % (key.p - 1), key.p)
    return 0 < r < key.p and left == pow(key.y, r, key.p) * pow(r, s, key.p) % key.p

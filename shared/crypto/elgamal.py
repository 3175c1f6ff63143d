"""Hashed ElGamal encryption (DHIES) in ffdhe3072: the key encapsulation of suite 1.

Law of this module: only ephemeral and short-lived encryption keys; nothing here signs. A secret exponent goes into the
library's constant-time power and nowhere else.

The five operations of the original system and where each is now:

| original          | here                                                                                   |
|-------------------|----------------------------------------------------------------------------------------|
| key generation    | `generate`: x with 280 bits, y = g^x, in one fixed group instead of one a peer chooses  |
| encryption        | `encapsulate`: (g^r, KDF(y^r)); the KDF's key seals the message in `aead`               |
| decryption        | `decapsulate`: KDF(c^x), then `aead` opens                                              |
| signature         | `signatures.Schnorr.sign`: ElGamal's own equation is forgeable in this group            |
| verification      | `signatures.Schnorr.verify`                                                             |

Textbook ElGamal multiplies the message into the group: it is malleable, and the Jacobi symbol of the message shows. Hashing
y^r into a key and sealing under that key removes both (Abdalla, Bellare, Rogaway: "DHIES", CT-RSA 2001).

`Crypto.PublicKey.ElGamal` is not used as the key's container: `construct` tests p for primality anew and computes
g^(p-1) for every key (tens of milliseconds for two facts that the tests prove once about a constant), and it takes p from
its caller, smooth ones included, which is the very door that `groups` closes.

Safety of the short exponents: in a safe-prime group the best attack on an exponent of 2t bits costs 2^t (RFC 7919 section
5.2 asks for at least 225 bits, SP 800-57 rates the group at 128 bits of security, so 256 suffice; 280 leave room). That needs
the peer's value to be in the subgroup, hence `decode_element` before every power.
"""

from __future__ import annotations

from typing import Final

from Crypto.Math.Numbers import Integer

from shared.crypto.groups import ELEMENT_SIZE, GENERATOR, MODULUS, decode_element
from shared.crypto.kdf import Label, derive
from shared.crypto.secret import Random

EXPONENT_SIZE: Final = 35
"""Bytes of a secret exponent: 280 bits, of which the top one is always set."""


def random_exponent(random: Random) -> Integer:
    """Draw a secret exponent between 2²⁷⁹ and 2²⁸⁰ − 1.

    The top bit is fixed: the exponent is never 0, and 279 bits remain unknown.
    """
    drawn = random(EXPONENT_SIZE)
    # from_bytes keeps the value out of Python's integers, whose arithmetic takes a time that depends on it.
    return Integer.from_bytes(bytes([drawn[0] | 0x80]) + drawn[1:])


def power_of_generator(exponent: Integer) -> bytes:
    """Return g^exponent, encoded: 384 bytes."""
    return pow(GENERATOR, exponent, MODULUS).to_bytes(ELEMENT_SIZE)


def generate(random: Random) -> tuple[Integer, bytes]:
    """Make a key: the secret exponent and the encoded public element (384 bytes)."""
    x = random_exponent(random)
    return x, power_of_generator(x)


def encapsulate(public: bytes, random: Random) -> tuple[bytes, bytes]:
    """Make a shared secret for the owner of `public` (384 bytes).

    Returns the ciphertext (384 bytes) and the secret (32 bytes). Raises InvalidElement.
    """
    y = decode_element(public)
    r = random_exponent(random)
    ciphertext = power_of_generator(r)
    return ciphertext, _shared(y, r, ciphertext, public)


def decapsulate(x: Integer, public: bytes, ciphertext: bytes) -> bytes:
    """Return the shared secret (32 bytes) of a ciphertext (384 bytes); `public` is the element of `x`.

    Raises InvalidElement. A ciphertext that was made for another key gives another secret, not an error: the seal under the
    derived key is what fails.
    """
    return _shared(decode_element(ciphertext), x, ciphertext, public)


def _shared(element: int, exponent: Integer, ciphertext: bytes, public: bytes) -> bytes:
    z = pow(Integer(element), exponent, MODULUS).to_bytes(ELEMENT_SIZE)
    # Both public values go in, so that the secret belongs to this ciphertext and this key and to no related pair.
    return derive(Label.FF_KEM, (z,), (ciphertext, public))

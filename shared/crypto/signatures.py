"""Signatures: ECDSA on P-256, and Schnorr signatures in ffdhe3072.

Law of this module: everything that is signed begins with a label and is framed, so a signature made for one purpose never
verifies for another. Both algorithms are forms of the ElGamal signature that resist what breaks the original: over a standard
group with g = 2 its equation g^h = y^r · r^s accepts r = q with an s that needs no secret (Bleichenbacher, EUROCRYPT 1996). ECDSA
is that signature moved to a curve; Schnorr's hashes the commitment and the public key into the challenge, so nobody can pick r.

ECDSA signs with SHA-256 and the nonces of RFC 6979. The Schnorr signature of a message m under x, y = g^x is

    k = 2⁶⁷¹ + 671 bits derived from x, the message and, if given, fresh entropy
    e = H(label, r, y, m)        with r = g^k
    s = k − e·x                  over the integers, not reduced
    valid if                     H(label, g^s · y^e, y, m) = e

Why the nonce is safe without reduction modulo q (Girault, Poupard, Stern: "On the fly authentication and signature schemes
based on groups of unknown order", J. Cryptology 2006): e·x has at most 536 bits and k is uniform over 2⁶⁷¹ values, so the
distribution of s is within 2⁻¹³⁵ of one that does not depend on x. A k less than 128 bits longer than e·x would leak the top bits of
x, signature by signature. s is never negative, since k ≥ 2⁶⁷¹ > e·x.

Nothing in a verification is secret, so it computes with GMP: g^s from a table, y^e by its power (see `groups`).
"""

from __future__ import annotations

import hmac
from base64 import b32encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Final, Protocol

import gmpy2
from Crypto.Math.Numbers import Integer
from cryptography.exceptions import InvalidSignature as LibraryInvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared.crypto.elgamal import EXPONENT_SIZE, power_of_generator, random_exponent
from shared.crypto.groups import (
    CURVE,
    ELEMENT_SIZE,
    POINT_SIZE,
    PUBLIC_MODULUS,
    decode_element,
    load_p256_public,
    public_power_of_generator,
)
from shared.crypto.kdf import DIGEST_SIZE, Label, derive, digest, framed
from shared.crypto.secret import Random
from shared.errors import InvalidElement, InvalidSignature, LocalError


class Algorithm(IntEnum):
    """The signature algorithms; the numbers go on the wire and into fingerprints."""

    ECDSA_P256 = 1
    SCHNORR_FFDHE3072 = 2


@dataclass(frozen=True, slots=True, eq=False)
class SigningKey:
    """A key pair for signatures. `private` is opaque and stays out of the repr; `public` is what a roster holds."""

    algorithm: Algorithm
    private: ec.EllipticCurvePrivateKey | Integer = field(repr=False)
    public: bytes


class Signer(Protocol):
    """A signature algorithm. Sizes are in bytes."""

    @property
    def algorithm(self) -> Algorithm: ...

    @property
    def public_size(self) -> int: ...

    @property
    def signature_size(self) -> int: ...

    def generate(self, random: Random) -> SigningKey:
        """Make a fresh key pair from `random` alone."""
        ...

    def export(self, key: SigningKey) -> bytes:
        """Return the private key for the key file. Raises LocalError for a key of the other algorithm."""
        ...

    def load(self, data: bytes) -> SigningKey:
        """Read what `export` wrote. Raises InvalidElement if it is malformed or out of range."""
        ...

    def sign(self, key: SigningKey, label: Label, *parts: bytes, random: Random | None = None) -> bytes:
        """Sign the framed label and parts.

        Deterministic; where an algorithm can take fresh entropy into its nonce as well (Schnorr), `random` gives it. Raises
        LocalError for a key of the other algorithm.
        """
        ...

    def verify(self, public: bytes, label: Label, signature: bytes, *parts: bytes) -> None:
        """Raises InvalidSignature if the signature does not verify, InvalidElement if the public key is malformed."""
        ...

    def check_public(self, public: bytes) -> None:
        """Raises InvalidElement unless `public` is a key of this algorithm."""
        ...


P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""The order of P-256's base point (SP 800-186 section 3.2.1.3)."""

NONCE_SIZE: Final = 84
"""Bytes of a Schnorr nonce and of s: 672 bits, of which the nonce's top one is always set."""

_CACHED_KEYS: Final = 4096
# Roster keys are verified against again and again; a subgroup check costs a millisecond. Public values only, and bounded:
# 4,096 ffdhe3072 keys are 4 MB.


class EcdsaP256:
    """ECDSA on P-256 with SHA-256 (FIPS 186-5); a signature is r ‖ s, 32 bytes each (IEEE P1363)."""

    algorithm: Final = Algorithm.ECDSA_P256
    public_size: Final = POINT_SIZE
    signature_size: Final = 64

    _SIGN: Final = ec.ECDSA(SHA256(), deterministic_signing=True)
    _VERIFY: Final = ec.ECDSA(SHA256())

    def generate(self, random: Random) -> SigningKey:
        """Make a key pair; draws 32 bytes until they are below the group order (once, but for a chance of 2⁻³²)."""
        while True:
            drawn = random(32)
            if 0 < int.from_bytes(drawn, "big") < P256_ORDER:
                return self.load(drawn)

    def export(self, key: SigningKey) -> bytes:
        """Return the scalar: 32 bytes, big-endian. Raises LocalError for a Schnorr key."""
        return self._private(key).private_numbers().private_value.to_bytes(32, "big")

    def load(self, data: bytes) -> SigningKey:
        """Read a scalar of 32 bytes. Raises InvalidElement."""
        scalar = int.from_bytes(data, "big")
        if len(data) != 32 or not 0 < scalar < P256_ORDER:
            raise InvalidElement("an ECDSA P-256 private key is 32 bytes, between 1 and the group order − 1")
        private = ec.derive_private_key(scalar, CURVE)
        public = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return SigningKey(self.algorithm, private, public)

    def sign(self, key: SigningKey, label: Label, *parts: bytes, random: Random | None = None) -> bytes:
        """Return r ‖ s (64 bytes). The nonce is that of RFC 6979; `random` is not called. Raises LocalError."""
        return self.sign_raw(key, framed(label, *parts))

    def sign_raw(self, key: SigningKey, message: bytes) -> bytes:
        """`sign` without label and framing, for published test vectors."""
        r, s = decode_dss_signature(self._private(key).sign(message, self._SIGN))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def verify(self, public: bytes, label: Label, signature: bytes, *parts: bytes) -> None:
        """Raises InvalidSignature if the signature does not verify, InvalidElement if the public key is malformed."""
        self.verify_raw(public, framed(label, *parts), signature)

    def verify_raw(self, public: bytes, message: bytes, signature: bytes) -> None:
        """`verify` without label and framing, for published test vectors."""
        key = _p256_public(public)
        if len(signature) != self.signature_size:
            raise InvalidSignature(
                f"an ECDSA P-256 signature has {self.signature_size} bytes, not {len(signature)}"
            )
        # The library refuses r and s that are 0 or not below the group order.
        der = encode_dss_signature(
            int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
        )
        try:
            key.verify(der, message, self._VERIFY)
        except LibraryInvalidSignature:
            raise InvalidSignature("the ECDSA P-256 signature does not verify") from None

    def check_public(self, public: bytes) -> None:
        """Raises InvalidElement unless `public` is an uncompressed point of P-256."""
        _p256_public(public)

    def _private(self, key: SigningKey) -> ec.EllipticCurvePrivateKey:
        if not isinstance(key.private, ec.EllipticCurvePrivateKey):
            raise LocalError(f"a key for {key.algorithm.name} was given to {self.algorithm.name}")
        return key.private


class SchnorrFfdhe3072:
    """Schnorr signatures in the order-q subgroup of ffdhe3072; a signature is e (32 bytes) ‖ s (84 bytes)."""

    algorithm: Final = Algorithm.SCHNORR_FFDHE3072
    public_size: Final = ELEMENT_SIZE
    signature_size: Final = DIGEST_SIZE + NONCE_SIZE

    def generate(self, random: Random) -> SigningKey:
        """Make a key pair; draws 35 bytes."""
        return self._key(random_exponent(random))

    def export(self, key: SigningKey) -> bytes:
        """Return the exponent: 35 bytes, big-endian. Raises LocalError for an ECDSA key."""
        return self._private(key).to_bytes(EXPONENT_SIZE)

    def load(self, data: bytes) -> SigningKey:
        """Read an exponent of 35 bytes. Raises InvalidElement."""
        if len(data) != EXPONENT_SIZE or data[0] < 0x80:
            raise InvalidElement(f"a Schnorr private key is {EXPONENT_SIZE} bytes with the top bit set")
        return self._key(Integer.from_bytes(data))

    def sign(self, key: SigningKey, label: Label, *parts: bytes, random: Random | None = None) -> bytes:
        """Return e ‖ s (116 bytes). Raises LocalError for an ECDSA key.

        With `random` the nonce is hedged: it also takes 32 fresh bytes, which protect against faults during the
        computation, while bad entropy still does no harm.
        """
        x = self._private(key)
        message = framed(label, *parts)
        hedge = b"" if random is None else random(32)
        nonce = derive_nonce(x.to_bytes(EXPONENT_SIZE), hedge, key.public, message)
        k = Integer.from_bytes(nonce)
        e = _challenge(power_of_generator(k), key.public, message)
        # Integers of the library on both sides: constant-time multiplication and subtraction, never negative (see above).
        s = k - Integer.from_bytes(e) * x
        return e + s.to_bytes(NONCE_SIZE)

    def verify(self, public: bytes, label: Label, signature: bytes, *parts: bytes) -> None:
        """Raises InvalidSignature if the signature does not verify, InvalidElement if the public key is malformed."""
        y = _ffdhe_public(public)
        if len(signature) != self.signature_size:
            raise InvalidSignature(
                f"a Schnorr signature has {self.signature_size} bytes, not {len(signature)}"
            )
        e, s = signature[:DIGEST_SIZE], signature[DIGEST_SIZE:]
        # Nothing in a verification is secret. The size bounds s below 2⁶⁷², far below q, so no second s of the same residue
        # exists and a signature cannot be altered into another one.
        power = gmpy2.powmod(y, int.from_bytes(e, "big"), PUBLIC_MODULUS)
        commitment = public_power_of_generator(int.from_bytes(s, "big")) * power % PUBLIC_MODULUS
        expected = _challenge(int(commitment).to_bytes(ELEMENT_SIZE, "big"), public, framed(label, *parts))
        if not hmac.compare_digest(expected, e):
            raise InvalidSignature("the Schnorr signature does not verify")

    def check_public(self, public: bytes) -> None:
        """Raises InvalidElement unless `public` is an element of the order-q subgroup other than 1."""
        _ffdhe_public(public)

    def _key(self, x: Integer) -> SigningKey:
        return SigningKey(self.algorithm, x, power_of_generator(x))

    def _private(self, key: SigningKey) -> Integer:
        if not isinstance(key.private, Integer):
            raise LocalError(f"a key for {key.algorithm.name} was given to {self.algorithm.name}")
        return key.private


ECDSA_P256: Final = EcdsaP256()
SCHNORR_FFDHE3072: Final = SchnorrFfdhe3072()

SIGNERS: Final[Mapping[Algorithm, Signer]] = MappingProxyType(
    {signer.algorithm: signer for signer in (ECDSA_P256, SCHNORR_FFDHE3072)}
)


@lru_cache(maxsize=_CACHED_KEYS)
def fingerprint(algorithm: Algorithm, public: bytes) -> str:
    """Return the fingerprint of a public key: 32 characters of lowercase base32 (160 bits)."""
    return b32encode(digest(Label.FINGERPRINT, bytes([algorithm]), public)[:20]).decode().lower()


def derive_nonce(x: bytes, hedge: bytes, public: bytes, message: bytes) -> bytes:
    """Return the Schnorr nonce: 84 bytes with the top bit set, a function of key, message and `hedge`."""
    drawn = derive(Label.SCHNORR_NONCE, (x, hedge), (public, message), length=NONCE_SIZE)
    return bytes([drawn[0] | 0x80]) + drawn[1:]


def _challenge(commitment: bytes, public: bytes, message: bytes) -> bytes:
    return digest(Label.SCHNORR_CHALLENGE, commitment, public, message)


@lru_cache(maxsize=_CACHED_KEYS)
def _p256_public(data: bytes) -> ec.EllipticCurvePublicKey:
    return load_p256_public(data)


@lru_cache(maxsize=_CACHED_KEYS)
def _ffdhe_public(data: bytes) -> gmpy2.mpz:
    return gmpy2.mpz(decode_element(data))

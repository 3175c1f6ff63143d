"""SPEC section 3: the three suites, each a way to encapsulate and a way to sign.

Elements and keys are bytes as they travel. The prime of ffdhe3072 is computed from the formula of RFC 7919, not copied.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, mlkem
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from lab.evil.peer.equations import (
    FF_KEM,
    HYBRID_KEM,
    SCHNORR_CHALLENGE,
    SCHNORR_NONCE,
    Surprise,
    digest,
    frame,
    kdf,
)

ECDSA, SCHNORR = 1, 2
POINT, ELEMENT = 65, 384
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_LATTICE_PUBLIC, _LATTICE_CIPHERTEXT = 1184, 1088
_CURVE = ec.SECP256R1()

Random = Callable[[int], bytes]


@dataclass(frozen=True, slots=True, repr=False)
class KemPair:
    """A key that others encapsulate to."""

    public: bytes
    decapsulate: Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True, repr=False)
class SigningPair:
    """A key that signs; `sign(label, *parts)`."""

    algorithm: int
    public: bytes
    sign: Callable[..., bytes]


@dataclass(frozen=True, slots=True)
class Suite:
    """One row of the table."""

    number: int
    name: str
    algorithm: int
    padded_to: int
    generate: Callable[[Random], KemPair]
    encapsulate: Callable[[bytes, Random], tuple[bytes, bytes]]
    new_signer: Callable[[Random], SigningPair]


# The group of RFC 7919, appendix A.2


@cache
def prime() -> int:
    """2^3072 − 2^3008 + (⌊2^2942 · e⌋ + 2625351) · 2^64 − 1."""
    guard = 256
    term = total = 1 << (2942 + guard)
    divisor = 1
    while term:
        term //= divisor
        total += term
        divisor += 1
    euler = total >> guard
    return (1 << 3072) - (1 << 3008) + ((euler + 2625351) << 64) - 1


def jacobi(a: int, n: int) -> int:
    """The Jacobi symbol (a/n), n odd."""
    result, a = 1, a % n
    while a:
        twos = (a & -a).bit_length() - 1
        a >>= twos
        if twos % 2 and n % 8 in (3, 5):
            result = -result
        if a % 4 == n % 4 == 3:
            result = -result
        a, n = n % a, a
    return result if n == 1 else 0


def element(value: int) -> bytes:
    """A number as it travels; any number, also one that is no element."""
    return value.to_bytes(ELEMENT, "big")


def read_element(data: bytes) -> int:
    """An element of the subgroup. Raises Surprise for anything else."""
    y, p = int.from_bytes(data, "big"), prime()
    if len(data) != ELEMENT or not 1 < y < p - 1 or jacobi(y, p) != 1:
        raise Surprise("no element of ffdhe3072")
    return y


def _exponent(random: Random) -> int:
    return int.from_bytes(random(35), "big") | 1 << 279


def _ff_secret(z: int, ciphertext: bytes, public: bytes) -> bytes:
    return kdf(FF_KEM, (element(z),), (ciphertext, public))


def _ff_generate(random: Random) -> KemPair:
    x = _exponent(random)
    public = element(pow(2, x, prime()))
    return KemPair(public, lambda ct: _ff_secret(pow(read_element(ct), x, prime()), ct, public))


def _ff_encapsulate(public: bytes, random: Random) -> tuple[bytes, bytes]:
    r = _exponent(random)
    ciphertext = element(pow(2, r, prime()))
    return ciphertext, _ff_secret(pow(read_element(public), r, prime()), ciphertext, public)


def schnorr_challenge(commitment: int, public: bytes, message: bytes) -> bytes:
    """e of a Schnorr signature."""
    return digest(SCHNORR_CHALLENGE, element(commitment), public, message)


def _new_schnorr(random: Random) -> SigningPair:
    x = _exponent(random)
    public = element(pow(2, x, prime()))

    def sign(label: str, *parts: bytes) -> bytes:
        message = frame(label.encode("ascii"), *parts)
        drawn = kdf(SCHNORR_NONCE, (x.to_bytes(35, "big"), b""), (public, message), size=84)
        k = int.from_bytes(drawn, "big") | 1 << 671
        e = schnorr_challenge(pow(2, k, prime()), public, message)
        return e + (k - int.from_bytes(e, "big") * x).to_bytes(84, "big")

    return SigningPair(SCHNORR, public, sign)


def _schnorr_verifies(public: bytes, signature: bytes, message: bytes) -> bool:
    e, s, p = signature[:32], signature[32:], prime()
    commitment = pow(2, int.from_bytes(s, "big"), p) * pow(read_element(public), int.from_bytes(e, "big"), p)
    return len(signature) == 116 and schnorr_challenge(commitment % p, public, message) == e


# The curve


def _point(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _read_point(data: bytes) -> ec.EllipticCurvePublicKey:
    if len(data) != POINT or data[0] != 4:
        raise Surprise("no uncompressed point")
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, data)
    except ValueError as error:
        raise Surprise("no point of P-256") from error


def _curve_secret(dh: bytes, ciphertext: bytes, public: bytes) -> bytes:
    suite = b"HPKE-v1KEM\x00\x10"
    prk = HKDF.extract(SHA256(), None, suite + b"eae_prk" + dh)
    return HKDFExpand(SHA256(), 32, b"\x00\x20" + suite + b"shared_secret" + ciphertext + public).derive(prk)


def _curve_generate(random: Random) -> KemPair:
    key = ec.generate_private_key(_CURVE)
    public = _point(key)
    return KemPair(public, lambda ct: _curve_secret(key.exchange(ec.ECDH(), _read_point(ct)), ct, public))


def _curve_encapsulate(public: bytes, random: Random) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(_CURVE)
    ciphertext = _point(key)
    return ciphertext, _curve_secret(key.exchange(ec.ECDH(), _read_point(public)), ciphertext, public)


def _new_ecdsa(random: Random) -> SigningPair:
    scalar = 1 + int.from_bytes(random(40), "big") % (P256_ORDER - 1)
    key = ec.derive_private_key(scalar, _CURVE)

    def sign(label: str, *parts: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(frame(label.encode("ascii"), *parts), ec.ECDSA(SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    return SigningPair(ECDSA, _point(key), sign)


def _ecdsa_verifies(public: bytes, signature: bytes, message: bytes) -> bool:
    if len(signature) != 64:
        return False
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        _read_point(public).verify(encode_dss_signature(r, s), message, ec.ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


# Both together


def _hybrid_secret(lattice: bytes, curve: bytes, ciphertext: bytes, public: bytes) -> bytes:
    parts = (
        ciphertext[:_LATTICE_CIPHERTEXT],
        ciphertext[_LATTICE_CIPHERTEXT:],
        public[:_LATTICE_PUBLIC],
        public[_LATTICE_PUBLIC:],
    )
    return kdf(HYBRID_KEM, (lattice, curve), parts)


def _hybrid_generate(random: Random) -> KemPair:
    lattice, curve = mlkem.MLKEM768PrivateKey.generate(), _curve_generate(random)
    public = lattice.public_key().public_bytes_raw() + curve.public

    def decapsulate(ciphertext: bytes) -> bytes:
        if len(ciphertext) != _LATTICE_CIPHERTEXT + POINT:
            raise Surprise("no ciphertext of the hybrid")
        first = lattice.decapsulate(ciphertext[:_LATTICE_CIPHERTEXT])
        return _hybrid_secret(first, curve.decapsulate(ciphertext[_LATTICE_CIPHERTEXT:]), ciphertext, public)

    return KemPair(public, decapsulate)


def _hybrid_encapsulate(public: bytes, random: Random) -> tuple[bytes, bytes]:
    if len(public) != _LATTICE_PUBLIC + POINT:
        raise Surprise("no public key of the hybrid")
    lattice = mlkem.MLKEM768PublicKey.from_public_bytes(public[:_LATTICE_PUBLIC])
    first, ciphertext = lattice.encapsulate()
    curve_ciphertext, second = _curve_encapsulate(public[_LATTICE_PUBLIC:], random)
    ciphertext += curve_ciphertext
    return ciphertext, _hybrid_secret(first, second, ciphertext, public)


FFDHE3072 = Suite(1, "elgamal-ffdhe3072", SCHNORR, 2048, _ff_generate, _ff_encapsulate, _new_schnorr)
P256 = Suite(2, "elgamal-p256", ECDSA, 512, _curve_generate, _curve_encapsulate, _new_ecdsa)
HYBRID = Suite(3, "elgamal-p256-mlkem768", ECDSA, 512, _hybrid_generate, _hybrid_encapsulate, _new_ecdsa)
SUITES = (FFDHE3072, P256, HYBRID)


def new_signer(algorithm: int, random: Random) -> SigningPair:
    """A fresh key of an algorithm."""
    return _new_ecdsa(random) if algorithm == ECDSA else _new_schnorr(random)


def verify(algorithm: int, public: bytes, label: str, signature: bytes, *parts: bytes) -> None:
    """Raises Surprise where a signature does not verify."""
    verifies = _ecdsa_verifies if algorithm == ECDSA else _schnorr_verifies
    if not verifies(public, signature, frame(label.encode("ascii"), *parts)):
        raise Surprise(f"a signature does not verify: {label}")


def malleated(signature: bytes) -> bytes:
    """The other ECDSA signature of the same text by the same key: (r, q − s)."""
    s = P256_ORDER - int.from_bytes(signature[32:], "big")
    return signature[:32] + s.to_bytes(32, "big")

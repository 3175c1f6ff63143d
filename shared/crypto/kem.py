"""Key encapsulation: one interface, three mechanisms.

Law of this module: a mechanism is a stateless object with the methods of `Kem`; which one a suite uses stands in `suites`.
Public values are checked when they come in. Private keys are opaque to everyone else and never exported: they are
ephemeral or live for seconds.

Entropy: exponents of ffdhe3072 and the seeds of ML-KEM keys come from the `random` argument. P-256 keys and the ML-KEM
encapsulation draw from the operating system inside the library (it offers no seed for the latter; a P-256 key from given
bytes costs twice as much). Reproducible vectors therefore run in the receiving direction.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from Crypto.Math.Numbers import Integer
from cryptography.hazmat.primitives.asymmetric import ec, mlkem
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared.crypto import elgamal
from shared.crypto.groups import CURVE, ELEMENT_SIZE, POINT_SIZE, load_p256_public
from shared.crypto.kdf import Label, derive, hkdf_expand, hkdf_extract
from shared.crypto.secret import Random
from shared.errors import InvalidElement, LocalError

MLKEM768_PUBLIC_SIZE: Final = 1184
MLKEM768_CIPHERTEXT_SIZE: Final = 1088
MLKEM768_SEED_SIZE: Final = 64

# RFC 9180 section 4.1: suite_id = "KEM" ‖ I2OSP(kem_id, 2); DHKEM(P-256, HKDF-SHA256) is 0x0010 (table 2). Section 4 puts
# "HPKE-v1" and the suite in front of each label. The RFC fixes these strings, so they stand here and not among our labels.
_HPKE_PREFIX: Final = b"HPKE-v1KEM\x00\x10"
_EXTRACT_PREFIX: Final = _HPKE_PREFIX + b"eae_prk"
_EXPAND_PREFIX: Final = (32).to_bytes(2, "big") + _HPKE_PREFIX + b"shared_secret"

_ECDH: Final = ec.ECDH()

HybridPrivate: TypeAlias = tuple[mlkem.MLKEM768PrivateKey, ec.EllipticCurvePrivateKey]


@dataclass(frozen=True, slots=True, eq=False)
class KemKey:
    """A key pair of a mechanism. `private` is opaque and stays out of the repr; `public` is what goes on the wire."""

    private: Integer | ec.EllipticCurvePrivateKey | HybridPrivate = field(repr=False)
    public: bytes


class Kem(Protocol):
    """A key encapsulation mechanism. Sizes are in bytes; a shared secret always has 32."""

    @property
    def public_size(self) -> int: ...

    @property
    def ciphertext_size(self) -> int: ...

    def generate(self, random: Random) -> KemKey:
        """Make a fresh key pair."""
        ...

    def encapsulate(self, public: bytes, random: Random) -> tuple[bytes, bytes]:
        """Return a ciphertext for the owner of `public` and the shared secret. Raises InvalidElement."""
        ...

    def decapsulate(self, key: KemKey, ciphertext: bytes) -> bytes:
        """Return the shared secret.

        Raises InvalidElement for a malformed ciphertext, LocalError for a key of another mechanism. A ciphertext made for
        another key gives an unrelated secret.
        """
        ...


class FfdheKem:
    """Hashed ElGamal in ffdhe3072; see `elgamal`."""

    public_size: Final = ELEMENT_SIZE
    ciphertext_size: Final = ELEMENT_SIZE

    def generate(self, random: Random) -> KemKey:
        """Make a fresh key pair; draws 35 bytes."""
        private, public = elgamal.generate(random)
        return KemKey(private, public)

    def encapsulate(self, public: bytes, random: Random) -> tuple[bytes, bytes]:
        """Return ciphertext (384 bytes) and secret (32 bytes). Raises InvalidElement."""
        return elgamal.encapsulate(public, random)

    def decapsulate(self, key: KemKey, ciphertext: bytes) -> bytes:
        """Return the secret (32 bytes). Raises InvalidElement, and LocalError for a key of another mechanism."""
        if not isinstance(key.private, Integer):
            raise LocalError("not a key of the ffdhe3072 mechanism")
        return elgamal.decapsulate(key.private, key.public, ciphertext)


class P256Kem:
    """Hashed ElGamal on P-256: DHKEM(P-256, HKDF-SHA256) of RFC 9180 section 4.1."""

    public_size: Final = POINT_SIZE
    ciphertext_size: Final = POINT_SIZE

    def generate(self, random: Random) -> KemKey:
        """Make a fresh key pair. The library draws from the operating system; `random` is not called."""
        private = ec.generate_private_key(CURVE)
        return KemKey(private, _point(private))

    def encapsulate(self, public: bytes, random: Random) -> tuple[bytes, bytes]:
        """Return ciphertext (65 bytes) and secret (32 bytes). Raises InvalidElement."""
        peer = load_p256_public(public)
        ephemeral = ec.generate_private_key(CURVE)
        ciphertext = _point(ephemeral)
        return ciphertext, _dhkem_secret(ephemeral.exchange(_ECDH, peer), ciphertext, public)

    def decapsulate(self, key: KemKey, ciphertext: bytes) -> bytes:
        """Return the secret (32 bytes). Raises InvalidElement, and LocalError for a key of another mechanism."""
        if not isinstance(key.private, ec.EllipticCurvePrivateKey):
            raise LocalError("not a key of the P-256 mechanism")
        peer = load_p256_public(ciphertext)
        return _dhkem_secret(key.private.exchange(_ECDH, peer), ciphertext, key.public)


class HybridKem:
    """ML-KEM-768 (FIPS 203) and P-256 together: it holds as long as either does.

    Public key and ciphertext are the two parts, ML-KEM first. Both ciphertexts and both public keys go into the derivation,
    so that nobody can exchange one half and keep the secret.
    """

    public_size: Final = MLKEM768_PUBLIC_SIZE + POINT_SIZE
    ciphertext_size: Final = MLKEM768_CIPHERTEXT_SIZE + POINT_SIZE

    def generate(self, random: Random) -> KemKey:
        """Make a fresh key pair; the ML-KEM half draws its seed of 64 bytes from `random`, the P-256 half does not."""
        lattice = mlkem.MLKEM768PrivateKey.from_seed_bytes(random(MLKEM768_SEED_SIZE))
        curve = ec.generate_private_key(CURVE)
        return KemKey((lattice, curve), lattice.public_key().public_bytes_raw() + _point(curve))

    def encapsulate(self, public: bytes, random: Random) -> tuple[bytes, bytes]:
        """Return ciphertext (1153 bytes) and secret (32 bytes). Raises InvalidElement."""
        if len(public) != self.public_size:
            raise InvalidElement(f"a hybrid public key has {self.public_size} bytes, not {len(public)}")
        lattice_public, curve_public = public[:MLKEM768_PUBLIC_SIZE], public[MLKEM768_PUBLIC_SIZE:]
        lattice_secret, lattice_ciphertext = load_mlkem_public(lattice_public).encapsulate()
        curve_ciphertext, curve_secret = P256.encapsulate(curve_public, random)
        ciphertext = lattice_ciphertext + curve_ciphertext
        return ciphertext, _hybrid_secret(lattice_secret, curve_secret, ciphertext, public)

    def decapsulate(self, key: KemKey, ciphertext: bytes) -> bytes:
        """Return the secret (32 bytes). Raises InvalidElement, and LocalError for a key of another mechanism."""
        if not isinstance(key.private, tuple):
            raise LocalError("not a key of the hybrid mechanism")
        if len(ciphertext) != self.ciphertext_size:
            raise InvalidElement(
                f"a hybrid ciphertext has {self.ciphertext_size} bytes, not {len(ciphertext)}"
            )
        lattice, curve = key.private
        curve_ciphertext = ciphertext[MLKEM768_CIPHERTEXT_SIZE:]
        # The point first: a malformed one costs no decapsulation of the lattice.
        curve_secret = P256.decapsulate(KemKey(curve, key.public[MLKEM768_PUBLIC_SIZE:]), curve_ciphertext)
        # ML-KEM answers a changed ciphertext with a pseudo-random secret (implicit rejection), never with an error.
        lattice_secret = lattice.decapsulate(ciphertext[:MLKEM768_CIPHERTEXT_SIZE])
        return _hybrid_secret(lattice_secret, curve_secret, ciphertext, key.public)


FFDHE3072: Final = FfdheKem()
P256: Final = P256Kem()
P256_MLKEM768: Final = HybridKem()


def load_mlkem_public(data: bytes) -> mlkem.MLKEM768PublicKey:
    """Load an ML-KEM-768 encapsulation key (1184 bytes).

    Raises InvalidElement for a wrong length and for coefficients that are not reduced (the modulus check of FIPS 203 section
    7.2, which the library makes).
    """
    try:
        return mlkem.MLKEM768PublicKey.from_public_bytes(data)
    except ValueError:
        raise InvalidElement("the ML-KEM-768 public key is malformed") from None


def _point(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _dhkem_secret(dh: bytes, ciphertext: bytes, public: bytes) -> bytes:
    """ExtractAndExpand of RFC 9180 section 4.1, with kem_context = enc ‖ pkRm."""
    prk = hkdf_extract(b"", _EXTRACT_PREFIX + dh)
    return hkdf_expand(prk, _EXPAND_PREFIX + ciphertext + public, 32)


def _hybrid_secret(lattice_secret: bytes, curve_secret: bytes, ciphertext: bytes, public: bytes) -> bytes:
    return derive(
        Label.HYBRID_KEM,
        (lattice_secret, curve_secret),
        (
            ciphertext[:MLKEM768_CIPHERTEXT_SIZE],
            ciphertext[MLKEM768_CIPHERTEXT_SIZE:],
            public[:MLKEM768_PUBLIC_SIZE],
            public[MLKEM768_PUBLIC_SIZE:],
        ),
    )

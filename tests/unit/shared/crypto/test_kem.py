"""The mechanisms one by one; what they have in common is tests/contract/test_suites.py."""

from __future__ import annotations

import os

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from shared.crypto.kdf import Label, derive
from shared.crypto.kem import FFDHE3072, P256, P256_MLKEM768, Kem, KemKey
from shared.errors import InvalidElement, LocalError
from tests.crypto_tools import entropy

ALL: list[Kem] = [FFDHE3072, P256, P256_MLKEM768]

# RFC 9180 appendix A.3.1: DHKEM(P-256, HKDF-SHA256), base mode.
SK_R = "f3ce7fdae57e1a310d87f1ebbde6f328be0a99cdbcadf4d6589cf29de4b8ffd2"
PK_R = (
    "04fe8c19ce0905191ebc298a9245792531f26f0cece2460639e8bc39cb7f706a82"
    "6a779b4cf969b8a0e539c7f62fb3d30ad6aa8f80e30f1d128aafd68a2ce72ea0"
)
ENC = (
    "04a92719c6195d5085104f469a8b9814d5838ff72b60501e2c4466e5e67b325ac9"
    "8536d7b61a1af4b78e5b7f951c0900be863c403ce65c9bfcb9382657222d18c4"
)
SHARED_SECRET = "c0d26aeab536609a572b07695d933b589dcf363ff9d93c93adea537aeabb8cb8"


def test_p256_gives_the_shared_secret_of_rfc_9180() -> None:
    """Receiver's side of appendix A.3.1."""
    key = KemKey(ec.derive_private_key(int(SK_R, 16), ec.SECP256R1()), bytes.fromhex(PK_R))

    assert P256.decapsulate(key, bytes.fromhex(ENC)).hex() == SHARED_SECRET


@pytest.mark.parametrize("kem", ALL, ids=lambda kem: type(kem).__name__)
def test_a_key_of_another_mechanism_is_our_error(kem: Kem) -> None:
    """Keys are not interchangeable."""
    for other in ALL:
        if other is not kem:
            with pytest.raises(LocalError, match="not a key of the"):
                kem.decapsulate(other.generate(os.urandom), bytes(kem.ciphertext_size))


@pytest.mark.parametrize("kem", ALL, ids=lambda kem: type(kem).__name__)
def test_the_repr_of_a_key_does_not_show_its_private_part(kem: Kem) -> None:
    """Not even the type of the private object."""
    assert repr(kem.generate(os.urandom)).startswith("KemKey(public=")


def test_the_hybrid_secret_binds_both_halves() -> None:
    """Computed anew from the parts; the halves come from the two libraries' own calls."""
    key = P256_MLKEM768.generate(entropy("hybrid"))
    ciphertext, secret = P256_MLKEM768.encapsulate(key.public, os.urandom)
    assert isinstance(key.private, tuple)
    lattice, curve = key.private
    ss_lattice = lattice.decapsulate(ciphertext[:1088])
    ss_curve = P256.decapsulate(KemKey(curve, key.public[1184:]), ciphertext[1088:])

    assert secret == derive(
        Label.HYBRID_KEM,
        (ss_lattice, ss_curve),
        (ciphertext[:1088], ciphertext[1088:], key.public[:1184], key.public[1184:]),
    )


def test_one_half_of_a_hybrid_ciphertext_cannot_be_exchanged() -> None:
    """Two ciphertexts for one key, mixed: both secrets are missed."""
    key = P256_MLKEM768.generate(os.urandom)
    first, first_secret = P256_MLKEM768.encapsulate(key.public, os.urandom)
    second, second_secret = P256_MLKEM768.encapsulate(key.public, os.urandom)

    mixed = P256_MLKEM768.decapsulate(key, first[:1088] + second[1088:])

    assert len({mixed, first_secret, second_secret}) == 3


def test_a_bad_half_spoils_a_hybrid_value() -> None:
    """Each half is checked by its own rule, in public keys and in ciphertexts."""
    key = P256_MLKEM768.generate(os.urandom)
    ciphertext, _ = P256_MLKEM768.encapsulate(key.public, os.urandom)

    with pytest.raises(InvalidElement, match="ML-KEM-768 public key"):
        P256_MLKEM768.encapsulate(b"\xff" * 1184 + key.public[1184:], os.urandom)
    with pytest.raises(InvalidElement, match="not on the curve"):
        P256_MLKEM768.encapsulate(key.public[:1184] + b"\x04" + bytes(64), os.urandom)
    with pytest.raises(InvalidElement, match="not on the curve"):
        P256_MLKEM768.decapsulate(key, ciphertext[:1088] + b"\x04" + bytes(64))


def test_the_lattice_half_is_made_from_the_given_entropy() -> None:
    """Its seed is the 64 bytes drawn; the curve half comes from the operating system."""
    first, second = [P256_MLKEM768.generate(entropy("seed")) for _ in range(2)]

    assert first.public[:1184] == second.public[:1184]
    assert first.public[1184:] != second.public[1184:]

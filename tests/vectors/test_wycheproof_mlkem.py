"""Wycheproof: ML-KEM-768 as the hybrid mechanism uses it.

The expanded private keys of `mlkem_768_semi_expanded_decaps_test.json` (9 cases) are not read at all: the library and this project
know private keys as seeds of 64 bytes only, so nothing could be handed that file's keys.
"""

from __future__ import annotations

import os

from cryptography.hazmat.primitives.asymmetric import ec, mlkem

from shared.crypto.kdf import Label, derive
from shared.crypto.kem import P256, P256_MLKEM768, KemKey, load_mlkem_public
from shared.errors import InvalidElement
from tests.vectors.wycheproof import Case, select, wrong_verdicts

DECAPSULATE = "Protocol/wycheproof/mlkem_768_test.json"
ENCAPSULATE = "Protocol/wycheproof/mlkem_768_encaps_test.json"
GENERATE = "Protocol/wycheproof/mlkem_768_keygen_seed_test.json"

CURVE_KEY = P256.generate(os.urandom)
CURVE_CIPHERTEXT, CURVE_SECRET = P256.encapsulate(CURVE_KEY.public, os.urandom)


def decapsulates(case: Case) -> bool:
    """Put the case's key and ciphertext beside a curve half that is good, and let the hybrid decapsulate."""
    try:
        lattice = mlkem.MLKEM768PrivateKey.from_seed_bytes(case.hex("seed"))
    except ValueError:
        # `generate` always passes 64 bytes; what the library says to others is all that these cases can show.
        assert len(case.hex("seed")) != 64, case.id
        return False
    assert lattice.public_key().public_bytes_raw() == case.hex("ek"), case.id
    assert isinstance(CURVE_KEY.private, ec.EllipticCurvePrivateKey)
    key = KemKey((lattice, CURVE_KEY.private), case.hex("ek") + CURVE_KEY.public)
    try:
        secret = P256_MLKEM768.decapsulate(key, case.hex("c") + CURVE_CIPHERTEXT)
    except InvalidElement:
        return False
    expected = derive(
        Label.HYBRID_KEM,
        (case.hex("K"), CURVE_SECRET),
        (case.hex("c"), CURVE_CIPHERTEXT, case.hex("ek"), CURVE_KEY.public),
    )
    assert secret == expected, case.id
    return True


def test_decapsulation() -> None:
    """All 201 cases; changed ciphertexts give the secret of implicit rejection, wrong lengths of ciphertext or seed are refused."""
    cases = select(DECAPSULATE, 201)

    assert sum(case.result == "invalid" for case in cases) == 40
    assert wrong_verdicts(cases, decapsulates) == []


def accepts_public(case: Case) -> bool:
    """Encapsulate to the case's public key beside a good curve half."""
    try:
        load_mlkem_public(case.hex("ek"))
        ciphertext, _ = P256_MLKEM768.encapsulate(case.hex("ek") + CURVE_KEY.public, os.urandom)
    except InvalidElement:
        return False
    assert len(ciphertext) == P256_MLKEM768.ciphertext_size
    return True


def test_public_keys_for_encapsulation() -> None:
    """All 265 cases, as to whether the key is accepted.

    For the 133 valid ones the file also gives the ciphertext that a chosen 32-byte message leads to. The library draws that
    message itself and takes none, so that output cannot be compared; decapsulation, which encapsulates again inside, is compared above.
    """
    cases = select(ENCAPSULATE, 265)

    assert sum(case.result == "valid" for case in cases) == 133
    assert wrong_verdicts(cases, accepts_public) == []


def test_key_generation_from_a_seed() -> None:
    """All 100 cases through `generate`, whose entropy is the case's seed."""
    cases = select(GENERATE, 100)

    for case in cases:
        key = P256_MLKEM768.generate({64: case.hex("seed")}.__getitem__)
        assert key.public[:1184] == case.hex("ek"), case.id

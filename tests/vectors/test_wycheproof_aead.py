"""Wycheproof: AES-GCM through `Aead`."""

from __future__ import annotations

from shared.crypto.aead import Aead
from shared.errors import InvalidSeal
from tests.vectors.wycheproof import Case, LeftOut, select, wrong_verdicts

FILE = "Cipher/wycheproof/aes_gcm_test.json"
LEFT_OUT = (
    LeftOut(
        211, "keys of 128 and 192 bits: `Aead` takes 256 only", lambda case: case.number("keySize") != 256
    ),
    LeftOut(
        39,
        "nonces of other lengths than 96 bits: `Aead` makes the nonce from a counter and has no other way in",
        lambda case: case.number("keySize") == 256 and case.number("ivSize") != 96,
    ),
)


def opens(case: Case) -> bool:
    """Open the case's ciphertext both ways; where it opens, check plaintext and sealing as well."""
    aead, nonce, aad = Aead(case.hex("key")), case.hex("iv"), case.hex("aad")
    sealed = case.hex("ct") + case.hex("tag")
    counter = int.from_bytes(nonce, "big")
    try:
        plaintext = aead.open(counter, sealed, aad)
    except InvalidSeal:
        return False
    assert plaintext == case.hex("msg") == aead.open_random(nonce + sealed, aad), case.id
    assert aead.seal(counter, plaintext, aad) == sealed, case.id
    assert aead.seal_random(plaintext, aad, lambda size: nonce[:size]) == nonce + sealed, case.id
    return True


def test_aes_256_gcm() -> None:
    """Every case with our key and nonce length: 66 of 316."""
    cases = select(FILE, 316, *LEFT_OUT)

    assert len(cases) == 66
    assert {case.result for case in cases} == {"valid", "invalid"}
    assert wrong_verdicts(cases, opens) == []

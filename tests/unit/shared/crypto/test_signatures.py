"""Signatures: what they refuse, how nonces are made, and the forgeries that ElGamal's own equation admits."""

from __future__ import annotations

import hashlib
import os

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared.crypto.elgamal import EXPONENT_SIZE
from shared.crypto.groups import G, P, Q, encode_element
from shared.crypto.kdf import DIGEST_SIZE, Label, digest, frame
from shared.crypto.signatures import (
    ECDSA_P256,
    NONCE_SIZE,
    P256_ORDER,
    SCHNORR_FFDHE3072,
    SIGNERS,
    Algorithm,
    Signer,
    SigningKey,
    derive_nonce,
    fingerprint,
)
from shared.errors import InvalidElement, InvalidSignature, LocalError
from tests.crypto_tools import entropy

LABEL = Label.AUTH_SIGNATURE
BOTH = pytest.mark.parametrize("signer", SIGNERS.values(), ids=lambda signer: signer.algorithm.name)


@BOTH
def test_the_repr_of_a_key_does_not_show_its_private_part(signer: Signer) -> None:
    """Neither the exported bytes nor the number turn up."""
    key = signer.generate(entropy("repr"))
    exported = signer.export(key)

    assert "private" not in repr(key)
    assert exported.hex() not in repr(key).lower()
    assert str(int.from_bytes(exported, "big")) not in repr(key)


@BOTH
def test_a_key_comes_from_the_given_entropy_alone(signer: Signer) -> None:
    """The same bytes give the same key, other bytes another one."""
    keys = [signer.generate(entropy(seed)) for seed in ("one", "one", "two")]

    assert keys[0].public == keys[1].public != keys[2].public


@BOTH
def test_a_key_survives_export_and_load(signer: Signer) -> None:
    """The loaded key has the same public part and signs the same."""
    key = signer.generate(os.urandom)

    loaded = signer.load(signer.export(key))

    assert loaded.public == key.public
    assert loaded.algorithm == signer.algorithm
    assert signer.sign(loaded, LABEL, b"m") == signer.sign(key, LABEL, b"m")


@BOTH
def test_a_key_of_the_other_algorithm_is_our_error(signer: Signer) -> None:
    """A key never signs under an algorithm that it was not made for."""
    (other,) = [candidate for candidate in SIGNERS.values() if candidate is not signer]
    key = other.generate(os.urandom)

    with pytest.raises(LocalError, match=f"{other.algorithm.name} was given to {signer.algorithm.name}"):
        signer.sign(key, LABEL, b"m")
    with pytest.raises(LocalError, match="was given to"):
        signer.export(key)


@BOTH
def test_signing_without_entropy_is_deterministic(signer: Signer) -> None:
    """No entropy, no way for bad entropy to repeat a nonce."""
    key = signer.generate(os.urandom)

    assert signer.sign(key, LABEL, b"m") == signer.sign(key, LABEL, b"m")


@pytest.mark.parametrize(
    "data",
    [b"", bytes(31), bytes(32), bytes(33), P256_ORDER.to_bytes(32, "big"), b"\xff" * 32],
    ids=["empty", "short", "zero", "long", "order", "all-ones"],
)
def test_a_malformed_ecdsa_key_file_is_refused(data: bytes) -> None:
    """Wrong lengths, 0 and values from the group order on."""
    with pytest.raises(InvalidElement, match="between 1 and the group order"):
        ECDSA_P256.load(data)


@pytest.mark.parametrize("data", [b"", b"\xff" * 34, b"\xff" * 36, b"\x7f" + b"\xff" * 34], ids=len)
def test_a_malformed_schnorr_key_file_is_refused(data: bytes) -> None:
    """Wrong lengths and exponents shorter than 280 bits."""
    with pytest.raises(InvalidElement, match="35 bytes with the top bit set"):
        SCHNORR_FFDHE3072.load(data)


def test_an_ecdsa_scalar_outside_the_group_order_is_drawn_again() -> None:
    """Reducing it instead would favour small scalars."""
    draws = iter([b"\xff" * 32, bytes(32), (5).to_bytes(32, "big")])

    key = ECDSA_P256.generate(lambda _: next(draws))

    assert ECDSA_P256.export(key) == (5).to_bytes(32, "big")


def test_ecdsa_signs_with_the_nonces_of_rfc_6979() -> None:
    """Appendix A.2.5 of the RFC: P-256, SHA-256, message "sample"; here through the library object that `sign` uses."""
    scalar = bytes.fromhex("C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721")
    expected = bytes.fromhex(
        "EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716"
        "F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8"
    )
    key = ECDSA_P256.load(scalar)

    assert ECDSA_P256.sign_raw(key, b"sample") == expected
    ECDSA_P256.verify_raw(key.public, b"sample", expected)


def test_what_is_signed_is_the_framed_label_and_parts() -> None:
    """The raw form verifies over the frame, computed here."""
    key = ECDSA_P256.generate(os.urandom)
    signature = ECDSA_P256.sign(key, LABEL, b"a", b"bc")

    ECDSA_P256.verify_raw(key.public, frame(LABEL.value, b"a", b"bc"), signature)


@pytest.mark.parametrize(
    ("r", "s"),
    [(0, 1), (1, 0), (0, 0), (P256_ORDER, 1), (1, P256_ORDER), (2**256 - 1, 2**256 - 1)],
)
def test_ecdsa_refuses_r_and_s_out_of_range(r: int, s: int) -> None:
    """0 and everything from the group order on."""
    key = ECDSA_P256.generate(os.urandom)
    signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")

    with pytest.raises(InvalidSignature, match="does not verify"):
        ECDSA_P256.verify(key.public, LABEL, signature, b"m")


def test_ecdsa_public_keys_are_checked() -> None:
    """Compressed and off-curve keys are refused, before any signature is looked at."""
    private = ec.derive_private_key(7, ec.SECP256R1())
    compressed = private.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)

    for public in (compressed, b"\x04" + bytes(64), b""):
        with pytest.raises(InvalidElement):
            ECDSA_P256.check_public(public)
        with pytest.raises(InvalidElement):
            ECDSA_P256.verify(public, LABEL, bytes(64), b"m")


@pytest.mark.parametrize(
    "y", [0, 1, P - 1, P, P + 4, P - 4], ids=["0", "1", "p-1", "p", "p+4", "non-residue"]
)
def test_schnorr_public_keys_are_checked(y: int) -> None:
    """Out of range, trivial or outside the subgroup."""
    public = y.to_bytes(384, "big")

    with pytest.raises(InvalidElement):
        SCHNORR_FFDHE3072.check_public(public)
    with pytest.raises(InvalidElement):
        SCHNORR_FFDHE3072.verify(public, LABEL, bytes(116), b"m")


def test_under_the_key_one_anybody_could_sign() -> None:
    """Why y = 1 is refused: with it g^s · y^e = g^s, and s is free to choose. The equation holds, our check does not let it in."""
    public, message = encode_element(1), frame(LABEL.value, b"m")
    s = 12345
    e = digest(Label.SCHNORR_CHALLENGE, encode_element(pow(G, s, P)), public, message)
    forged = e + s.to_bytes(NONCE_SIZE, "big")

    assert schnorr_equation_holds(1, forged, message)
    with pytest.raises(InvalidElement):
        SCHNORR_FFDHE3072.verify(public, LABEL, forged, b"m")


def schnorr_equation_holds(y: int, signature: bytes, message: bytes) -> bool:
    """The bare verification equation, with Python's own power and no check of y."""
    e, s = int.from_bytes(signature[:DIGEST_SIZE], "big"), int.from_bytes(signature[DIGEST_SIZE:], "big")
    commitment = encode_element(pow(G, s, P) * pow(y, e, P) % P)
    return digest(Label.SCHNORR_CHALLENGE, commitment, encode_element(y), message) == signature[:DIGEST_SIZE]


def test_a_schnorr_signature_satisfies_the_equation() -> None:
    """Checked with plain powers; the forgery above used the same function."""
    key = SCHNORR_FFDHE3072.generate(os.urandom)
    signature = SCHNORR_FFDHE3072.sign(key, LABEL, b"m")

    assert schnorr_equation_holds(int.from_bytes(key.public, "big"), signature, frame(LABEL.value, b"m"))


def test_s_raised_by_the_group_order_has_no_encoding() -> None:
    """g^(s+q) = g^s, so a second valid s exists in the group; its size keeps it out."""
    key = SCHNORR_FFDHE3072.generate(os.urandom)
    signature = SCHNORR_FFDHE3072.sign(key, LABEL, b"m")
    s = int.from_bytes(signature[DIGEST_SIZE:], "big")
    raised = signature[:DIGEST_SIZE] + (s + Q).to_bytes(384, "big")

    assert schnorr_equation_holds(int.from_bytes(key.public, "big"), raised, frame(LABEL.value, b"m"))
    with pytest.raises(InvalidSignature, match="116 bytes, not 416"):
        SCHNORR_FFDHE3072.verify(key.public, LABEL, raised, b"m")


# ElGamal's own signature: positive controls on the textbook equation, then ours.


def textbook_verify(y: int, message: bytes, r: int, s: int) -> bool:
    """g^H(m) = y^r · r^s mod p with 0 < r < p, as every textbook has it."""
    h = int.from_bytes(hashlib.sha256(message).digest(), "big")
    return 0 < r < P and pow(G, h, P) == pow(y, r, P) * pow(r, s, P) % P


def forge_textbook(message: bytes) -> tuple[int, int]:
    """Sign without a key: r = q, s ≡ −h mod q and even. y^q = 1 for every public key, and q = −1/2, so q^s = 2^h."""
    h = int.from_bytes(hashlib.sha256(message).digest(), "big")
    s = -h % Q
    return Q, s if s % 2 == 0 else s + Q


def test_the_textbook_signature_is_universally_forgeable_over_this_group() -> None:
    """r = q works for every message under a key that the forger has never seen the private part of."""
    key = SCHNORR_FFDHE3072.generate(os.urandom)
    y = int.from_bytes(key.public, "big")

    for message in (b"give 10 mg", os.urandom(20)):
        assert textbook_verify(y, message, *forge_textbook(message))
    assert not textbook_verify(y, b"give 10 mg", *forge_textbook(b"give 100 mg"))


def test_the_forgery_has_no_counterpart_in_ours() -> None:
    """The commitment q is outside the subgroup, and as a challenge it does not verify in any writing of s."""
    key = SCHNORR_FFDHE3072.generate(os.urandom)
    message = frame(LABEL.value, b"give 10 mg")
    r, s = forge_textbook(message)
    e = digest(Label.SCHNORR_CHALLENGE, encode_element(r), key.public, message)

    with pytest.raises(InvalidElement, match="outside the subgroup"):
        SCHNORR_FFDHE3072.check_public(encode_element(r))
    for scalar in (s, s % Q, -s % Q, s % 2**672):
        with pytest.raises(InvalidSignature):
            SCHNORR_FFDHE3072.verify(key.public, LABEL, e + scalar.to_bytes(384, "big"), b"give 10 mg")
        short = (scalar % 2**672).to_bytes(NONCE_SIZE, "big")
        with pytest.raises(InvalidSignature, match="does not verify"):
            SCHNORR_FFDHE3072.verify(key.public, LABEL, e + short, b"give 10 mg")


# Nonces


def exponent_of(key: SigningKey) -> int:
    """Return the private exponent as a number."""
    return int.from_bytes(SCHNORR_FFDHE3072.export(key), "big")


def test_hedged_signatures_of_one_message_differ_and_both_verify() -> None:
    """Fresh entropy goes into the nonce; the deterministic one is a third."""
    key = SCHNORR_FFDHE3072.generate(os.urandom)
    signatures = {
        SCHNORR_FFDHE3072.sign(key, LABEL, b"m", random=os.urandom),
        SCHNORR_FFDHE3072.sign(key, LABEL, b"m", random=os.urandom),
        SCHNORR_FFDHE3072.sign(key, LABEL, b"m"),
    }

    assert len(signatures) == 3
    for signature in signatures:
        SCHNORR_FFDHE3072.verify(key.public, LABEL, signature, b"m")


def test_constant_entropy_does_not_repeat_a_nonce() -> None:
    """A broken source gives other nonces for other messages, labels and keys."""
    x, y = b"\x80" + bytes(34), b"\x81" + bytes(34)
    stuck = bytes(32)
    nonces = {
        derive_nonce(x, stuck, b"X", frame(LABEL.value, b"m")),
        derive_nonce(x, stuck, b"X", frame(LABEL.value, b"n")),
        derive_nonce(x, stuck, b"X", frame(Label.RESPONSE_SIGNATURE.value, b"m")),
        derive_nonce(y, stuck, b"Y", frame(LABEL.value, b"m")),
        derive_nonce(x, b"", b"X", frame(LABEL.value, b"m")),
    }

    assert len(nonces) == 5


def test_a_repeated_nonce_would_give_the_private_key_away() -> None:
    """Positive control for the two tests above, in the arithmetic of our signature."""
    key = SCHNORR_FFDHE3072.generate(os.urandom)
    x, k = exponent_of(key), 2**671 + 12345
    e1, e2 = 10**70 + 1, 10**70 + 7
    s1, s2 = k - e1 * x, k - e2 * x

    assert (s1 - s2) // (e2 - e1) == x


def test_a_nonce_shorter_than_the_challenge_would_give_the_private_key_away() -> None:
    """Positive control for the length: without reduction, −s/e is x up to k/e."""
    key = SCHNORR_FFDHE3072.generate(os.urandom)
    x, e = exponent_of(key), 2**255 + 99
    k = int.from_bytes(os.urandom(31), "big")

    assert -((k - e * x) // e) == x


def test_a_nonce_is_128_bits_longer_than_what_it_hides() -> None:
    """e has 256 bits and x 280; the nonce has 671 unknown bits, and one fixed on top that keeps s positive."""
    hidden = 8 * DIGEST_SIZE + 8 * EXPONENT_SIZE

    nonces = [
        int.from_bytes(derive_nonce(os.urandom(35), b"", b"y", os.urandom(8)), "big") for _ in range(200)
    ]

    assert hidden + 128 <= 8 * NONCE_SIZE - 1
    assert {nonce.bit_length() for nonce in nonces} == {672}
    # Every other bit is 0 in one nonce and 1 in another: 200 draws miss one with probability below 2⁻¹⁸⁹.
    assert all(len({nonce >> bit & 1 for nonce in nonces}) == 2 for bit in range(671))


def test_s_shows_nothing_of_the_private_key_in_its_top_bits() -> None:
    """The guess that works for a short nonce is off by 128 bits and more for every real signature."""
    key = SCHNORR_FFDHE3072.generate(os.urandom)
    signature = SCHNORR_FFDHE3072.sign(key, LABEL, b"m", random=os.urandom)
    e, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")

    assert abs(s // e - exponent_of(key)).bit_length() > 280 + 128


# Fingerprints


def test_a_fingerprint_is_base32_of_the_first_twenty_bytes() -> None:
    """32 characters, lowercase, no padding."""
    expected = digest(Label.FINGERPRINT, b"\1", b"public")[:20]
    text = fingerprint(Algorithm.ECDSA_P256, b"public")
    alphabet = "abcdefghijklmnopqrstuvwxyz234567"

    assert len(text) == 32
    assert sum(alphabet.index(c) << 5 * (31 - i) for i, c in enumerate(text)) == int.from_bytes(
        expected, "big"
    )


def test_the_algorithm_belongs_to_the_fingerprint() -> None:
    """The same bytes under another algorithm are another identity."""
    assert fingerprint(Algorithm.ECDSA_P256, b"x") != fingerprint(Algorithm.SCHNORR_FFDHE3072, b"x")

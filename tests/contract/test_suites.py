"""What every suite must do, run on every row of the registry."""

from __future__ import annotations

import os

import pytest

from shared.crypto.aead import Aead
from shared.crypto.kdf import Label
from shared.crypto.suites import SUITES, Suite
from shared.errors import CryptoError, InvalidElement, InvalidSeal, InvalidSignature
from tests.crypto_tools import flip_bit, flipped

SUITE = pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.name)
LABEL = Label.ENVELOPE_SIGNATURE


def sampled(data: bytes, suite: Suite, count: int) -> list[bytes]:
    """Return `data` with single bits changed: about `count` of them for the slow suite, ten times that for others."""
    wanted = count if suite.signer.public_size > 100 else 10 * count
    return list(flipped(data, step=max(1, 8 * len(data) // wanted) | 1))


@SUITE
def test_a_secret_is_shared(suite: Suite) -> None:
    """Encapsulate and decapsulate agree, and every encapsulation is fresh."""
    key = suite.kem.generate(os.urandom)

    first, first_secret = suite.kem.encapsulate(key.public, os.urandom)
    second, second_secret = suite.kem.encapsulate(key.public, os.urandom)

    assert suite.kem.decapsulate(key, first) == first_secret
    assert suite.kem.decapsulate(key, second) == second_secret
    assert first != second
    assert first_secret != second_secret


@SUITE
def test_sizes_are_what_the_registry_says(suite: Suite) -> None:
    """The wire format relies on them."""
    kem_key, signing_key = suite.kem.generate(os.urandom), suite.signer.generate(os.urandom)
    ciphertext, secret = suite.kem.encapsulate(kem_key.public, os.urandom)

    assert len(kem_key.public) == suite.kem.public_size
    assert len(ciphertext) == suite.kem.ciphertext_size
    assert len(secret) == 32
    assert len(signing_key.public) == suite.signer.public_size
    assert len(suite.signer.sign(signing_key, LABEL, b"m")) == suite.signer.signature_size


@SUITE
def test_the_padding_holds_key_and_signature(suite: Suite) -> None:
    """The largest handshake plaintext has a public key, a signature and about 200 bytes of fields."""
    assert suite.signer.public_size + suite.signer.signature_size + 300 <= suite.handshake_padding


@SUITE
def test_another_key_gives_another_secret(suite: Suite) -> None:
    """And what was sealed under the first does not open under it."""
    key, other = suite.kem.generate(os.urandom), suite.kem.generate(os.urandom)
    ciphertext, secret = suite.kem.encapsulate(key.public, os.urandom)
    sealed = Aead(secret).seal(0, b"text", b"")

    wrong = suite.kem.decapsulate(other, ciphertext)

    assert wrong != secret
    with pytest.raises(InvalidSeal):
        Aead(wrong).open(0, sealed, b"")


@SUITE
def test_a_changed_ciphertext_never_gives_the_secret(suite: Suite) -> None:
    """It is refused or gives another secret."""
    key = suite.kem.generate(os.urandom)
    ciphertext, secret = suite.kem.encapsulate(key.public, os.urandom)

    for changed in sampled(ciphertext, suite, 30):
        try:
            result = suite.kem.decapsulate(key, changed)
        except InvalidElement:
            continue
        assert result != secret


@SUITE
def test_a_changed_public_key_never_reaches_its_owner(suite: Suite) -> None:
    """It is refused, or the owner derives another secret."""
    key = suite.kem.generate(os.urandom)

    for changed in sampled(key.public, suite, 20):
        try:
            ciphertext, secret = suite.kem.encapsulate(changed, os.urandom)
        except InvalidElement:
            continue
        assert suite.kem.decapsulate(key, ciphertext) != secret


@SUITE
def test_wrong_lengths_are_refused(suite: Suite) -> None:
    """Public keys, ciphertexts and signatures have exactly one length."""
    kem_key, signing_key = suite.kem.generate(os.urandom), suite.signer.generate(os.urandom)
    ciphertext, _ = suite.kem.encapsulate(kem_key.public, os.urandom)
    signature = suite.signer.sign(signing_key, LABEL, b"m")

    for cut in (
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: b"",
        lambda data: b"\0" + data,
    ):
        with pytest.raises(InvalidElement):
            suite.kem.encapsulate(cut(kem_key.public), os.urandom)
        with pytest.raises(InvalidElement):
            suite.kem.decapsulate(kem_key, cut(ciphertext))
        with pytest.raises(InvalidElement):
            suite.signer.check_public(cut(signing_key.public))
        with pytest.raises(InvalidSignature):
            suite.signer.verify(signing_key.public, LABEL, cut(signature), b"m")


@SUITE
@pytest.mark.parametrize("fill", [0, 0xFF])
def test_constant_bytes_are_no_public_keys(suite: Suite, fill: int) -> None:
    """All zeros and all ones, for both kinds of key and for ciphertexts."""
    key = suite.kem.generate(os.urandom)

    with pytest.raises(InvalidElement):
        suite.kem.encapsulate(bytes([fill]) * suite.kem.public_size, os.urandom)
    with pytest.raises(InvalidElement):
        suite.kem.decapsulate(key, bytes([fill]) * suite.kem.ciphertext_size)
    with pytest.raises(InvalidElement):
        suite.signer.check_public(bytes([fill]) * suite.signer.public_size)


@SUITE
def test_a_signature_verifies(suite: Suite) -> None:
    """With and without fresh entropy; nothing is raised."""
    key = suite.signer.generate(os.urandom)

    suite.signer.check_public(key.public)
    suite.signer.verify(key.public, LABEL, suite.signer.sign(key, LABEL, b"a", b"b"), b"a", b"b")
    suite.signer.verify(key.public, LABEL, suite.signer.sign(key, LABEL, b"a", random=os.urandom), b"a")
    suite.signer.verify(key.public, LABEL, suite.signer.sign(key, LABEL))


@SUITE
def test_a_signature_is_for_one_key_label_and_list_of_parts(suite: Suite) -> None:
    """Any of them different: refused."""
    key, other = suite.signer.generate(os.urandom), suite.signer.generate(os.urandom)
    signature = suite.signer.sign(key, LABEL, b"a", b"bc")
    attempts: list[tuple[bytes, Label, tuple[bytes, ...]]] = [
        (other.public, LABEL, (b"a", b"bc")),
        (key.public, Label.PREKEY_SIGNATURE, (b"a", b"bc")),
        (key.public, LABEL, (b"a", b"bd")),
        (key.public, LABEL, (b"ab", b"c")),
        (key.public, LABEL, (b"abc",)),
        (key.public, LABEL, (b"a", b"bc", b"")),
        (key.public, LABEL, ()),
    ]

    for public, label, parts in attempts:
        with pytest.raises(InvalidSignature):
            suite.signer.verify(public, label, signature, *parts)


@SUITE
def test_every_changed_bit_of_a_signature_is_refused(suite: Suite) -> None:
    """Sampled for the slow suite."""
    key = suite.signer.generate(os.urandom)
    signature = suite.signer.sign(key, LABEL, b"m")

    for changed in sampled(signature, suite, 100):
        with pytest.raises(InvalidSignature):
            suite.signer.verify(key.public, LABEL, changed, b"m")


@SUITE
def test_a_changed_public_key_verifies_nothing(suite: Suite) -> None:
    """It is malformed, or another key."""
    key = suite.signer.generate(os.urandom)
    signature = suite.signer.sign(key, LABEL, b"m")

    for bit in (0, 7, 9, 8 * len(key.public) - 1):
        with pytest.raises(CryptoError):
            suite.signer.verify(flip_bit(key.public, bit), LABEL, signature, b"m")

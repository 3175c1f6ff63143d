"""Labels, framing, digests, MACs and key derivation."""

from __future__ import annotations

import hashlib
import hmac
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.crypto.kdf import Label, derive, digest, frame, hkdf_expand, hkdf_extract, mac, verify_mac
from shared.errors import InvalidSignature, LocalError
from tests.crypto_tools import flipped

PARTS = st.lists(st.binary(max_size=9), max_size=5)


def unframe(data: bytes) -> list[bytes]:
    """Read a frame back, as an independent statement of the format."""
    parts = []
    while data:
        size = int.from_bytes(data[:4], "big")
        parts.append(data[4 : 4 + size])
        data = data[4 + size :]
    return parts


def test_every_label_has_its_own_value() -> None:
    """No two members share a value: an enum would make the second a silent alias of the first."""
    assert len(Label.__members__) == len({label.value for label in Label})


def test_no_label_is_a_prefix_of_another() -> None:
    """A label followed by data never reads as a longer label."""
    clashes = [(a.name, b.name) for a, b in permutations(Label, 2) if b.value.startswith(a.value)]

    assert clashes == []


def test_every_label_names_project_and_version() -> None:
    """A later version of the protocol gets other keys from the same secrets."""
    assert [label.name for label in Label if not label.value.startswith(b"telemed-v1 ")] == []


@given(PARTS)
def test_a_frame_says_where_its_parts_end(parts: list[bytes]) -> None:
    """Framing can be undone, so two lists of parts never give the same bytes."""
    assert unframe(frame(*parts)) == parts


def test_frame_has_four_byte_big_endian_lengths() -> None:
    """The format, byte by byte."""
    assert frame(b"ab", b"", b"c" * 256) == b"\0\0\0\2ab" + b"\0\0\0\0" + b"\0\0\1\0" + b"c" * 256


def test_digest_is_sha256_of_the_framed_label_and_parts() -> None:
    """Computed anew with hashlib."""
    label = Label.TRANSCRIPT_1.value
    framed = len(label).to_bytes(4, "big") + label + b"\0\0\0\1a" + b"\0\0\0\2bc"

    assert digest(Label.TRANSCRIPT_1, b"a", b"bc") == hashlib.sha256(framed).digest()


def test_where_parts_end_matters_to_every_function() -> None:
    """Moving a byte from one part to the next changes digest, MAC and key."""
    assert digest(Label.BODY_HASH, b"a", b"bc") != digest(Label.BODY_HASH, b"ab", b"c")
    assert mac(Label.ENROLMENT_MAC, b"k", b"a", b"bc") != mac(Label.ENROLMENT_MAC, b"k", b"ab", b"c")
    assert derive(Label.KEY_1, (b"a", b"bc")) != derive(Label.KEY_1, (b"ab", b"c"))
    assert derive(Label.KEY_1, (b"i",), (b"a", b"bc")) != derive(Label.KEY_1, (b"i",), (b"ab", b"c"))


def test_every_label_gives_its_own_digest_mac_and_key() -> None:
    """The label separates all purposes, in all three functions."""
    count = len(Label)

    assert len({digest(label, b"x") for label in Label}) == count
    assert len({mac(label, b"k", b"x") for label in Label}) == count
    assert len({derive(label, (b"x",)) for label in Label}) == count


def test_derive_is_hkdf_over_framed_inputs() -> None:
    """Computed anew from RFC 5869 with hmac."""
    label = Label.MASTER.value
    prk = hmac.new(b"salt", b"\0\0\0\2s1" + b"\0\0\0\2s2", "sha256").digest()
    info = len(label).to_bytes(4, "big") + label + b"\0\0\0\2th"
    first = hmac.new(prk, info + b"\1", "sha256").digest()
    second = hmac.new(prk, first + info + b"\2", "sha256").digest()

    assert derive(Label.MASTER, (b"s1", b"s2"), (b"th",), salt=b"salt") == first
    assert derive(Label.MASTER, (b"s1", b"s2"), (b"th",), salt=b"salt", length=48) == first + second[:16]


def test_an_empty_salt_is_thirty_two_zero_bytes() -> None:
    """As RFC 5869 section 2.2 says."""
    assert hkdf_extract(b"", b"ikm") == hkdf_extract(bytes(32), b"ikm")


@pytest.mark.parametrize("length", [0, -1, 255 * 32 + 1])
def test_a_length_that_hkdf_cannot_give_is_our_error(length: int) -> None:
    """RFC 5869 allows 255 blocks, and a key of no bytes is a mistake."""
    with pytest.raises(LocalError, match="1 to 8160 bytes"):
        hkdf_expand(bytes(32), b"", length)


@pytest.mark.parametrize("length", [1, 31, 32, 33, 64, 255 * 32])
def test_a_shorter_output_is_the_beginning_of_a_longer_one(length: int) -> None:
    """Block boundaries are handled."""
    assert hkdf_expand(bytes(32), b"i", length) == hkdf_expand(bytes(32), b"i", 255 * 32)[:length]


def test_verify_mac_accepts_its_own_tag() -> None:
    """The positive case; None means accepted."""
    verify_mac(Label.CONFIRM_DOCTOR, b"k" * 32, mac(Label.CONFIRM_DOCTOR, b"k" * 32, b"a", b"b"), b"a", b"b")


def test_verify_mac_refuses_any_difference() -> None:
    """Another label, key, part, split or tag is refused."""
    tag = mac(Label.CONFIRM_DOCTOR, b"k" * 32, b"a", b"b")
    attempts: list[tuple[Label, bytes, bytes, tuple[bytes, ...]]] = [
        (Label.CONFIRM_PATIENT, b"k" * 32, tag, (b"a", b"b")),
        (Label.CONFIRM_DOCTOR, b"K" * 32, tag, (b"a", b"b")),
        (Label.CONFIRM_DOCTOR, b"k" * 32, tag, (b"a", b"c")),
        (Label.CONFIRM_DOCTOR, b"k" * 32, tag, (b"ab",)),
        (Label.CONFIRM_DOCTOR, b"k" * 32, tag[:-1], (b"a", b"b")),
        (Label.CONFIRM_DOCTOR, b"k" * 32, b"", (b"a", b"b")),
        *[(Label.CONFIRM_DOCTOR, b"k" * 32, changed, (b"a", b"b")) for changed in flipped(tag)],
    ]

    for label, key, wrong, parts in attempts:
        with pytest.raises(InvalidSignature, match="the MAC does not match"):
            verify_mac(label, key, wrong, *parts)

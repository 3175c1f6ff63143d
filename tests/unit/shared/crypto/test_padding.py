"""Padding: sizes, canonical form, refusals."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.crypto.padding import PREFIX_SIZE, pad, padme_length, unpad
from shared.errors import InvalidSeal, LocalError


def padme_by_the_paper(length: int) -> int:
    """Algorithm 1 of the PURBs paper, with its floating-point logarithms."""
    exponent = math.floor(math.log2(length))
    size = math.floor(math.log2(exponent)) + 1
    mask = (1 << (exponent - size)) - 1
    return (length + mask) & ~mask


@given(st.integers(min_value=256, max_value=1 << 24))
def test_padme_agrees_with_the_paper(length: int) -> None:
    """The integer form gives what the published algorithm gives."""
    assert padme_length(length) == padme_by_the_paper(length)


@given(st.integers(min_value=0, max_value=1 << 24))
def test_padme_adds_at_most_twelve_percent_and_is_stable(length: int) -> None:
    """Never shorter, never much longer, and a padded length pads to itself."""
    padded = padme_length(length)

    assert max(length, 256) <= padded <= max(length, 256) * 1.12
    assert padme_length(padded) == padded


def test_padme_leaves_few_lengths() -> None:
    """Of 64 KiB of possible lengths an observer can tell about a hundred apart."""
    assert len({padme_length(length) for length in range(65_536)}) < 160


@pytest.mark.parametrize("length", [0, 1, 2, 255, 256])
def test_short_texts_have_one_length(length: int) -> None:
    """Everything up to the minimum looks alike."""
    assert padme_length(length) == 256


def test_a_minimum_of_nothing_is_no_special_case() -> None:
    """The logarithm of 0 or 1 is never asked for."""
    assert [padme_length(length, minimum=0) for length in (0, 1, 2, 3, 9)] == [2, 2, 2, 3, 10]


@given(st.binary(max_size=300), st.integers(min_value=0, max_value=300))
def test_unpad_undoes_pad(plaintext: bytes, extra: int) -> None:
    """Round trip at every fill, the empty one included."""
    size = len(plaintext) + PREFIX_SIZE + extra

    padded = pad(plaintext, size)

    assert len(padded) == size
    assert unpad(padded) == plaintext


def test_a_text_that_does_not_fit_is_our_error() -> None:
    """One byte too many."""
    assert len(pad(b"x" * 508, 512)) == 512
    with pytest.raises(LocalError, match="do not fit into 512 bytes"):
        pad(b"x" * 509, 512)


@pytest.mark.parametrize("position", range(4 + 3, 16))
def test_anything_but_zeros_in_the_fill_is_refused(position: int) -> None:
    """There is one padded form of a text, not many."""
    padded = bytearray(pad(b"abc", 16))
    padded[position] = 1

    with pytest.raises(InvalidSeal, match="something other than zeros"):
        unpad(bytes(padded))


@pytest.mark.parametrize(
    "padded",
    [b"", b"\0", b"\0\0\0", b"\0\0\0\1", b"\0\0\0\4abc", b"\xff\xff\xff\xff" + bytes(12)],
    ids=["empty", "one-byte", "no-prefix", "one-missing", "three-of-four", "huge"],
)
def test_a_length_that_does_not_fit_is_refused(padded: bytes) -> None:
    """The length in front is checked before anything is cut."""
    with pytest.raises(InvalidSeal, match="shorter than the length in front"):
        unpad(padded)

"""A sealed value opens in its own cell under its own key, and nowhere else."""

from __future__ import annotations

import os

import pytest

from shared.errors import StorageError
from shared.storage.sealed import Sealer

KEY = bytes(range(32))


@pytest.mark.parametrize("plaintext", [b"", b"x", bytes(32 * 1024)])
def test_a_sealed_value_opens_in_its_cell(plaintext: bytes) -> None:
    """28 bytes longer: nonce and tag."""
    sealer = Sealer(KEY, os.urandom)
    sealed = sealer.seal("message", "body", b"\x01", plaintext)

    assert sealer.open("message", "body", b"\x01", sealed) == plaintext
    assert len(sealed) == len(plaintext) + 28


def test_the_same_value_is_never_sealed_alike() -> None:
    """The nonce is random, so equal bodies do not show."""
    sealer = Sealer(KEY, os.urandom)

    assert sealer.seal("t", "c", b"r", b"same") != sealer.seal("t", "c", b"r", b"same")


def test_the_nonce_is_what_the_entropy_gave() -> None:
    """12 bytes are asked for, once for each value, and stand in front."""
    asked: list[int] = []

    def entropy(size: int) -> bytes:
        asked.append(size)
        return bytes([len(asked)]) * size

    sealer = Sealer(KEY, entropy)

    assert [sealer.seal("t", "c", b"r", b"x")[:12] for _ in range(2)] == [b"\x01" * 12, b"\x02" * 12]
    assert asked == [12, 12]


@pytest.mark.parametrize(
    ("table", "column", "row"),
    [
        ("messagf", "body", b"\x01"),
        ("message", "bodz", b"\x01"),
        ("message", "body", b"\x02"),
        ("messageb", "ody", b"\x01"),
    ],
)
def test_a_value_moved_to_another_cell_does_not_open(table: str, column: str, row: bytes) -> None:
    """Neither does one whose cell reads the same when names and row are run together."""
    sealer = Sealer(KEY, os.urandom)
    sealed = sealer.seal("message", "body", b"\x01", b"secret")

    with pytest.raises(StorageError, match=rf"^{table}\.{column} of row {row.hex()} does not open"):
        sealer.open(table, column, row, sealed)


def test_a_value_does_not_open_under_another_key() -> None:
    """A database without its storage key gives nothing away."""
    sealed = Sealer(KEY, os.urandom).seal("message", "body", b"\x01", b"secret")

    with pytest.raises(StorageError, match="not its storage key"):
        Sealer(bytes(32), os.urandom).open("message", "body", b"\x01", sealed)


def test_no_changed_or_shortened_value_opens() -> None:
    """Every single bit, every length."""
    sealer = Sealer(KEY, os.urandom)
    sealed = sealer.seal("message", "body", b"\x01", b"secret")
    changed = [
        (int.from_bytes(sealed, "big") ^ 1 << bit).to_bytes(len(sealed), "big")
        for bit in range(8 * len(sealed))
    ]
    shortened = [sealed[:length] for length in range(len(sealed))]

    for value in changed + shortened:
        with pytest.raises(StorageError, match=r"message\.body of row 01 does not open"):
            sealer.open("message", "body", b"\x01", value)

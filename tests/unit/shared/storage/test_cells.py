"""What a cell means is read back or refused by name."""

from __future__ import annotations

import contextlib
from enum import Enum
from pathlib import Path

import msgspec
import pytest

from shared.errors import StorageError
from shared.storage import cells
from shared.storage.sqlite import open_database, open_reader


class Colour(Enum):
    """Two values."""

    RED = "red"
    BLUE = "blue"


def test_a_known_value_is_its_member() -> None:
    """Whatever the column is called."""
    assert cells.member(Colour, "blue", "things", "colour", 3) is Colour.BLUE


@pytest.mark.parametrize("value", ["green", "", 0, None, b"red"])
def test_another_value_is_damage_named_by_its_place(value: object) -> None:
    """Table, column, row, and what it could have been."""
    with pytest.raises(
        StorageError, match=r"things\.colour of row 3 is damaged: .* is none of 'red', 'blue'"
    ):
        cells.member(Colour, value, "things", "colour", 3)


class Pair(msgspec.Struct, forbid_unknown_fields=True):
    """A record."""

    left: int
    right: str


def test_a_record_is_read_back() -> None:
    """From a text, or from what was sealed."""
    for data in ('{"left": 1, "right": "b"}', b'{"left": 1, "right": "b"}'):
        assert cells.record(Pair, data, "things", "pair", 3) == Pair(1, "b")


@pytest.mark.parametrize(
    "data", [b"", b"{", b'{"left": 1}', b'{"left": "1", "right": ""}', b'{"left": 1, "right": "\xff"}']
)
def test_another_record_is_damage_or_another_releases(data: bytes) -> None:
    """Half of one, another shape, no text: named by its place."""
    with pytest.raises(StorageError, match=r"things\.pair of row 3 is damaged, or was written by another"):
        cells.record(Pair, data, "things", "pair", 3)


def test_a_text_that_is_no_utf_8_is_damage_for_writer_and_reader(tmp_path: Path) -> None:
    """SQLite keeps any bytes as a text; sqlite3's own error would pass for a bug of ours."""
    path = tmp_path / "some.db"
    with contextlib.closing(open_database(path, ["CREATE TABLE t (word TEXT) STRICT;"])) as writer:
        writer.execute("INSERT INTO t VALUES (CAST(x'6f6bff' AS TEXT))")
        with contextlib.closing(open_reader(path)) as reader:
            for connection in (writer, reader):
                with pytest.raises(StorageError, match="a text in the database is damaged"):
                    connection.execute("SELECT word FROM t").fetchone()


def test_a_schema_that_is_no_text_is_damage(tmp_path: Path) -> None:
    """SQLite quotes it in its complaint, and sqlite3 cannot read that quotation."""
    path = tmp_path / "some.db"
    open_database(path, ["CREATE TABLE wordy (word TEXT) STRICT;"]).close()
    content = path.read_bytes()
    path.write_bytes(content.replace(b") STRICT", b") ST\xd2ICT"))

    with pytest.raises(StorageError, match=r"some\.db: the database is damaged"):
        open_database(path, [])
    with pytest.raises(StorageError, match=r"some\.db: the database is damaged"):
        open_reader(path)

"""Cells of a database that hold one of a few values, a text or a record, read back as what they mean, or refused by name.

Law: a database whose pages are whole may still hold anything, after a damaged disk. What is read from a cell is never taken for granted.
"""

from __future__ import annotations

from enum import Enum
from typing import TypeVar

import msgspec

from shared.errors import StorageError

E = TypeVar("E", bound=Enum)
R = TypeVar("R", bound=msgspec.Struct)


def member(kind: type[E], value: object, table: str, column: str, row: object) -> E:
    """The member of `kind` with this value.

    Raises:
        StorageError: there is none; it names the table, the column and the row.
    """
    try:
        return kind(value)
    except ValueError as error:
        raise StorageError(
            f"{table}.{column} of row {row} is damaged: {value!r} is none of"
            f" {', '.join(repr(each.value) for each in kind)}; restore the database from a backup"
        ) from error


def record(kind: type[R], data: bytes | str, table: str, column: str, row: object) -> R:
    """The record that a cell holds as JSON.

    Raises:
        StorageError: it is none of this kind; it names the table, the column and the row.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StorageError(
            f"{table}.{column} of row {row} is damaged, or was written by another release ({error}); restore the database from a"
            " backup, or start the release that wrote it"
        ) from error


def text(data: bytes) -> str:
    """A text cell.

    Raises:
        StorageError: it is no UTF-8; it shows how the text begins.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        shown = data[:40].decode(errors="backslashreplace")
        raise StorageError(
            f"a text in the database is damaged, it begins with {shown!r}; restore the database from a backup"
        ) from error

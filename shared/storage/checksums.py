"""Rows that show damage: SQLite keeps no checksums of its own, and a flipped bit in a number or a name is still a number or a name.

Law: a table that wants it has a stored generated column `checksum`, made by `row_checksum` of the columns it covers; SQLite itself
computes it anew with every write, so no statement can forget it. Every connection that this package opens has the function,
and every database is verified when it is opened for writing. This finds accidents. It is no seal: who can write the file on purpose can
compute checksums; against that stand sealed cells, the signed audit log and the signatures in the messages themselves.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3

from shared.errors import StorageError

_COVERED = re.compile(r"checksum\s+BLOB\s+GENERATED\s+ALWAYS\s+AS\s+\(row_checksum\(([^)]*)\)\)", re.ASCII)


def row_checksum(*values: int | str | bytes | None) -> bytes:
    """Eight bytes that any change of these values changes, but for one time in 2^64."""
    # ascii() of a tuple of these types is one to one, and the same in every release of Python.
    return hashlib.blake2b(ascii(values).encode(), digest_size=8).digest()


def install(connection: sqlite3.Connection) -> None:
    """Give a connection the function; without it, a table that has the column can be read but not written."""
    connection.execute(
        "PRAGMA trusted_schema=ON"
    )  # else no function of ours may stand in a table's definition
    connection.create_function("row_checksum", -1, row_checksum, deterministic=True)


def verify(connection: sqlite3.Connection) -> None:
    """Compare every row that has a checksum with it.

    Raises:
        StorageError: names the table and the row of the first that differs.
    """
    tables = connection.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'table' ORDER BY name")
    for table, sql in tables.fetchall():
        found = _COVERED.search(sql or "")
        if found is None:
            continue
        columns = found.group(1)
        damaged = connection.execute(
            f"SELECT {columns} FROM {table} WHERE checksum IS NOT row_checksum({columns}) LIMIT 1"  # noqa: S608  our own schema
        ).fetchone()
        if damaged is not None:
            shown = ", ".join(repr(value)[:40] for value in damaged[:3])
            raise StorageError(
                f"a row of {table} is damaged, it begins with {shown}; restore the database from a backup"
            )

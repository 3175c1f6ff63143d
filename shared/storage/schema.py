"""The one forward-only path from an older schema to the newest.

Law: a migration is a SQL script in a list that only grows; the place in the list is the version, kept by
SQLite itself in `user_version`. There is no way back: an older program refuses a newer database, and the copy
that `shared.storage.sqlite` makes beforehand is what one returns to.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from shared.errors import StorageError


def pending(connection: sqlite3.Connection, migrations: Sequence[str]) -> range:
    """The indices of the migrations that this database has not had.

    Raises:
        StorageError: the database is newer than the program.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    newest = len(migrations)
    if version > newest:
        raise StorageError(
            f"the schema has version {version}, this program knows {newest}: a newer release wrote it; "
            "use that release, or restore the copy made before its upgrade"
        )
    return range(version, newest)


def has_tables(connection: sqlite3.Connection) -> bool:
    """Whether there is anything in the database that a failed migration could cost."""
    return connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone() is not None


def migrate(connection: sqlite3.Connection, migrations: Sequence[str], steps: range) -> None:
    """Apply the migrations with the given indices in order, each in one transaction.

    Raises:
        StorageError: a script failed, or left a row that refers to a missing one; the schema is then that of
            the last migration that succeeded.
    """
    # A script may rebuild a table that others refer to. That works only while foreign keys are not enforced,
    # and the setting cannot be changed inside a transaction; _apply checks every reference before it commits.
    connection.execute("PRAGMA foreign_keys=OFF")
    for step in steps:
        _apply(connection, step + 1, migrations[step])
    connection.execute("PRAGMA foreign_keys=ON")


def _apply(connection: sqlite3.Connection, version: int, script: str) -> None:
    try:
        connection.executescript(f"BEGIN IMMEDIATE;\n{script}\n;PRAGMA user_version={version};")
        broken = connection.execute("PRAGMA foreign_key_check").fetchone()
        if broken is not None:
            raise StorageError(f"row {broken[1]} of {broken[0]} refers to a missing row of {broken[2]}")
        connection.execute("COMMIT")
    except (sqlite3.Error, StorageError) as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise StorageError(f"the migration to schema version {version} failed: {error}") from error

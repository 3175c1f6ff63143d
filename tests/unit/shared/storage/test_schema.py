"""Migrations go forward only, each whole or not at all."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator

import pytest

from shared.errors import StorageError
from shared.storage.schema import has_tables, migrate, pending

FIRST = "CREATE TABLE ward (name TEXT PRIMARY KEY) STRICT; INSERT INTO ward VALUES ('icu');"
SECOND = "CREATE TABLE bed (number INTEGER PRIMARY KEY, ward TEXT NOT NULL REFERENCES ward) STRICT;"


@pytest.fixture(name="database")
def empty_database() -> Iterator[sqlite3.Connection]:
    """An empty database in memory, without implicit transactions."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        yield connection


def version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def test_all_migrations_run_once_and_in_order(database: sqlite3.Connection) -> None:
    """The second run finds nothing to do."""
    migrate(database, [FIRST, SECOND], pending(database, [FIRST, SECOND]))

    assert version(database) == 2
    assert has_tables(database)
    assert not pending(database, [FIRST, SECOND])


def test_only_what_is_missing_runs(database: sqlite3.Connection) -> None:
    """The first script would fail if it ran a second time."""
    migrate(database, [FIRST], pending(database, [FIRST]))

    assert pending(database, [FIRST, SECOND]) == range(1, 2)

    migrate(database, [FIRST, SECOND], range(1, 2))
    assert version(database) == 2


def test_an_empty_database_has_no_tables(database: sqlite3.Connection) -> None:
    """So there is nothing to copy before the first migration."""
    assert not has_tables(database)


def test_a_newer_schema_is_refused_with_what_to_do(database: sqlite3.Connection) -> None:
    """An older program does not guess at tables it does not know."""
    database.execute("PRAGMA user_version=3")

    with pytest.raises(
        StorageError, match="version 3, this program knows 1: a newer release wrote it; use that release"
    ):
        pending(database, [FIRST])


@pytest.mark.parametrize(
    "broken", ["INSERT INTO ward VALUES ('er'); NONSENSE;", "INSERT INTO ward VALUES ('icu');"]
)
def test_a_failed_migration_leaves_the_schema_before_it(database: sqlite3.Connection, broken: str) -> None:
    """Also what the failed script did before its error is gone; the ones before it stay."""
    with pytest.raises(StorageError, match="migration to schema version 3 failed: "):
        migrate(database, [FIRST, SECOND, broken], range(3))

    assert version(database) == 2
    assert database.execute("SELECT name FROM ward").fetchall() == [("icu",)]
    assert not database.in_transaction


def test_a_migration_that_cannot_begin_is_named(database: sqlite3.Connection) -> None:
    """A read-only database."""
    database.execute("PRAGMA query_only=ON")

    with pytest.raises(
        StorageError, match="migration to schema version 1 failed: attempt to write a readonly"
    ):
        migrate(database, [FIRST], range(1))


def test_a_migration_that_breaks_a_reference_is_undone(database: sqlite3.Connection) -> None:
    """References are checked before the commit, as they are not enforced while the script runs."""
    with pytest.raises(StorageError, match="row 7 of bed refers to a missing row of ward"):
        migrate(database, [FIRST, SECOND, "INSERT INTO bed VALUES (7, 'er');"], range(3))

    assert version(database) == 2


def test_a_table_that_others_refer_to_can_be_rebuilt(database: sqlite3.Connection) -> None:
    """What SQLite calls for to change a column; with references enforced, the DROP would take the beds' ward away."""
    rebuild = """
        INSERT INTO bed VALUES (7, 'icu');
        CREATE TABLE ward_new (name TEXT PRIMARY KEY, floor INTEGER) STRICT;
        INSERT INTO ward_new (name) SELECT name FROM ward;
        DROP TABLE ward;
        ALTER TABLE ward_new RENAME TO ward;
    """
    migrate(database, [FIRST, SECOND, rebuild], range(3))

    assert database.execute("SELECT name, floor FROM bed JOIN ward ON name = ward").fetchall() == [
        ("icu", None)
    ]
    assert database.execute("PRAGMA foreign_keys").fetchone() == (1,)

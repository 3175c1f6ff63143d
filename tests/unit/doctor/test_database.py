"""The schema: that it is made, kept, and holds its constraints."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from doctor.database import MIGRATIONS
from shared.errors import StorageError
from shared.storage.sqlite import open_database

TABLES = {
    "facts",
    "patients",
    "reports",
    "invitations",
    "groups",
    "streams",
    "memberships",
    "messages",
    "expired",
    "answers",
    "audit",
}

PATIENT = "INSERT INTO patients VALUES (?, 1, x'00', ?, ?, NULL, 0, 0)"


def test_migrations_make_every_table(db: sqlite3.Connection) -> None:
    """And say which version that is."""
    found = {row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}

    assert found == TABLES
    assert db.execute("PRAGMA user_version").fetchone()[0] == len(MIGRATIONS)


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    """What was stored is there, and no copy was made."""
    path = tmp_path / "doctor.db"
    with closing(open_database(path, MIGRATIONS)) as db:
        db.execute(PATIENT, ("anna", "f", "active"))

    with closing(open_database(path, MIGRATIONS)) as db:
        assert db.execute("SELECT patient_id FROM patients").fetchall() == [("anna",)]
    assert [each.name for each in tmp_path.iterdir() if "before" in each.name] == []


def test_a_later_schema_copies_the_database_first(tmp_path: Path) -> None:
    """What a coming version will rely on."""
    path = tmp_path / "doctor.db"
    open_database(path, MIGRATIONS).close()
    later = (*MIGRATIONS, "CREATE TABLE vitals (id BLOB PRIMARY KEY) STRICT;")

    open_database(path, later).close()

    assert (tmp_path / f"doctor.db.before-v{len(later)}").exists()
    with pytest.raises(StorageError):
        open_database(path, MIGRATIONS)  # an old program on a newer database


def test_a_database_of_the_first_version_is_brought_to_this_one(tmp_path: Path) -> None:
    """What it held is there, the new table is too, and a copy was made before."""
    path = tmp_path / "doctor.db"
    with closing(open_database(path, MIGRATIONS[:1])) as db:
        db.execute(PATIENT, ("anna", "f", "active"))

    with closing(open_database(path, MIGRATIONS)) as db:
        assert db.execute("SELECT patient_id FROM patients").fetchall() == [("anna",)]
        assert db.execute("SELECT count(*) FROM reports").fetchone() == (0,)
    assert (tmp_path / f"doctor.db.before-v{len(MIGRATIONS)}").exists()


def test_a_patient_from_before_gets_a_stream_of_its_own(tmp_path: Path) -> None:
    """Its membership begins before the first number. Who is retired gets it on coming back, who is revoked never."""
    path = tmp_path / "doctor.db"
    with closing(open_database(path, MIGRATIONS[:2])) as db:
        for name in ("active", "retired", "revoked"):
            db.execute(PATIENT, (name, name, name))

    with closing(open_database(path, MIGRATIONS)) as db:
        assert db.execute("SELECT stream, last FROM streams").fetchall() == [("patient:active", 0)]
        columns = "stream, patient_id, start, until, reason, delivered"
        assert db.execute(f"SELECT {columns} FROM memberships").fetchall() == [
            ("patient:active", "active", 0, None, None, 0)
        ]


def test_a_key_has_one_id(db: sqlite3.Connection) -> None:
    """The database itself refuses a second one, a tombstone's key included."""
    db.execute(PATIENT, ("anna", "same", "revoked"))

    with pytest.raises(sqlite3.IntegrityError, match=r"patients\.fingerprint"):
        db.execute(PATIENT, ("bert", "same", "active"))


def test_a_standing_is_one_of_three(db: sqlite3.Connection) -> None:
    """A typing error in the code must not pass for a tombstone."""
    with pytest.raises(sqlite3.IntegrityError, match="CHECK"):
        db.execute(PATIENT, ("anna", "f", "gone"))


def test_a_patient_has_one_current_membership_of_a_stream(db: sqlite3.Connection) -> None:
    """Past ones may be many."""
    db.execute(PATIENT, ("anna", "f", "active"))
    db.execute("INSERT INTO streams VALUES ('group:ward', 9)")
    insert = "INSERT INTO memberships VALUES ('group:ward', 'anna', ?, ?, ?, 0)"
    db.execute(insert, (1, 3, "removed"))
    db.execute(insert, (5, None, None))

    with pytest.raises(sqlite3.IntegrityError):
        db.execute(insert, (7, None, None))

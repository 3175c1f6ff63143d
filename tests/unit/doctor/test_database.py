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
    "thresholds",
    "alerts",
    "invitations",
    "groups",
    "streams",
    "memberships",
    "messages",
    "expired",
    "answers",
    "audit",
    "operators",
    "unconfirmed",
    "successors",
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


REBUILT = """
CREATE TABLE rebuilt (
    patient_id  TEXT PRIMARY KEY,
    algorithm   INTEGER NOT NULL,
    public_key  BLOB NOT NULL,
    fingerprint TEXT NOT NULL UNIQUE,
    standing    TEXT NOT NULL CHECK (standing IN ('active', 'retired', 'revoked', 'paused')),
    invitation  BLOB,
    enrolled_at INTEGER NOT NULL,
    last_seen   INTEGER NOT NULL,
    ward        TEXT NOT NULL,
    checksum BLOB GENERATED ALWAYS AS (row_checksum(patient_id, algorithm, public_key, fingerprint, standing, invitation, enrolled_at, last_seen, ward)) STORED
) STRICT;
INSERT INTO rebuilt (patient_id, algorithm, public_key, fingerprint, standing, invitation, enrolled_at, last_seen, ward)
    SELECT patient_id, algorithm, public_key, fingerprint, standing, invitation, enrolled_at, last_seen, 'ward-a' FROM patients;
DROP TABLE patients;
ALTER TABLE rebuilt RENAME TO patients;
"""  # what a coming version may do: a table that others refer to, with one column more, under a new checksum


def test_a_database_of_an_earlier_version_is_brought_to_a_later_one(tmp_path: Path) -> None:
    """What it held is there and refers to what it did; the present program refuses it, the copy from before it does not."""
    path = tmp_path / "doctor.db"
    with closing(open_database(path, MIGRATIONS)) as db:
        db.execute(PATIENT, ("anna", "f", "active"))
        db.execute("INSERT INTO streams VALUES ('patient:anna', 0)")
        db.execute("INSERT INTO memberships VALUES ('patient:anna', 'anna', 0, NULL, NULL, 0)")
    later = (*MIGRATIONS, REBUILT)

    for _ in range(2):  # at the second time every checksum is looked at
        with closing(open_database(path, later)) as db:
            assert db.execute("SELECT patient_id, ward FROM patients").fetchall() == [("anna", "ward-a")]
            with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
                db.execute("INSERT INTO memberships VALUES ('patient:anna', 'bert', 0, NULL, NULL, 0)")
    with pytest.raises(StorageError, match="a newer release wrote it"):
        open_database(path, MIGRATIONS)
    with closing(open_database(tmp_path / f"doctor.db.before-v{len(later)}", MIGRATIONS)) as db:
        assert db.execute("SELECT patient_id FROM patients").fetchall() == [("anna",)]


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

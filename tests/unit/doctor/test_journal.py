"""The journal of revocations: behind is completed, ahead is refused."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from doctor.journal import JOURNAL_FILE, Journal
from shared.errors import StorageError, UserError

NOW = 1_800_000_000_000


def patient(db: sqlite3.Connection, name: str, standing: str = "revoked") -> None:
    """A row of the roster."""
    db.execute("INSERT INTO patients VALUES (?, 1, x'00', ?, ?, NULL, 0, 0)", (name, name, standing))


def lines(directory: Path) -> list[bytes]:
    """The journal's lines."""
    return (directory / JOURNAL_FILE).read_bytes().splitlines()


def test_a_journal_that_agrees_is_left_alone(db: sqlite3.Connection, tmp_path: Path) -> None:
    """Whatever the others' standing."""
    journal = Journal(tmp_path)
    journal.append("anna", NOW)
    patient(db, "anna")
    patient(db, "bert", "active")
    patient(db, "carl", "retired")

    journal.reconcile(db, NOW)

    assert len(lines(tmp_path)) == 1


def test_a_journal_that_is_behind_is_completed(db: sqlite3.Connection, tmp_path: Path) -> None:
    """A crash between the commit and the journal; once is enough."""
    patient(db, "anna")
    patient(db, "bert")
    journal = Journal(tmp_path)

    journal.reconcile(db, NOW)
    journal.reconcile(db, NOW)

    assert [b'"anna"' in line for line in lines(tmp_path)] == [True, False]
    assert len(lines(tmp_path)) == 2


def test_a_journal_that_is_ahead_stops_the_doctor(db: sqlite3.Connection, tmp_path: Path) -> None:
    """The database is an old copy, in which a revoked patient is still welcome."""
    patient(db, "anna", "active")
    journal = Journal(tmp_path)
    journal.append("anna", NOW)

    with pytest.raises(UserError, match=r"old copy: anna was revoked .*newest database back"):
        journal.reconcile(db, NOW)


def test_a_torn_line_is_written_again_whole(db: sqlite3.Connection, tmp_path: Path) -> None:
    """And the doctor starts on it ever after."""
    patient(db, "anna")
    patient(db, "bert")
    journal = Journal(tmp_path)
    journal.append("anna", NOW)
    path = tmp_path / JOURNAL_FILE
    path.write_bytes(path.read_bytes() + b'{"time":18000')

    journal.reconcile(db, NOW)
    journal.append("carl", NOW)
    patient(db, "carl")
    journal.reconcile(db, NOW)

    assert len(lines(tmp_path)) == 3


@pytest.mark.parametrize(
    "line", [b'{"time":"never","revoked":3}', b'{"time":1,"revoked":"\xff"}'], ids=["other types", "no UTF-8"]
)
def test_a_damaged_journal_is_named(db: sqlite3.Connection, tmp_path: Path, line: bytes) -> None:
    """A whole line that says nothing is not what a crash leaves."""
    (tmp_path / JOURNAL_FILE).write_bytes(line + b"\n")

    with pytest.raises(StorageError, match=f"{JOURNAL_FILE} is damaged"):
        Journal(tmp_path).reconcile(db, NOW)


def test_a_damaged_end_of_a_line_is_damage(db: sqlite3.Connection, tmp_path: Path) -> None:
    """Cutting a line's end in the middle of the file must not hide a revocation."""
    journal = Journal(tmp_path)
    journal.append("anna", NOW)
    path = tmp_path / JOURNAL_FILE
    path.write_bytes(path.read_bytes().replace(b"}", b" ") + path.read_bytes())

    with pytest.raises(StorageError, match="is damaged"):
        journal.reconcile(db, NOW)


def test_a_journal_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """`revoke` then does not return success."""
    with pytest.raises(StorageError, match="cannot be written"):
        Journal(tmp_path / "missing").append("anna", NOW)

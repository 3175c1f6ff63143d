"""A log that is damaged in the middle is told from one that a crash has cut."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from shared.errors import StorageError
from shared.storage import wal
from shared.storage.sqlite import open_database

MIGRATIONS = ["CREATE TABLE t (n INTEGER PRIMARY KEY, b BLOB) STRICT;"]
FRAME = 24 + 4096
COMMITS = 6


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database whose program was killed: its transactions are in the log, the last of them of four frames and more."""
    source = tmp_path_factory.mktemp("running") / "some.db"
    target = tmp_path_factory.mktemp("killed") / "some.db"
    with contextlib.closing(open_database(source, MIGRATIONS)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        for number in range(COMMITS):
            size = 16_000 if number == COMMITS - 1 else 100
            db.execute("INSERT INTO t VALUES (?, randomblob(?))", (number, size))
        for end in ("", "-wal"):
            shutil.copy(f"{source}{end}", f"{target}{end}")
    return target


def copy_of(killed: Path, directory: Path, log: bytes) -> Path:
    """The same database with another log."""
    path = directory / "some.db"
    shutil.copy(killed, path)
    path.with_name("some.db-wal").write_bytes(log)
    return path


def log_of(killed: Path) -> bytes:
    return killed.with_name("some.db-wal").read_bytes()


def rows(path: Path) -> int:
    with contextlib.closing(open_database(path, MIGRATIONS)) as db:
        return int(db.execute("SELECT count(*) FROM t").fetchone()[0])


def flipped(log: bytes, at: int) -> bytes:
    return log[:at] + bytes([log[at] ^ 1]) + log[at + 1 :]


def test_a_whole_log_is_whole(killed: Path, tmp_path: Path) -> None:
    """Nothing is lost by looking."""
    assert wal.first_bad(log_of(killed)) is None
    assert rows(copy_of(killed, tmp_path, log_of(killed))) == COMMITS


@pytest.mark.parametrize("within", [1, 5, 9, 14, 17, 21, 24, 2000, FRAME - 1])
def test_a_flip_before_the_last_transaction_is_named(killed: Path, tmp_path: Path, within: int) -> None:
    """In a frame's number, its size, its salts, its checksums, its page: SQLite alone would forget all behind it."""
    log = flipped(log_of(killed), 32 + FRAME + within)
    path = copy_of(killed, tmp_path, log)

    assert wal.first_bad(log) == 2
    with pytest.raises(StorageError, match=r"some\.db-wal is damaged at frame 2, .* restore the database"):
        open_database(path, MIGRATIONS)
    with contextlib.closing(sqlite3.connect(path)) as db:  # what SQLite alone makes of it
        assert db.execute("SELECT count(*) FROM t").fetchone()[0] < COMMITS - 1


@pytest.mark.parametrize("at", [0, 9, 16, 25])
def test_a_flip_in_the_logs_header_is_named(killed: Path, at: int) -> None:
    """It would undo everything in the log."""
    assert wal.first_bad(flipped(log_of(killed), at)) == 0


def test_a_log_that_a_crash_has_cut_is_no_damage(killed: Path, tmp_path: Path) -> None:
    """At the end of any frame and in the middle of it; what was committed before is there."""
    log = log_of(killed)
    for cut in (0, 5, 31, 32, *range(32 + 12, len(log), FRAME // 2)):
        assert wal.first_bad(log[:cut]) is None
    assert rows(copy_of(killed, tmp_path, log[:-100])) == COMMITS - 1


def test_a_hole_in_the_last_transaction_is_no_damage(killed: Path) -> None:
    """A power loss may have left out any of its frames: it was not on the disk yet when that happened."""
    log = log_of(killed)
    at = len(log) - 3 * FRAME

    assert wal.first_bad(log[:at] + bytes(FRAME) + log[at + FRAME :]) is None


def test_frames_of_an_earlier_round_of_the_log_are_no_damage(tmp_path: Path) -> None:
    """After a checkpoint SQLite begins at the front again, and the old frames stand behind the new ones."""
    path = tmp_path / "some.db"
    with contextlib.closing(open_database(path, MIGRATIONS)) as db:
        for number in range(10):
            db.execute("INSERT INTO t VALUES (?, randomblob(3000))", (number,))
        db.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        db.execute("INSERT INTO t VALUES (99, x'')")
        log = path.with_name("some.db-wal").read_bytes()

    assert len(log) > 10 * FRAME
    assert wal.first_bad(log) is None


def test_a_log_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Here: because it is a directory."""
    (tmp_path / "some.db-wal").mkdir()

    with pytest.raises(StorageError, match=r"some\.db-wal cannot be read"):
        wal.require_whole(tmp_path / "some.db")

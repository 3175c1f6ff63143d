"""A database that several programs open at once is made once, and none of them fails."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from shared.errors import StorageError
from shared.storage.sqlite import open_database, open_reader
from shared.storage.taking_turns import one_at_a_time

TABLE = "CREATE TABLE ward (name TEXT) STRICT; INSERT INTO ward VALUES ('icu');"


def test_eight_that_make_a_database_at_once_make_it_once(tmp_path: Path) -> None:
    """Without turns some would find it locked, read-only or with tables already."""

    def make(path: Path) -> None:
        open_database(path, [TABLE]).close()

    for attempt in range(10):
        path = tmp_path / f"{attempt}.db"
        with ThreadPoolExecutor(8) as pool:
            for made in [pool.submit(make, path) for _ in range(8)]:
                made.result()
        with closing(open_reader(path)) as reader:
            assert reader.execute("SELECT name FROM ward").fetchall() == [("icu",)]


def test_a_turn_ends_with_its_holder(tmp_path: Path) -> None:
    """A program that is killed in the middle of its turn does not hold up the others, and leaves no file behind."""
    program = (
        "import os, sys; from pathlib import Path; from shared.storage.taking_turns import one_at_a_time\n"
        "with one_at_a_time(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    path = tmp_path / "x.db"
    killed = subprocess.run(
        [sys.executable, "-c", program, str(path)], cwd=Path(__file__).parents[4], check=False
    )

    with one_at_a_time(path):
        assert killed.returncode == -9
        assert list(tmp_path.iterdir()) == []


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    """There is nothing to take turns in."""
    with (
        pytest.raises(StorageError, match=r"missing/x\.db cannot be opened: No such file"),
        one_at_a_time(tmp_path / "missing" / "x.db"),
    ):
        pass

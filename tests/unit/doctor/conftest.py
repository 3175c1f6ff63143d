"""Fixtures of the doctor's tests. The bench itself is `tests.doctor_bench`."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from doctor import fanout
from tests.doctor_bench import LOG, Books, LogBook, database


@pytest.fixture(autouse=True)
def log() -> LogBook:
    """The doctor's log, strict and empty."""
    LOG.open()
    return LOG


@pytest.fixture(autouse=True)
def short_join_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that joins need not be waited for so long; a test of the window itself sets its own."""
    monkeypatch.setattr(fanout, "JOIN_WINDOW", 0.01)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """An empty doctor's database."""
    with database(tmp_path) as connection:
        yield connection


@pytest.fixture
def books(db: sqlite3.Connection, tmp_path: Path) -> Books:
    """The doctor's books without a gateway."""
    return Books(db, tmp_path)


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory whose name leaves room for a Unix socket's path of at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="td") as name:
        yield Path(name)

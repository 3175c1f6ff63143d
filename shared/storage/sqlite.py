"""The only place that opens a database: how it is opened, migrated, read and copied.

Law: stands alone; knows no message, patient or key. Every database is opened with the same durable settings,
which are read back, because a promise that rests on `synchronous=FULL` is worth nothing if the setting did
not take. Writes go through the one `writer.Writer`; reads take a connection from `open_reader`.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from shared.errors import StorageError
from shared.storage import cells, checksums, schema, wal
from shared.storage.group_commit import advice
from shared.storage.keyfile import require_private_file, sync_directory
from shared.storage.taking_turns import one_at_a_time

_BUSY_TIMEOUT_S = 5.0
_ONCE_CACHE_KIB = 128
# name, value to set, value read back
_DURABLE = (
    ("journal_mode", "WAL", "wal"),
    ("synchronous", "FULL", 2),
    ("secure_delete", "ON", 1),
    ("foreign_keys", "ON", 1),
)


def open_database(path: Path, migrations: Sequence[str]) -> sqlite3.Connection:
    """Open or create the database for writing, check it, and bring it to the newest schema.

    WAL with synchronous=FULL: what is committed survives a kill and a power loss. The connection has no
    implicit transactions (`isolation_level=None`).

    Args:
        path: the file; created with mode 0600. Its directory must exist.
        migrations: `migrations[i]` is the SQL script that brings schema version i to i + 1; only ever
            appended to. Each runs in one transaction. Before the first one the existing database is copied to
            `<name>.before-v<N>`, N being the version to come.

    Raises:
        UserError: the file's mode, owner or kind is refused; says what to run.
        StorageError: it cannot be created or opened, is damaged, has a newer schema, or a migration failed
            (the schema is then that of the last migration that succeeded).
    """
    with one_at_a_time(path):
        _create_private(path)
        require_private_file(path)
        with _naming(path):
            wal.require_whole(path)  # before SQLite forgets what is behind a damage in it
            return _open_for_writing(path, migrations)


def _open_for_writing(path: Path, migrations: Sequence[str]) -> sqlite3.Connection:
    connection = _connect(path)
    try:
        _check(connection)
        _set_durable(connection)
        pending = schema.pending(connection, migrations)
        if pending and schema.has_tables(connection):
            _copy(connection, path.with_name(f"{path.name}.before-v{len(migrations)}"))
        schema.migrate(connection, migrations, pending)
        checksums.verify(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path, once: bool = False) -> sqlite3.Connection:
    """A connection that reads what is committed, beside the writer, and refuses every write.

    The caller closes it, and uses it on the thread that opened it.

    Args:
        once: it goes through much, once. SQLite would keep 2 MiB of pages that nobody asks for again, and the thread that many.

    Raises:
        UserError: the file's mode, owner or kind is refused.
        StorageError: it does not exist or cannot be opened.
    """
    require_private_file(path)
    with one_at_a_time(path), _naming(path):
        connection = _connect(path)
        try:
            connection.execute("PRAGMA query_only=ON")
            if once:
                connection.execute(f"PRAGMA cache_size=-{_ONCE_CACHE_KIB}")
            connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchone()  # is it a database at all?
        except sqlite3.Error:
            connection.close()
            raise
    return connection


def back_up(path: Path, target: Path) -> None:
    """Copy what is committed now into a new file, beside whoever reads and writes, whole, checked and synced.

    The copy is one file that needs no log beside it. Blocks: call it from a thread of its own.

    Raises:
        StorageError: `target` exists, the disk refused, or the copy does not pass SQLite's own check; then there is no copy.
    """
    with contextlib.closing(open_reader(path)) as connection, _naming(target):
        _create_new(target)
        try:
            _copy_into(connection, target, check=True)
        except BaseException:
            target.unlink(missing_ok=True)  # a full disk must not stay full because of us
            raise


def checkpoint(path: Path) -> bool:
    """Move the log into the database file and empty it, so that erased rows leave the disk.

    May wait for readers and the writer: call it from a thread of its own. False: a reader held it back.

    Raises:
        StorageError: the disk refused.
    """
    with _naming(path), contextlib.closing(_connect(path)) as connection:
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        return not busy


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn errors of the database and the file system into a StorageError that names the file."""
    try:
        yield
    except UnicodeDecodeError as error:  # SQLite quotes a damaged name in its message
        raise StorageError(f"{path}: the database is damaged; restore it from a backup") from error
    except (sqlite3.Error, OSError, StorageError) as error:
        raise StorageError(f"{path}: {error}{advice(error)}") from error


def _create_private(path: Path) -> None:
    """Create the empty file ourselves: SQLite would use the umask; it copies this mode to its log files."""
    try:
        _create_new(path)
    except FileExistsError:
        return
    except OSError as error:
        raise StorageError(f"{path} cannot be created: {error.strerror}") from error


def _create_new(path: Path) -> None:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    sync_directory(path.parent)


def _connect(path: Path) -> sqlite3.Connection:
    # mode=rw: a file that vanished meanwhile is an error, not a new empty database.
    uri = f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
    connection.text_factory = cells.text
    checksums.install(connection)
    return connection


def _check(connection: sqlite3.Connection) -> None:
    found = [row[0] for row in connection.execute("PRAGMA integrity_check(1)")]
    if found != ["ok"]:
        raise StorageError(
            f"the database is damaged ({' '.join(found[0].split())}); restore it from a backup"
        )


def _set_durable(connection: sqlite3.Connection) -> None:
    for name, value, expected in _DURABLE:
        connection.execute(f"PRAGMA {name}={value}")
        (found,) = connection.execute(f"PRAGMA {name}").fetchone()
        if found != expected:
            raise StorageError(
                f"{name} stays {found!r} instead of {value}; use a local file system that supports it"
            )


def _copy(connection: sqlite3.Connection, target: Path) -> None:
    """Copy the open database, whole or not at all: under another name first, synced, then renamed."""
    unfinished = target.with_name(f"{target.name}.partial")
    unfinished.unlink(missing_ok=True)
    _create_private(unfinished)
    try:
        _copy_into(connection, unfinished)
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)  # a full disk must not stay full because of us
    sync_directory(target.parent)


def _copy_into(connection: sqlite3.Connection, empty: Path, check: bool = False) -> None:
    with contextlib.closing(_connect(empty)) as copy:
        connection.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")  # one file, readable without its log
        if check:
            _check(copy)
    with empty.open("rb") as file:
        os.fsync(file.fileno())

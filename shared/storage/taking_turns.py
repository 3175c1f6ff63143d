"""Programs that open a database take turns.

Two that make the same one at once would fail: SQLite does not wait where it changes the journal's mode, and the second would find
the tables of the first where it had found none a moment ago.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from shared.errors import StorageError


@contextlib.contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """While `path` is being opened, nobody else opens a database in the same directory, in this program or another.

    It is the directory that is locked, so that no file is left behind; the kernel drops the lock of a program that dies.

    Raises:
        StorageError: there is no such directory.
    """
    try:
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise StorageError(f"{path} cannot be opened: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

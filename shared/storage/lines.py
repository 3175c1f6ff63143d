"""Files that only grow, by whole lines that are on the disk when a call returns.

Law: the only place that appends to a file. What a crash has left of a line without its end was promised to nobody: it is not
read, and it makes room for the next one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from shared.errors import StorageError
from shared.storage.keyfile import sync_directory


def append_line(path: Path, line: bytes) -> None:
    """Append one line; raises as `append_lines`."""
    append_lines(path, [line])


def append_lines(path: Path, lines: Sequence[bytes]) -> None:
    """Append lines (at least one, none with a line's end in it) and make them durable; a new file has mode 0600.

    Raises:
        StorageError: the file cannot be written, or not whole. Then some of the lines may stand there all the same.
    """
    data = b"".join(line + b"\n" for line in lines)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _drop_torn_line(descriptor)
            written = os.write(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_directory(path.parent)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}") from error
    if written < len(data):
        raise StorageError(f"{path} cannot be written: the volume took {written} of {len(data)} bytes")


def _drop_torn_line(descriptor: int) -> None:
    """Nobody was told that a line without its end was written; left there, it would spoil the next one."""
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        os.ftruncate(descriptor, os.pread(descriptor, size, 0).rfind(b"\n") + 1)


def read_lines(path: Path, last_bytes: int | None = None) -> list[bytes]:
    """The whole lines of a file, or those of its last bytes; none where there is no file.

    Raises:
        StorageError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            if last_bytes is None or (before := path.stat().st_size - last_bytes) <= 0:
                return file.read().split(b"\n")[:-1]
            file.seek(before)
            return file.read().split(b"\n")[1:-1]  # the first of them is cut
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}") from error

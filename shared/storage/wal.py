"""Damage in the middle of a write-ahead log, which SQLite would take for its end.

After a crash SQLite reads its log up to the first frame whose checksum is wrong, and takes the rest for what the crash had left unfinished. A
flipped bit in the middle therefore undoes, without a word, every transaction behind it. But a frame's checksum continues the one
that stands in the frame before it, so the frames behind a bad one can be judged all the same. Where a whole one follows a later commit,
another transaction was begun, which with synchronous=FULL means that the broken one was safely on the disk before.

Law: only reads, and knows the format alone (https://www.sqlite.org/fileformat2.html#walformat). Of the last transaction nobody can
tell whether a crash or a damage broke it: a power loss may have left any of its frames out.
"""

from __future__ import annotations

import struct
from pathlib import Path

from shared.errors import StorageError

_HEADER = struct.Struct(">8I")  # magic, version, page size, checkpoint, two salts, two checksums
_FRAME = struct.Struct(">6I")  # page, size of the database after a commit or 0, two salts, two checksums
_MAGIC = {0x377F0682: "<", 0x377F0683: ">"}  # the order of bytes in which checksums are computed

_Sum = tuple[int, int]


def require_whole(database: Path) -> None:
    """Refuse a database whose log is damaged before its end. No log, or an empty one, is whole.

    Raises:
        StorageError: names the log and its first bad frame, and says what to do; or it cannot be read.
    """
    path = database.with_name(f"{database.name}-wal")
    try:
        log = path.read_bytes()
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}") from error
    bad = first_bad(log)
    if bad is not None:
        raise StorageError(
            f"{path} is damaged at frame {bad}, and what was stored behind that is not readable; restore the database from a"
            " backup, or move that file away to go on with what was stored before it"
        )


def first_bad(log: bytes) -> int | None:
    """The first damaged frame, counted from 1, that has a later transaction behind it; 0: the log's header; None: there is none."""
    if len(log) <= _HEADER.size:
        return None
    magic, _, page, _, salt_1, salt_2, *stored = _HEADER.unpack_from(log)
    order = _MAGIC.get(magic)
    # The header is on the disk before the first frame is written.
    if order is None or _sum(order, log[: _HEADER.size - 8], (0, 0)) != tuple(stored):
        return 0 if len(log) > _HEADER.size + _FRAME.size else None
    before, bad, committed = (stored[0], stored[1]), None, False
    size = _FRAME.size + page
    for number, at in enumerate(range(_HEADER.size, len(log) - size + 1, size), start=1):
        frame = _FRAME.unpack_from(log, at)
        covered = log[at : at + 8] + log[at + _FRAME.size : at + size]
        is_whole = frame[2:4] == (salt_1, salt_2) and _sum(order, covered, before) == frame[4:6]
        if is_whole and committed:
            return bad
        if not is_whole and bad is None:
            bad = number
        committed = committed or (bad is not None and frame[2:4] == (salt_1, salt_2) and frame[1] > 0)
        before = (frame[4], frame[5])
    return None


def _sum(order: str, data: bytes, seed: _Sum) -> _Sum:
    first, second = seed
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for one, other in zip(words[::2], words[1::2], strict=True):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return first, second

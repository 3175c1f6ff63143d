"""The heads file stays bounded: of old heads the last one of each day is kept, and whatever belongs to a restore.

Law: nothing is taken out of a file that does not stand as it was written; what somebody did to it must not be lost with it. The line that is
added vouches for those that were left, so that none of them can be taken out or moved later, nor the line itself: without it
they are out of their places. A later head contradicts a changed entry as an earlier one does, and names it less exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import msgspec

from doctor import heads
from doctor.heads import HEADS_FILE, Head
from shared.crypto.signatures import SigningKey
from shared.errors import StorageError
from shared.protocol.envelopes import FormerKey
from shared.storage.keyfile import write_private

NEWEST = 1000  # heads that are kept in any case: three hours of a log that never rests

_DAY = 24 * 3600 * 1000


def is_due(newest: Head) -> bool:
    """Whether so many lines were written since the last time."""
    return newest.place % NEWEST == 0


def thin(
    directory: Path, key: SigningKey, now: int, newest: int = NEWEST, former: Sequence[FormerKey] = ()
) -> Head:
    """Take out what is not worth keeping, in one step; returns the line that vouches for the rest.

    For a thread of its own: every line is verified. A head that is appended meanwhile is lost, as by a crash.

    Raises:
        StorageError: the file cannot be read or written, or does not stand as the doctor wrote it. It is what it was.
    """
    path, lines = directory / HEADS_FILE, heads.read(directory)
    is_ours = heads.verifier(key.public, key.algorithm, former)
    if not lines or heads.out_of_place(lines) is not None or not all(map(is_ours, lines)):
        raise StorageError(f"{path} is left as it is: not all of it is as the doctor wrote it")
    kept, last = [lines[at] for at in _worth_keeping(lines, newest)], lines[-1]
    line = Head(last.sequence, last.hash, now, "", place=last.place + 1, kept=heads.digest(kept))
    signed = heads.sign(line, key)
    write_private(path, b"".join(msgspec.json.encode(head) + b"\n" for head in (*kept, signed)))
    return signed


def _worth_keeping(lines: list[Head], newest: int) -> list[int]:
    """The places of the newest lines, the last of each day, the lines of restores, and the end of each log that one of them voids."""
    old = [
        at
        for at, (head, after) in enumerate(pairwise(lines))
        if head.base is not None or after.base is not None or head.time // _DAY != after.time // _DAY
    ]
    recent = max(0, len(lines) - newest)
    return [at for at in old if at < recent] + list(range(recent, len(lines)))

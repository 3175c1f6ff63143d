"""The audit log: a hash chain of what was done to the roster, the groups and the messages, and by whom.

Every entry is written in the transaction of the act it records, so neither exists without the other. A chain alone does not
show that its end was cut off; therefore its head is signed and appended to a file outside the database, and
`verify` compares the two.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, unique
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from shared.crypto import kdf
from shared.crypto.kdf import Label
from shared.crypto.signatures import SIGNERS, SigningKey
from shared.errors import CryptoError, StorageError
from shared.storage.keyfile import sync_directory
from shared.storage.sqlite import open_reader

GENESIS = bytes(32)
HEADS_FILE = "audit-heads.jsonl"


@unique
class Action(Enum):
    """What an entry records."""

    STARTED = "started"
    INVITED = "invited"
    ENROLLED = "enrolled"
    ADMITTED = "admitted"
    REFUSED = "refused"
    REVOKED = "revoked"
    RETIRED = "retired"
    GROUP_CREATED = "group-created"
    MEMBER_ADDED = "member-added"
    MEMBER_REMOVED = "member-removed"
    EPOCH_BEGUN = "epoch-begun"
    BROADCAST_ACCEPTED = "broadcast-accepted"
    MESSAGE_ACCEPTED = "message-accepted"
    REPORTS_FORGOTTEN = "reports-forgotten"
    REPLACED_OFTEN = "replaced-often"
    RECEIPT_IMPOSSIBLE = "receipt-impossible"


_Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Head(msgspec.Struct, frozen=True):
    """The end of the chain at one moment, signed with the doctor's P-256 key. Hash and signature in hexadecimal digits."""

    sequence: _Number
    hash: Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
    time: _Number
    signature: Annotated[str, Meta(pattern=r"\A([0-9a-f]{2})*\Z")]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `verify` found. `first_bad` names the first entry that does not fit, or None."""

    entries: int
    heads: int
    first_bad: int | None
    reason: str | None


def entry_hash(previous: bytes, sequence: int, time: int, texts: tuple[str, str, str, str]) -> bytes:
    """hash_n = H(hash_{n−1} ‖ n ‖ time ‖ actor ‖ action ‖ object ‖ detail)."""
    numbers = (sequence.to_bytes(8, "big"), time.to_bytes(8, "big"))
    return kdf.digest(Label.AUDIT_ENTRY, previous, *numbers, *(text.encode() for text in texts))


def append(
    db: sqlite3.Connection, now: int, actor: str, action: Action, subject: str, detail: str = ""
) -> int:
    """Add an entry inside the caller's transaction; returns its sequence number."""
    row = db.execute("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1").fetchone()
    sequence, previous = (row[0] + 1, row[1]) if row else (1, GENESIS)
    texts = (actor, action.value, subject, detail)
    db.execute(
        "INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?)",
        (sequence, now, *texts, entry_hash(previous, sequence, now, texts)),
    )
    return sequence


def export_head(
    db: sqlite3.Connection, directory: Path, key: SigningKey, now: int, last: Head | None
) -> Head | None:
    """Sign the end of the chain and append it to the heads file, unless it is the `last` head that stands there.

    Raises:
        StorageError: the file cannot be written.
    """
    row = db.execute("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1").fetchone()
    if row is None or (last is not None and (last.sequence, last.hash) == (row[0], row[1].hex())):
        return last
    signature = SIGNERS[key.algorithm].sign(key, Label.AUDIT_HEAD, *_head_parts(row[0], row[1], now))
    head = Head(row[0], row[1].hex(), now, signature.hex())
    append_line(directory / HEADS_FILE, msgspec.json.encode(head))
    return head


def append_line(path: Path, line: bytes) -> None:
    """Append one line and make it durable. What a crash has left of a line before it is taken away first.

    Raises:
        StorageError: the file cannot be written, or not whole.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _drop_torn_line(descriptor)
            written = os.write(descriptor, line + b"\n")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_directory(path.parent)
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}") from error
    if written <= len(line):
        raise StorageError(f"{path} cannot be written: the volume took {written} of {len(line) + 1} bytes")


def _drop_torn_line(descriptor: int) -> None:
    """Nobody was told that a line without its end was written; left there, it would spoil the next one."""
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        os.ftruncate(descriptor, os.pread(descriptor, size, 0).rfind(b"\n") + 1)


def read_lines(path: Path) -> list[bytes]:
    """The whole lines of a file that `append_line` has written; none where there is no file.

    Raises:
        StorageError: the file cannot be read.
    """
    try:
        return path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}") from error


def verify(db: sqlite3.Connection, directory: Path, public_key: bytes, algorithm: int) -> Verdict:
    """Recompute the chain and hold the signed heads against it.

    Raises:
        StorageError: the heads file cannot be read, or a line of it is damaged; names it.
    """
    entries, previous = 0, GENESIS
    hashes: dict[int, str] = {0: GENESIS.hex()}
    rows = db.execute(
        "SELECT sequence, time, actor, action, object, detail, hash FROM audit ORDER BY sequence"
    )
    for sequence, time, actor, action, subject, detail, stored in rows:
        entries += 1
        if sequence != entries:
            return Verdict(entries - 1, 0, entries, f"entry {entries} is missing")
        if not 0 <= time < 2**64:  # no time that `append` could have hashed
            return Verdict(entries - 1, 0, sequence, f"entry {sequence} was changed")
        previous = entry_hash(previous, sequence, time, (actor, action, subject, detail))
        if previous != stored:
            return Verdict(entries - 1, 0, sequence, f"entry {sequence} was changed")
        hashes[sequence] = stored.hex()
    heads = _read_heads(directory / HEADS_FILE)
    judge = _head_judge(hashes, entries, public_key, algorithm)
    for position, head in enumerate(heads, start=1):
        if reason := judge(head):
            return Verdict(entries, position - 1, min(head.sequence, entries + 1), reason)
    return Verdict(entries, len(heads), None, None)


def _head_judge(
    hashes: dict[int, str], entries: int, public_key: bytes, algorithm: int
) -> Callable[[Head], str | None]:
    signer = next(signer for number, signer in SIGNERS.items() if number == algorithm)

    def judge(head: Head) -> str | None:
        parts = _head_parts(head.sequence, bytes.fromhex(head.hash), head.time)
        try:
            signer.verify(public_key, Label.AUDIT_HEAD, bytes.fromhex(head.signature), *parts)
        except CryptoError:
            return f"the signed head for entry {head.sequence} is not the doctor's"
        if head.sequence > entries:
            return f"the log was cut: a signed head names entry {head.sequence}, the last is {entries}"
        if hashes[head.sequence] != head.hash:
            return f"entry {head.sequence} is not the one that the signed head names: the log was forked"
        return None

    return judge


def _head_parts(sequence: int, digest: bytes, time: int) -> tuple[bytes, bytes, bytes]:
    return sequence.to_bytes(8, "big"), digest, time.to_bytes(8, "big")


def _read_heads(path: Path) -> list[Head]:
    heads = []
    for number, line in enumerate(read_lines(path), start=1):
        try:
            heads.append(msgspec.json.decode(line, type=Head))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StorageError(f"{path}, line {number}, is damaged: {error}") from error
    return heads


def verify_file(path: Path, directory: Path, public_key: bytes, algorithm: int) -> Verdict:
    """`verify` on a connection of its own, for a thread of its own."""
    with contextlib.closing(open_reader(path)) as db:
        return verify(db, directory, public_key, algorithm)

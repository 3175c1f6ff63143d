"""The signed heads of the audit log, in a file outside the database and on the audit volume.

A chain alone does not show that its end was cut off, nor that the whole of it was put back to an earlier state. So its end is
signed now and then and appended to this file. When the operator has confirmed a restored database, a line says so: it is
a head itself, of the entry that records the restore, and it voids the earlier heads above `base`, whose entries are lost.
When old heads are taken out (`doctor.thinning`), another such line vouches for those before it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from shared.crypto import kdf
from shared.crypto.kdf import Label
from shared.crypto.signatures import SIGNERS, SigningKey
from shared.errors import CryptoError, StorageError
from shared.protocol.envelopes import FormerKey
from shared.storage.lines import append_line, read_lines

HEADS_FILE = "audit-heads.jsonl"

_LONGEST_LINE = 4096  # bytes; several times that of a head

Number = Annotated[int, Meta(ge=0, le=2**63 - 1)]
HexHash = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class Head(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The end of the chain at one moment, signed with the doctor's P-256 key. Hash and signature in hexadecimal digits.

    `base` is set in the line of a confirmed restore: up to that entry the chain is the same as before. `place` is the line's
    number, signed with the rest, so that no line can be taken out or moved. `kept` is set in the line of a thinning: the hash of
    all lines that were left before it.
    """

    sequence: Number
    hash: HexHash
    time: Number
    signature: Annotated[str, Meta(pattern=r"\A([0-9a-f]{2})*\Z")]
    base: Number | None = None
    place: Number = 0
    kept: HexHash | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the log: its number and its hash."""

    sequence: int
    hash: str


def last_entry(db: sqlite3.Connection) -> Entry | None:
    """The end of the chain."""
    row = db.execute("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1").fetchone()
    return None if row is None else Entry(row[0], row[1].hex())


def holds(db: sqlite3.Connection, sequence: int, digest: str) -> bool:
    """Whether the log has this very entry."""
    row = db.execute("SELECT hash FROM audit WHERE sequence = ?", (sequence,)).fetchone()
    return row is not None and row[0].hex() == digest


def export(
    db: sqlite3.Connection, directory: Path, key: SigningKey, now: int, last: Head | None
) -> Head | None:
    """Sign the end of the chain and append it, unless it is the `last` head that stands there.

    Raises:
        StorageError: the file cannot be written.
    """
    entry = last_entry(db)
    if entry is None or (last is not None and (last.sequence, last.hash) == (entry.sequence, entry.hash)):
        return last
    return append(directory, key, entry, now)


def append(directory: Path, key: SigningKey, entry: Entry, now: int, base: int | None = None) -> Head:
    """Sign and append a line for this entry; with `base`, the line of a confirmed restore.

    Raises:
        StorageError: the file cannot be read or written, or its last line is damaged; names it.
    """
    before = newest(directory)
    head = sign(Head(entry.sequence, entry.hash, now, "", base, before.place + 1 if before else 1), key)
    append_line(directory / HEADS_FILE, msgspec.json.encode(head))
    return head


def sign(unsigned: Head, key: SigningKey) -> Head:
    """The head with its signature."""
    label, parts = _signed(unsigned)
    return msgspec.structs.replace(unsigned, signature=SIGNERS[key.algorithm].sign(key, label, *parts).hex())


def read(directory: Path) -> list[Head]:
    """All lines, not verified.

    Raises:
        StorageError: the file cannot be read, or a line of it is damaged; names it.
    """
    path, heads = directory / HEADS_FILE, []
    for number, line in enumerate(read_lines(path), start=1):
        try:
            heads.append(msgspec.json.decode(line, type=Head))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise StorageError(f"{path}, line {number}, is damaged: {error}") from error
    return heads


def newest(directory: Path) -> Head | None:
    """The last line, not verified, without reading the others.

    Raises:
        StorageError: the file cannot be read, or its last line is damaged; names it.
    """
    path = directory / HEADS_FILE
    lines = read_lines(path, last_bytes=_LONGEST_LINE)
    if not lines:
        return None
    try:
        return msgspec.json.decode(lines[-1], type=Head)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StorageError(f"{path}, the last line, is damaged: {error}") from error


def out_of_place(lines: list[Head]) -> int | None:
    """The index of the first line that is not where it was written; None where all are.

    That the last lines were cut off does not show here, but where the database has an entry that they named.
    """
    thinned = next((at for at in reversed(range(len(lines))) if lines[at].kept is not None), None)
    if thinned is None:
        first, place = 0, 1
    elif lines[thinned].kept != digest(lines[:thinned]):
        return thinned
    else:
        first, place = thinned, lines[thinned].place
    return next((at for at in range(first, len(lines)) if lines[at].place != place + at - first), None)


def digest(lines: list[Head]) -> str:
    """What the line of a thinning says of those before it, in hexadecimal digits."""
    return kdf.digest(Label.AUDIT_KEPT, *map(msgspec.json.encode, lines)).hex()


def voided(lines: list[Head]) -> set[int]:
    """The places of the heads above the base of a restore that was confirmed after them."""
    void: set[int] = set()
    for position, head in enumerate(lines):
        if head.base is not None:
            void.update(at for at in range(position) if lines[at].sequence > head.base)
    return void


def verifier(public_key: bytes, algorithm: int, former: Sequence[FormerKey] = ()) -> Callable[[Head], bool]:
    """A function that says whether a head is the doctor's. `former`: its earlier keys, under which earlier heads stand."""
    signed_by = signer_of(public_key, algorithm, former)
    return lambda head: signed_by(head) is not None


def signer_of(
    public_key: bytes, algorithm: int, former: Sequence[FormerKey] = ()
) -> Callable[[Head], int | None]:
    """A function that says which of the doctor's keys has signed a head, the oldest being 0; None: none."""
    signer = next(signer for number, signer in SIGNERS.items() if number == algorithm)
    keys = [*(key.public for key in former), public_key]

    def find(head: Head) -> int | None:
        label, parts = _signed(head)
        for age, public in reversed(list(enumerate(keys))):
            with contextlib.suppress(CryptoError):
                signer.verify(public, label, bytes.fromhex(head.signature), *parts)
                return age
        return None

    return find


def _signed(head: Head) -> tuple[Label, tuple[bytes, ...]]:
    label, parts = Label.AUDIT_HEAD, [head.sequence.to_bytes(8, "big"), bytes.fromhex(head.hash)]
    parts.append(head.time.to_bytes(8, "big"))
    if head.base is not None:
        label = Label.AUDIT_RESTORED
        parts.append(head.base.to_bytes(8, "big"))
    parts.append(head.place.to_bytes(8, "big"))
    if head.kept is not None:
        label = Label.AUDIT_THINNED
        parts.append(bytes.fromhex(head.kept))
    return label, tuple(parts)

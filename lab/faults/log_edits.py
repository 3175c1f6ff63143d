"""What somebody who can write the disks does to an audit log and to its signed heads.

Law: an edit changes a copy, and says what it did and which entry must be named for it. It knows the format and can compute every
hash; it has not the doctor's key.
"""

from __future__ import annotations

import random as pseudo
import secrets
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from doctor import heads
from doctor.audit import GENESIS, entry_hash
from doctor.heads import Head
from shared.crypto.signatures import SIGNERS, Algorithm, SigningKey
from shared.net.stream import clock

TEXTS = ("actor", "action", "object", "detail")


@dataclass(frozen=True, slots=True)
class Case:
    """One edit that was made. `first_bad`: the entry that must be named; None: it is enough that the edit is found."""

    what: str
    first_bad: int | None


@dataclass(frozen=True, slots=True)
class Copy:
    """A log to edit.

    Args:
        db: its database.
        heads_file: its signed heads.
        entries: how many entries there were.
        heads: the entries that the heads name.
        dice: what is edited and how.
    """

    db: sqlite3.Connection
    heads_file: Path
    entries: int
    heads: Sequence[int]
    dice: pseudo.Random

    def entry(self) -> int:
        """Any entry that a head vouches for."""
        return self.dice.randint(1, self.heads[-1])

    def head_from(self, entry: int) -> int:
        """The first head at or behind an entry."""
        return next(head for head in self.heads if head >= entry)

    def lines(self) -> list[bytes]:
        """The heads file's."""
        return self.heads_file.read_bytes().splitlines(keepends=True)


Edit = Callable[[Copy], Case]


# Entries


def _change(copy: Copy) -> Case:
    entry, column = copy.entry(), copy.dice.choice((*TEXTS, "time", "hash"))
    _forge(copy, entry, column)
    return Case(f"{column} of entry {entry} changed", entry)


def _forge(copy: Copy, entry: int, column: str) -> None:
    (value,) = copy.db.execute(f"SELECT {column} FROM audit WHERE sequence = ?", (entry,)).fetchone()  # noqa: S608  our own names
    if column == "time":
        forged: object = value + copy.dice.choice((-1, 1, 3_600_000))
    elif column == "hash":
        place = copy.dice.randrange(32)
        forged = value[:place] + bytes([value[place] ^ (1 << copy.dice.randrange(8))]) + value[place + 1 :]
    else:
        texts = (value + "x", "", value[::-1] + " ", "nobody")
        forged = copy.dice.choice([text for text in texts if text != value])
    copy.db.execute(f"UPDATE audit SET {column} = ? WHERE sequence = ?", (forged, entry))  # noqa: S608  our own names


def _change_and_hash(copy: Copy) -> Case:
    entry = copy.dice.randint(1, copy.heads[-1] - 1)
    _forge(copy, entry, copy.dice.choice(TEXTS))
    _hash_anew(copy.db, entry, entry)
    bad = (
        entry if entry in copy.heads else entry + 1
    )  # only a head knows what the entry was; else the next one's hash does
    return Case(f"entry {entry} changed and its own hash computed anew", bad)


def _change_and_hash_all(copy: Copy) -> Case:
    entry = copy.entry()
    _forge(copy, entry, copy.dice.choice(TEXTS))
    _hash_anew(copy.db, entry, copy.entries)
    return Case(f"entry {entry} changed and the chain behind it computed anew", copy.head_from(entry))


def _delete(copy: Copy) -> Case:
    first = copy.dice.randint(1, copy.heads[-1] - 1)
    count = copy.dice.randint(1, min(3, copy.heads[-1] - first))
    copy.db.execute("DELETE FROM audit WHERE sequence >= ? AND sequence < ?", (first, first + count))
    return Case(f"{count} entries deleted from {first} on", first)


def _delete_and_hash_all(copy: Copy) -> Case:
    entry = copy.dice.randint(1, copy.heads[-1] - 1)
    copy.db.execute("DELETE FROM audit WHERE sequence = ?", (entry,))
    copy.db.execute("UPDATE audit SET sequence = -sequence WHERE sequence > ?", (entry,))
    copy.db.execute("UPDATE audit SET sequence = -sequence - 1 WHERE sequence < 0")
    _hash_anew(copy.db, entry, copy.entries - 1)
    bad = copy.head_from(entry)
    return Case(f"entry {entry} deleted, the rest renumbered and hashed anew", min(bad, copy.entries))


def _swap(copy: Copy) -> Case:
    first, second = sorted(copy.dice.sample(range(1, copy.heads[-1] + 1), 2))
    for old, new in ((first, -1), (second, first), (-1, second)):
        copy.db.execute("UPDATE audit SET sequence = ? WHERE sequence = ?", (new, old))
    return Case(f"entries {first} and {second} exchanged", first)


def _truncate(copy: Copy) -> Case:
    last = copy.dice.randint(0, copy.heads[-1] - 1)
    copy.db.execute("DELETE FROM audit WHERE sequence > ?", (last,))
    return Case(f"everything behind entry {last} cut off", last + 1)


def _truncate_and_refill(copy: Copy) -> Case:
    last = copy.dice.randint(1, copy.heads[-1] - 1)
    copy.db.execute("DELETE FROM audit WHERE sequence > ?", (last,))
    for sequence in range(last + 1, copy.entries + 1):
        texts = ("operator", "invited", "nobody", "")
        row = (sequence, clock().wall, *texts, bytes(32))
        copy.db.execute("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    _hash_anew(copy.db, last + 1, copy.entries)
    return Case(f"other entries put behind entry {last}", copy.head_from(last + 1))


def _hash_anew(db: sqlite3.Connection, first: int, last: int) -> None:
    """What somebody who knows the format does: the chain fits again."""
    row = db.execute("SELECT hash FROM audit WHERE sequence = ?", (first - 1,)).fetchone()
    previous = row[0] if row else GENESIS
    rows = db.execute(
        "SELECT sequence, time, actor, action, object, detail FROM audit WHERE sequence BETWEEN ? AND ?"
        " ORDER BY sequence",
        (first, last),
    ).fetchall()
    for sequence, time, *texts in rows:
        actor, action, subject, detail = texts
        previous = entry_hash(previous, sequence, time, (actor, action, subject, detail))
        db.execute("UPDATE audit SET hash = ? WHERE sequence = ?", (previous, sequence))


# Heads


def _change_head(copy: Copy) -> Case:
    lines = copy.lines()
    place = copy.dice.randrange(len(lines))
    digits = [at for at, byte in enumerate(lines[place]) if chr(byte) in "0123456789abcdef"]
    at = copy.dice.choice(digits[1:])
    other = b"1" if lines[place][at : at + 1] != b"1" else b"2"
    lines[place] = lines[place][:at] + other + lines[place][at + 1 :]
    copy.heads_file.write_bytes(b"".join(lines))
    return Case(f"digit {at} of head {place + 1} changed", None)


def _forge_head(copy: Copy) -> Case:
    """A change of an entry that is hidden by a head under a key of the editor's own."""
    entry = copy.dice.randint(copy.heads[-2] + 1, copy.heads[-1])
    _forge(copy, entry, copy.dice.choice(TEXTS))
    _hash_anew(copy.db, entry, copy.entries)
    lines = copy.lines()
    key = SIGNERS[Algorithm.ECDSA_P256].generate(secrets.token_bytes)
    copy.heads_file.write_bytes(b"".join(lines[:-1]))
    sign_head(copy.db, copy.heads_file.parent, key, None)
    return Case(f"entry {entry} changed, and its head signed with another key", None)


def _delete_head(copy: Copy) -> Case:
    lines = copy.lines()
    place = copy.dice.randrange(len(lines) - 1)
    copy.heads_file.write_bytes(b"".join(lines[:place] + lines[place + 1 :]))
    return Case(f"head {place + 1} of {len(lines)} deleted", None)


def _swap_heads(copy: Copy) -> Case:
    lines = copy.lines()
    first, second = sorted(copy.dice.sample(range(len(lines)), 2))
    lines[first], lines[second] = lines[second], lines[first]
    copy.heads_file.write_bytes(b"".join(lines))
    return Case(f"heads {first + 1} and {second + 1} exchanged", None)


def sign_head(db: sqlite3.Connection, directory: Path, key: SigningKey, last: Head | None) -> Head | None:
    """Append what the database's last entry is to the heads file, by the doctor's own function."""
    return heads.export(db, directory, key, clock().wall, last)


EDITS: tuple[Edit, ...] = (
    _change,
    _change_and_hash,
    _change_and_hash_all,
    _delete,
    _delete_and_hash_all,
    _swap,
    _truncate,
    _truncate_and_refill,
    _change_head,
    _forge_head,
    _delete_head,
    _swap_heads,
)

"""T26: somebody who can write the disks edits the audit log of a real doctor, as cleverly as can be without the doctor's key.

Each edit is made on a copy of the database and the heads file. It must be found, and where entries were edited, `verify` must name
the first entry that is not what it was: the edited one, or, where the chain behind it was computed anew, the first that a signed
head contradicts.

Entries behind the last head, ten seconds' worth at most, and a heads file whose last lines are cut off together with the entries they name,
are beyond what a doctor can find out by itself; nothing here edits those.
"""

from __future__ import annotations

import asyncio
import contextlib
import random as pseudo
import secrets
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from doctor import audit, heads, keyring
from doctor.audit import GENESIS, Verdict, entry_hash
from doctor.heads import HEADS_FILE, Head
from lab.faults.clinic import Clinic
from lab.faults.row import Row, Scale, Tally, Trial
from lab.faults.watch import Watch
from shared.crypto.signatures import SIGNERS, Algorithm, SigningKey
from shared.errors import StorageError
from shared.net.stream import clock
from shared.storage.sqlite import open_reader

ORDERS = 60  # invitations and messages that make the log
HEAD_EVERY = 5  # orders
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
    _sign_head(copy.db, copy.heads_file.parent, key, None)
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


# The row


@dataclass(frozen=True, slots=True)
class Log:
    """An audit log of a doctor that has stopped: its database, the directory of its heads, the key that verifies them."""

    database: Path
    audit_dir: Path
    key: SigningKey

    def verdict(self, database: Path, audit_dir: Path) -> Verdict:
        """What `telemed-doctor audit verify` finds there."""
        return audit.verify_file(database, audit_dir, self.key.public, self.key.algorithm)


async def run(trial: Trial) -> Tally:
    """Let a doctor write a log, then edit copies of it."""
    log = await _write_log(trial.directory)
    before = log.verdict(log.database, log.audit_dir)
    findings = (
        [] if before.first_bad is None else [f"the log does not verify before any edit: {before.reason}"]
    )
    survived = 0
    for number in range(trial.scale.count):
        edit = EDITS[number % len(EDITS)]
        finding = await asyncio.to_thread(
            attempt, log, edit, trial.directory / "copy", trial.seed * 100_003 + number
        )
        if finding is None:
            survived += 1
        else:
            findings.append(finding)
        trial.on_progress(number + 1, trial.scale.count)
    figures = (
        ("entries", float(before.entries)),
        ("heads", float(before.heads)),
        ("kinds", float(len(EDITS))),
    )
    return Tally(trial.scale.count, survived, findings=tuple(findings), figures=figures)


async def _write_log(directory: Path) -> Log:
    async with Clinic(directory, Watch()) as clinic:
        database = clinic.state_dir / "doctor.db"
        key = keyring.load_signing_key(clinic.state_dir, Algorithm.ECDSA_P256)
        head: Head | None = None
        for number in range(ORDERS):
            if number % 3:
                await clinic.broadcast(f"message {number}")
            else:
                await clinic.invite(f"bed-{number:02}")
            if number % HEAD_EVERY == HEAD_EVERY - 1:
                # The doctor's own function, with its key: waiting for its own heads would take minutes.
                with contextlib.closing(open_reader(database)) as db:
                    head = _sign_head(db, clinic.audit_dir, key, head)
        await clinic.stop()
    with contextlib.closing(open_reader(database)) as db:
        _sign_head(db, clinic.audit_dir, key, head)
    return Log(database, clinic.audit_dir, key)


def _sign_head(db: sqlite3.Connection, directory: Path, key: SigningKey, last: Head | None) -> Head | None:
    return heads.export(db, directory, key, clock().wall, last)


def attempt(log: Log, edit: Edit, directory: Path, seed: int) -> str | None:
    """Make one edit on a fresh copy and have it verified; a sentence where it was not found, or the wrong entry named."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    database = directory / log.database.name
    shutil.copy(log.database, database)  # the doctor has stopped: all is in the one file
    shutil.copy(log.audit_dir / HEADS_FILE, directory)
    named = sorted({head.sequence for head in heads.read(directory)})
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as db:
        (entries,) = db.execute("SELECT count(*) FROM audit").fetchone()
        case = edit(Copy(db, directory / HEADS_FILE, entries, named, pseudo.Random(seed)))  # noqa: S311  edits, not secrets
    try:
        verdict = log.verdict(database, directory)
    except StorageError:  # it names the file and the line
        return None if case.first_bad is None else f"{case.what}: the heads were blamed"
    if verdict.first_bad is None:
        return f"{case.what}: not found"
    if case.first_bad is not None and verdict.first_bad != case.first_bad:
        return f"{case.what}: {verdict.first_bad} was named, {case.first_bad} is the first bad one"
    return None


ROW = Row(
    name="audit-edits",
    threat="T26",
    title="entries and signed heads of the audit log are changed, deleted, reordered, cut off, and hashed anew",
    passes="every edit is found; verify names the first bad entry",
    ci=Scale(count=100),
    release=Scale(count=1_000),
    run=run,
)

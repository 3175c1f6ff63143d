"""What a database says of itself: whose it is, whether it is a restored one, and what a confirmed restore has left behind.

Law: each fact is sealed under the storage key, so nobody can write one who can only write the database, and a database that meets
another storage key is found out at once, by name, and not by the first message that does not open.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from doctor.keyring import Keyring
from shared.errors import StorageError, UserError
from shared.storage import cells
from shared.storage.sealed import Sealer


class Fact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all facts; there is at most one of a kind."""


class Owner(Fact, frozen=True):
    """The doctor whose database this is: its name, and the fingerprints of its keys by algorithm, which patients have pinned."""

    doctor_id: str
    keys: Mapping[int, str]


class Schema(Fact, frozen=True):
    """How the tables are defined, as a SHA-256 in hexadecimal digits, and in which version: rules that SQLite keeps as text."""

    version: int
    digest: str


class Restored(Fact, frozen=True):
    """This database is an older state, and the operator has not confirmed it yet.

    Attributes:
        base, base_hash, base_time: the last entry that it shares with the log as it was.
        found: when that was noticed. Times in milliseconds since the Unix epoch.
        cause: how it was noticed, for people.
        voided: how many open invitations were voided for it.
        entered: the doctor has started on it and done again what the journal knows.
    """

    base: int
    base_hash: str
    base_time: int
    found: int
    cause: str
    voided: int = 0
    entered: bool = False


class Confirmed(Fact, frozen=True):
    """The last restore that was confirmed: its audit entry, the entry it went back to, and `floor`, the number that no stream
    goes below and above which nothing was issued before. `time` in milliseconds since the Unix epoch."""

    sequence: int
    hash: str
    base: int
    floor: int
    time: int


F = TypeVar("F", bound=Fact)


def read(db: sqlite3.Connection, sealer: Sealer, kind: type[F]) -> F | None:
    """The fact of a kind, if the database has it.

    Raises:
        StorageError: it does not open, or is no such fact.
    """
    name = kind.__name__.lower()
    row = db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    if row is None:
        return None
    text = sealer.open("facts", "value", name.encode(), row[0])
    return cells.record(kind, text, "facts", "value", name)


def write(db: sqlite3.Connection, sealer: Sealer, fact: Fact) -> None:
    """Replace the fact of this kind, inside the caller's transaction."""
    name = type(fact).__name__.lower()
    sealed = sealer.seal("facts", "value", name.encode(), msgspec.json.encode(fact))
    db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, sealed))


def erase(db: sqlite3.Connection, kind: type[Fact]) -> None:
    """Take a fact away, inside the caller's transaction."""
    db.execute("DELETE FROM facts WHERE name = ?", (kind.__name__.lower(),))


def require_schema(db: sqlite3.Connection, sealer: Sealer) -> Schema:
    """The definitions of the tables, after they were held against those that were noted for this version.

    Raises:
        StorageError: they are not the same.
    """
    (version,) = db.execute("PRAGMA user_version").fetchone()
    rows = db.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name").fetchall()
    schema = Schema(version, hashlib.sha256(msgspec.json.encode(rows)).hexdigest())
    noted = read(db, sealer, Schema)
    if noted is not None and noted.version == version and noted != schema:
        raise StorageError("the definitions of the tables are damaged; restore the database from a backup")
    return schema


def require_owner(db: sqlite3.Connection, sealer: Sealer, doctor_id: str, keys: Keyring) -> Owner:
    """Who owns the database, after these keys were held against it; for a new database, and for a new key, who owns it from now on.

    Raises:
        UserError: it is another doctor's, or a key is not the one that it was used with; names the file that is needed.
    """
    mine = keys.fingerprints()
    try:
        owner = read(db, sealer, Owner)
    except StorageError as error:
        raise UserError(
            "This database rests under another storage key than keys/storage.key in state_dir. Put the file there with which"
            " the doctor of this database ran; no backup of the database holds it."
        ) from error
    if owner is None:
        return Owner(doctor_id, mine)
    if owner.doctor_id != doctor_id:
        raise UserError(f"This is the database of the doctor {owner.doctor_id!r}, not of {doctor_id!r}.")
    for algorithm in keys.signing:
        noted = owner.keys.get(int(algorithm), mine[int(algorithm)])
        if noted != mine[int(algorithm)] and not keys.was(algorithm, noted):
            raise UserError(
                f"The {algorithm.name} key in state_dir/keys is not the one with which this database was used and which the"
                f" patients have pinned ({noted}, not {mine[int(algorithm)]}); put that file back, and rotations.json with it."
            )
    return Owner(doctor_id, {**owner.keys, **mine})

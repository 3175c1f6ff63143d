"""What the database knows of a rotation of the doctor's keys: who has not confirmed the new ones yet.

Law: every function here runs inside the caller's transaction. A patient confirms by establishing a session under the new keys,
and in no other way: it accepts nothing under keys that it has not pinned. A rotation is open until nobody is left in `unconfirmed`.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import NamedTuple

from doctor import audit, facts
from doctor.audit import Action
from doctor.facts import Owner
from doctor.keyring import Keyring
from shared.crypto.signatures import Algorithm
from shared.storage.sealed import Sealer


class Voided(NamedTuple):
    """An open invitation that a rotation has voided; its fields are columns. `expires` 0: never, `patient_id` None: a fleet's."""

    invitation_id: bytes
    patient_id: str | None
    groups: str
    expires: int
    uses_left: int


@dataclass(frozen=True, slots=True)
class Begun:
    """A rotation, as committed: who has to confirm it, and the invitations that it has voided, which name the former keys."""

    unconfirmed: list[str]
    voided: list[Voided]


def is_noted(db: sqlite3.Connection, sealer: Sealer, keys: Keyring) -> bool:
    """Whether a database knows of the last rotation: it was used with the present keys, or is new."""
    owner = facts.read(db, sealer, Owner)
    present = keys.fingerprints()[Algorithm.ECDSA_P256]
    return owner is None or owner.keys.get(int(Algorithm.ECDSA_P256)) == present


def note(
    db: sqlite3.Connection, sealer: Sealer, doctor_id: str, keys: Keyring, now: int, actor: str
) -> Begun:
    """Write down the last rotation: every active patient has to confirm it, and every open invitation is void."""
    owner = facts.read(db, sealer, Owner)
    known = owner.keys if owner is not None else {}
    facts.write(db, sealer, Owner(doctor_id, {**known, **keys.fingerprints()}))
    db.execute("DELETE FROM unconfirmed")
    db.execute(
        "INSERT INTO unconfirmed SELECT patient_id, ? FROM patients WHERE standing = 'active'",
        (keys.sequence,),
    )
    waiting = unconfirmed(db)
    key = keys.fingerprints()[Algorithm.ECDSA_P256]
    detail = f"the P-256 key is {key}, {len(waiting)} patients have to confirm it"
    audit.append(db, now, actor, Action.KEYS_ROTATED, str(keys.sequence), detail)
    voided = _void_invitations(db)
    if voided:
        audit.append(db, now, actor, Action.INVITATIONS_VOIDED, "rotation", f"{len(voided)} open ones")
    if not waiting:
        _complete(db, keys.sequence, now)
    return Begun(waiting, voided)


def _void_invitations(db: sqlite3.Connection) -> list[Voided]:
    rows = db.execute(
        "SELECT invitation_id, patient_id, groups, expires, uses_left FROM invitations WHERE secret IS NOT NULL"
    ).fetchall()
    db.execute("UPDATE invitations SET secret = NULL, uses_left = 0 WHERE secret IS NOT NULL")
    return [Voided(*row) for row in rows]


def succeed(db: sqlite3.Connection, invitation_id: bytes, former: bytes) -> None:
    """Note that a fleet invitation stands in the place of one that the rotation has voided."""
    db.execute("INSERT INTO successors VALUES (?, ?)", (invitation_id, former))


def unconfirmed(db: sqlite3.Connection) -> list[str]:
    """Who has not confirmed the new keys, by id; nobody: the last rotation is complete."""
    return [row[0] for row in db.execute("SELECT patient_id FROM unconfirmed ORDER BY patient_id")]


def count_unconfirmed(db: sqlite3.Connection, limit: int) -> tuple[int, list[str]]:
    """How many have not confirmed the new keys, and the first so many of them, by id."""
    (count,) = db.execute("SELECT count(*) FROM unconfirmed").fetchone()
    rows = db.execute("SELECT patient_id FROM unconfirmed ORDER BY patient_id LIMIT ?", (limit,))
    return int(count), [row[0] for row in rows]


def settle(db: sqlite3.Connection, patient_id: str, now: int) -> int | None:
    """A patient has a session under the present keys, so it has pinned them, or it has left the roster.

    Returns the sequence of the rotation that is complete with that.
    """
    row = db.execute(
        "DELETE FROM unconfirmed WHERE patient_id = ? RETURNING sequence", (patient_id,)
    ).fetchone()
    if row is None or db.execute("SELECT 1 FROM unconfirmed LIMIT 1").fetchone() is not None:
        return None
    _complete(db, row[0], now)
    return int(row[0])


def _complete(db: sqlite3.Connection, sequence: int, now: int) -> None:
    audit.append(db, now, "gateway", Action.ROTATION_COMPLETE, str(sequence))

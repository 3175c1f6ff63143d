"""Invitations, and the one transaction that lets a verified patient in.

Law: a patient is admitted in a single transaction after a valid SESSION_VERIFIER. It checks the invitation's uses, expiry and
id once more, because two may hold the same invitation; the loser of that race is refused (V-063). Until it is committed,
the session is not established and replaces nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from doctor import audit, groups, rotations, streams
from doctor.audit import Action
from doctor.keyring import Keyring
from doctor.streams import Join, Membership
from shared.crypto.signatures import fingerprint
from shared.errors import TelemedError, UserError
from shared.protocol.doctor_handshake import Member, Standing
from shared.protocol.events import Verified
from shared.protocol.invitations import Invitation, derived_id
from shared.storage.sealed import Sealer
from shared.wire.checks import Check

HOUR = 3_600_000


class AdmissionRefused(TelemedError):
    """The roster's transaction does not admit the patient; `check` says why and what it is told."""

    def __init__(self, check: Check, detail: str) -> None:
        super().__init__(f"{check.number} {detail}")
        self.check = check
        self.detail = detail


@dataclass(frozen=True, slots=True)
class InvitationRequest:
    """What a person asks for. `patient_id` None: a fleet invitation. `lifetime` in milliseconds, 0: it never expires."""

    patient_id: str | None
    groups: tuple[str, ...]
    uses: int
    lifetime: int


@dataclass(frozen=True, slots=True)
class Admission:
    """A patient that is in, as committed. `uses_left` is that of the invitation it came by, where it is new; `noted`: the log has
    an entry of this login; `completed`: the rotation of the doctor's keys that it was the last to confirm."""

    member: Member
    enrolled: bool
    joins: tuple[Join, ...]
    memberships: tuple[Membership, ...]
    invitation_id: bytes | None
    uses_left: int
    noted: bool
    completed: int | None = None


def invite(
    db: sqlite3.Connection,
    doctor_id: str,
    keyring: Keyring,
    addresses: tuple[str, ...],
    sealer: Sealer,
    request: InvitationRequest,
    now: int,
    actor: str,
    random: Callable[[int], bytes],
) -> Invitation:
    """Make an invitation, inside the caller's transaction.

    Raises:
        UserError: an unknown group, or an id that is taken.
    """
    names = tuple(dict.fromkeys((groups.EVERYONE, *request.groups)))
    for group in names:
        groups.require(db, group)
    if request.patient_id is not None:
        _require_free(db, request.patient_id)
    invitation = Invitation(
        doctor_id=doctor_id,
        doctor_keys=keyring.public,
        addresses=list(addresses),
        groups=list(names),
        invitation_id=random(16),
        secret=random(32),
        expires=now + request.lifetime if request.lifetime else 0,
        uses=request.uses,
        patient_id=request.patient_id,
    )
    sealed = sealer.seal("invitations", "secret", invitation.invitation_id, invitation.secret)
    db.execute(
        "INSERT INTO invitations VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            invitation.invitation_id,
            sealed,
            invitation.expires,
            invitation.uses,
            invitation.patient_id,
            " ".join(names),
            now,
        ),
    )
    who = invitation.patient_id or "a fleet"
    audit.append(db, now, actor, Action.INVITED, who, f"invitation {invitation.invitation_id.hex()}")
    return invitation


def _require_free(db: sqlite3.Connection, patient_id: str) -> None:
    if not groups.is_name(patient_id):
        raise UserError(
            f"{patient_id!r} is not a patient id: use 1 to 64 of a-z, 0-9, '.', '_' and '-', a letter or digit first."
        )
    if patient_id.startswith("patient-") and len(patient_id) == len(derived_id("x" * 32)):
        raise UserError(f"{patient_id!r} looks like an id of a fleet patient; choose another.")
    row = db.execute("SELECT standing FROM patients WHERE patient_id = ?", (patient_id,)).fetchone()
    if row is not None:
        raise UserError(
            f"The id {patient_id!r} is taken by a patient that is {row[0]}; ids are never given twice."
        )


def void_fleet(db: sqlite3.Connection) -> list[bytes]:
    """Void the open fleet invitations, as a new one replaces them; returns their ids."""
    rows = db.execute(
        "UPDATE invitations SET secret = NULL, uses_left = 0"
        " WHERE patient_id IS NULL AND secret IS NOT NULL RETURNING invitation_id"
    )
    return [row[0] for row in rows.fetchall()]


def erase_expired(db: sqlite3.Connection, now: int) -> None:
    """Erase the secrets of invitations that have expired."""
    db.execute(
        "UPDATE invitations SET secret = NULL WHERE secret IS NOT NULL AND expires BETWEEN 1 AND ?", (now,)
    )


def admit(
    db: sqlite3.Connection,
    verified: Verified,
    now: int,
    address: str,
    noted: bool = True,
    keys: Keyring | None = None,
) -> Admission:
    """Let a verified patient in: enrol it where it is new, join it anew where it was retired.

    Args:
        noted: whether a login that changes nothing on the roster gets an audit entry; one that does always gets it.
        keys: the doctor's as they are when this runs: whoever proved itself to others has to learn these first.

    Raises:
        AdmissionRefused: revoked meanwhile, the keys were rotated meanwhile, or the invitation's last use went to another.
    """
    if keys is not None and not keys.signed_as(verified.doctor_key):
        # Nothing of it may count: who returns to the roster now would lack the new keys, and nobody would know.
        detail = f"{verified.patient_id}: the doctor's keys were rotated meanwhile"
        raise AdmissionRefused(Check.PREKEY_HELD, detail)  # V-030
    row = db.execute(
        "SELECT standing, algorithm, public_key FROM patients WHERE patient_id = ?", (verified.patient_id,)
    ).fetchone()
    if row is not None and row[0] == Standing.REVOKED.value:
        raise AdmissionRefused(Check.NOT_REVOKED, f"patient {verified.patient_id}")
    if row is not None and row[1:] != (verified.algorithm, verified.public_key):
        raise AdmissionRefused(
            Check.ADMISSION, f"{verified.patient_id} was enrolled with another key meanwhile"
        )
    enrolled = row is None
    returning = row is not None and row[0] == Standing.RETIRED.value
    noted = noted or enrolled or returning
    invitation_id = verified.invitation_id if enrolled else None
    names: tuple[str, ...] = (groups.EVERYONE,)
    uses_left = 0
    if enrolled:
        key = fingerprint(verified.algorithm, verified.public_key)
        uses_left, names = _use_invitation(db, verified, key, now)
        db.execute(
            "INSERT INTO patients VALUES (?, ?, ?, ?, 'active', ?, ?, ?)",
            (verified.patient_id, verified.algorithm, verified.public_key, key, invitation_id, now, now),
        )
        audit.append(db, now, "gateway", Action.ENROLLED, verified.patient_id, f"key {key} from {address}")
    else:
        db.execute(
            "UPDATE patients SET standing = 'active', last_seen = ? WHERE patient_id = ?",
            (now, verified.patient_id),
        )
        if noted:
            audit.append(db, now, "gateway", Action.ADMITTED, verified.patient_id, f"from {address}")
    joins = _join(db, names, verified.patient_id) if enrolled or returning else ()
    is_open = keys is not None and keys.announced is not None
    completed = rotations.settle(db, verified.patient_id, now) if is_open else None
    return Admission(
        member=Member(verified.patient_id, verified.algorithm, verified.public_key, Standing.ACTIVE),
        enrolled=enrolled,
        joins=joins,
        memberships=tuple(streams.memberships_of(db, verified.patient_id)),
        invitation_id=invitation_id,
        uses_left=uses_left,
        noted=noted,
        completed=completed,
    )


def _join(db: sqlite3.Connection, names: tuple[str, ...], patient_id: str) -> tuple[Join, ...]:
    """Make a patient a member of its groups and of its own stream, which begins with its enrolment."""
    own = streams.of_patient(patient_id)
    streams.create(db, own)
    return tuple(streams.join(db, stream, patient_id) for stream in (*map(streams.of_group, names), own))


def _use_invitation(
    db: sqlite3.Connection, verified: Verified, key: str, now: int
) -> tuple[int, tuple[str, ...]]:
    """Take one use; how many are left, and the groups it grants."""
    row = db.execute(
        "SELECT expires, uses_left, patient_id, groups FROM invitations WHERE invitation_id = ?",
        (verified.invitation_id,),
    ).fetchone()
    name = verified.patient_id
    if row is None or row[1] < 1:
        raise AdmissionRefused(Check.ADMISSION, f"{name}: the invitation's last use went to another")
    expires, uses_left, bound, names = row
    if expires and now > expires:
        raise AdmissionRefused(Check.INVITATION_VALID, f"{name}: the invitation has expired meanwhile")
    if name != (bound or derived_id(key)):
        raise AdmissionRefused(Check.INVITATION_ID, f"{name}: the invitation is for another id")
    if db.execute("SELECT 1 FROM patients WHERE fingerprint = ?", (key,)).fetchone():
        raise AdmissionRefused(
            Check.KEY_UNCLAIMED, f"{name}: its key was enrolled under another id meanwhile"
        )
    db.execute(
        # The secret goes with the last use; nobody can enrol by it any more.
        "UPDATE invitations SET uses_left = uses_left - 1,"
        " secret = CASE WHEN uses_left = 1 THEN NULL ELSE secret END WHERE invitation_id = ?",
        (verified.invitation_id,),
    )
    return uses_left - 1, tuple(names.split())

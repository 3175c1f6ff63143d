"""Who is enrolled, who is revoked, who is invited: in memory for the handshake, on disk for good.

Law: the functions that take a database run inside the writer's transaction and change nothing in memory; what they
return is applied to the `Roster` on the event loop once it is committed. A revoked id and its key stay as tombstones.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from doctor import audit, rotations, streams
from doctor.audit import Action
from doctor.streams import Leave
from shared.crypto.signatures import Algorithm, fingerprint
from shared.errors import UserError
from shared.protocol.doctor_handshake import Member, OpenInvitation, Standing
from shared.storage import cells
from shared.storage.sealed import Sealer
from shared.wire.messages import TargetKind


@dataclass(frozen=True, slots=True)
class Patient:
    """One row of the roster as people see it. Times in milliseconds since the Unix epoch."""

    patient_id: str
    fingerprint: str
    standing: Standing
    enrolled_at: int
    last_seen: int
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Departure:
    """A patient that is revoked or retired, as committed. `voided` lists invitations that died with it; `completed`: the rotation
    of the doctor's keys that nobody else had to confirm."""

    member: Member
    leaves: tuple[Leave, ...]
    voided: tuple[bytes, ...]
    completed: int | None

    @property
    def groups(self) -> list[str]:
        """The groups that it was a member of."""
        return [leave.stream.name for leave in self.leaves if leave.stream.kind is TargetKind.GROUP]


class Roster:
    """The handshake's view of the roster (`shared.protocol.doctor_handshake.Directory`)."""

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}
        self._by_fingerprint: dict[str, Member] = {}
        self._invitations: dict[bytes, OpenInvitation] = {}

    def __len__(self) -> int:
        return len(self._members)

    def load(self, db: sqlite3.Connection, sealer: Sealer) -> None:
        """Read everything that was committed.

        Raises:
            StorageError: a row is damaged, or a secret does not open; names it.
        """
        for row in db.execute("SELECT patient_id, algorithm, public_key, standing FROM patients"):
            self.put(_member(*row))
        rows = db.execute(
            "SELECT invitation_id, secret, expires, uses_left, patient_id FROM invitations WHERE secret IS NOT NULL"
        )
        for invitation_id, secret, expires, uses_left, patient_id in rows:
            plain = sealer.open("invitations", "secret", invitation_id, secret)
            self.put_invitation(invitation_id, OpenInvitation(plain, expires, uses_left, patient_id))

    def members(self) -> Iterable[Member]:
        """Every row, tombstones included, in no order."""
        return self._members.values()

    def member(self, patient_id: str) -> Member | None:
        """The row of this id, tombstones included."""
        return self._members.get(patient_id)

    def owner(self, key_fingerprint: str) -> Member | None:
        """The row that holds this key, tombstones included."""
        return self._by_fingerprint.get(key_fingerprint)

    def invitation(self, invitation_id: bytes) -> OpenInvitation | None:
        """An invitation whose secret is still held."""
        return self._invitations.get(invitation_id)

    def put(self, member: Member) -> None:
        """A row was committed."""
        if self._members.get(member.patient_id) == member:
            return  # it was there already, as it is at each login: its fingerprint costs more than the rest of an admission here
        self._members[member.patient_id] = member
        self._by_fingerprint[fingerprint(member.algorithm, member.public_key)] = member

    def put_invitation(self, invitation_id: bytes, invitation: OpenInvitation) -> None:
        """An invitation was committed."""
        self._invitations[invitation_id] = invitation

    def set_uses(self, invitation_id: bytes, uses_left: int) -> None:
        """An invitation was used or voided.

        One without uses stays known here, though its secret is erased on disk: who proves that secret is told why it is refused.
        It admits nobody.
        """
        invitation = self._invitations.get(invitation_id)
        if invitation is not None:
            self._invitations[invitation_id] = dataclasses.replace(invitation, uses_left=uses_left)


def _member(patient_id: str, algorithm: int, public_key: bytes, standing: str) -> Member:
    known = cells.member(Algorithm, algorithm, "patients", "algorithm", patient_id)
    return Member(patient_id, known, public_key, _standing(patient_id, standing))


def _standing(patient_id: str, value: str) -> Standing:
    return cells.member(Standing, value, "patients", "standing", patient_id)


def depart(db: sqlite3.Connection, patient_id: str, standing: Standing, now: int, actor: str) -> Departure:
    """Revoke or retire a patient, inside the caller's transaction.

    Raises:
        UserError: there is no such patient, or it is revoked already.
    """
    row = db.execute(
        "SELECT algorithm, public_key, standing, invitation FROM patients WHERE patient_id = ?", (patient_id,)
    ).fetchone()
    if row is None:
        raise UserError(f"There is no patient {patient_id!r}; `telemed-doctor patients` lists them.")
    if row[2] == Standing.REVOKED.value or row[2] == standing.value:
        raise UserError(f"Patient {patient_id} is {row[2]} already.")
    db.execute("UPDATE patients SET standing = ? WHERE patient_id = ?", (standing.value, patient_id))
    reason = standing.value
    leaves = streams.leave_all(db, patient_id, reason)
    voided = _void_line(db, row[3]) if standing is Standing.REVOKED and row[3] is not None else ()
    completed = rotations.settle(db, patient_id, now)
    departure = Departure(_member(patient_id, row[0], row[1], standing.value), leaves, voided, completed)
    action = Action.REVOKED if standing is Standing.REVOKED else Action.RETIRED
    audit.append(db, now, actor, action, patient_id, f"groups {' '.join(departure.groups)}")
    return departure


_VOID_LINE = """
WITH RECURSIVE line (id) AS (
    VALUES (?) UNION SELECT successors.invitation_id FROM successors JOIN line ON former = line.id
)
UPDATE invitations SET secret = NULL, uses_left = 0 WHERE invitation_id IN line RETURNING invitation_id
"""


def _void_line(db: sqlite3.Connection, invitation_id: bytes) -> tuple[bytes, ...]:
    """Void an invitation and what rotations have made of it: a revoked device knows the secret of the first, and reads the file
    in which a fleet finds the last."""
    return tuple(row[0] for row in db.execute(_VOID_LINE, (invitation_id,)).fetchall())


def require_known(db: sqlite3.Connection, patient_id: str) -> None:
    """Raise UserError unless there is, or was, such a patient."""
    if not db.execute("SELECT 1 FROM patients WHERE patient_id = ?", (patient_id,)).fetchone():
        raise UserError(f"There is no patient {patient_id!r}; `telemed-doctor patients` lists them.")


def require_addressee(db: sqlite3.Connection, patient_id: str) -> str:
    """The fingerprint of the key to which a private message is addressed.

    Raises:
        UserError: there is no such patient, or it takes no messages now; says why and what can be done.
    """
    require_known(db, patient_id)
    row = db.execute(
        "SELECT fingerprint, standing FROM patients WHERE patient_id = ?", (patient_id,)
    ).fetchone()
    if row[1] == Standing.REVOKED.value:
        raise UserError(f"Patient {patient_id} is revoked: nothing is sent to it any more.")
    if row[1] == Standing.RETIRED.value:
        raise UserError(f"Patient {patient_id} is retired; send the message when it has come back.")
    return str(row[0])


_ROWS = "SELECT patient_id, fingerprint, standing, enrolled_at, last_seen FROM patients"


def list_patients(db: sqlite3.Connection) -> list[Patient]:
    """All patients, tombstones included, by id."""
    current: dict[str, list[str]] = {}
    for group, patient_id in streams.current_members(db):
        current.setdefault(patient_id, []).append(group)
    rows = db.execute(f"{_ROWS} ORDER BY patient_id")
    return [_patient(row, current.get(row[0], [])) for row in rows]


def find_patient(db: sqlite3.Connection, patient_id: str) -> Patient | None:
    """One patient, a tombstone too; None: there is none of this id."""
    row = db.execute(f"{_ROWS} WHERE patient_id = ?", (patient_id,)).fetchone()
    if row is None:
        return None
    held = streams.memberships_of(db, patient_id)
    names = [each.stream.name for each in held if each.until is None and each.stream.kind is TargetKind.GROUP]
    return _patient(row, names)


def _patient(row: tuple[str, str, str, int, int], names: list[str]) -> Patient:
    return Patient(row[0], row[1], _standing(row[0], row[2]), row[3], row[4], tuple(sorted(names)))

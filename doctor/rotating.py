"""Orders about the doctor's own keys: new ones in the place of the former, and who still lacks them.

Law: no rotation begins before the last is complete, so no patient is ever two behind. The files of `keys/` decide which keys the
doctor has; the database follows them, at once or at the next start. They change on the writer's thread, between two messages:
whatever is accepted before is signed with the former key and is older than the rotation, whatever comes after with the new one.
"""

from __future__ import annotations

import secrets
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from doctor import clock_check, keyring, rotations
from doctor.answers import RotationAnswer
from doctor.enrolment import InvitationRequest
from doctor.idempotency import Origin
from doctor.inviting import Inviting, answer_of
from doctor.rotations import Begun
from shared.crypto.signatures import Algorithm
from shared.errors import StorageError, UserError
from shared.logs import get_logger
from shared.net.stream import clock
from shared.protocol.invitations import Invitation
from shared.wire.opcodes import DisconnectReason

_NAMED = 20  # of those who are missing, in a refusal

_log = get_logger("commands")


@dataclass(frozen=True, slots=True)
class _Done:
    """A rotation that is on the disk, and the new invitation of the fleet where there was one."""

    begun: Begun
    fleet: Invitation | None


class Rotating(Inviting):
    """Rotates the doctor's keys."""

    async def rotate_keys(self, origin: Origin) -> RotationAnswer:
        """Make new keys, void the open invitations, which name the former, and have every device come back to learn the new ones.

        A fleet's invitation gets a successor at once, where replicas find it, for as many devices as it was still good for.

        Raises:
            UserError: the last rotation is not complete; names who is missing.
            StorageError: nothing has happened, or only the keys are new: the same order again notes them down.
        """
        office, before = self._office, self._office.keys.sequence

        def work(db: sqlite3.Connection) -> _Done:
            now = clock().wall
            # Where the last rotation is not noted, the disk refused that: it is what is done now.
            if rotations.is_noted(db, office.sealer, office.keys):
                self._require_complete(db)
                self._rotate(db, now)
            doctor_id = office.settings.doctor_id
            begun = rotations.note(db, office.sealer, doctor_id, office.keys, now, origin.actor)
            return _Done(begun, self._invite_fleet(db, begun, now, origin.actor))

        try:
            answer = await self._order(
                origin, ("rotate-keys",), work, self._rotated, self._rotation_answer, RotationAnswer
            )
        except StorageError:
            # The keys may be new all the same, and no session outlives its keys.
            if office.keys.sequence != before:
                self._end_sessions()
            raise
        await self.publish_waiting()
        return answer

    def rotation(self) -> RotationAnswer:
        """The last rotation, and who has not confirmed it."""
        return self._rotation_state(rotations.unconfirmed(self.reader), [])

    def _require_complete(self, db: sqlite3.Connection) -> None:
        if missing := rotations.unconfirmed(db):
            others = f" and {len(missing) - _NAMED} others" if len(missing) > _NAMED else ""
            raise UserError(
                f"Rotation {self._office.keys.sequence} is not complete: {', '.join(missing[:_NAMED])}{others} did not connect"
                " since. Switch on what is missing; retire or revoke what does not come back: it has to be enrolled again."
            )

    def _rotate(self, db: sqlite3.Connection, now: int) -> None:
        settings = self._office.settings
        # Above the time of everything that is signed with the former key, wherever the clock has been since.
        time = max(now, clock_check.newest(db) // 1000 + 1)
        state_dir = Path(settings.state_dir)
        keyring.rotate(state_dir, self._office.keys, settings.doctor_id, time, secrets.token_bytes)

    def _invite_fleet(self, db: sqlite3.Connection, begun: Begun, now: int, actor: str) -> Invitation | None:
        settings = self._office.settings
        former = next((each for each in begun.voided if each.patient_id is None), None)
        if former is None or settings.provisioning_file is None:
            return None
        lifetime = max(1, former.expires - now) if former.expires else 0
        groups = tuple(former.groups.split())
        invitation = self._invite(db, InvitationRequest(None, groups, former.uses_left, lifetime), actor)
        rotations.succeed(db, invitation.invitation_id, former.invitation_id)
        return invitation

    def _rotated(self, done: _Done) -> None:
        for voided in done.begun.voided:
            self._office.roster.set_uses(voided.invitation_id, 0)
        if not done.begun.unconfirmed:
            self._office.keys.all_confirmed(self._office.keys.sequence)
        if done.fleet is not None:
            self._keep_invitation((done.fleet, []))
            self._unpublished = answer_of(done.fleet)
        self._end_sessions()
        _log.warning("keys rotated", number=self._office.keys.sequence, members=len(done.begun.unconfirmed))

    def _end_sessions(self) -> None:
        """Those who are connected have pinned the former keys, and would drop what is signed with the new ones."""
        fanout = self._office.fanout
        for session in list(fanout.sessions.values()):
            fanout.drop_session(session)
            session.disconnect(DisconnectReason.CLOSING)

    def _rotation_answer(self, done: _Done) -> RotationAnswer:
        return self._rotation_state(
            done.begun.unconfirmed, [each.patient_id or "a fleet" for each in done.begun.voided]
        )

    def _rotation_state(self, missing: list[str], voided: list[str]) -> RotationAnswer:
        keys = self._office.keys
        began = keys.rotations[-1].time if keys.rotations else None
        names = {Algorithm(number).name.lower(): name for number, name in keys.fingerprints().items()}
        return RotationAnswer(keys.sequence, began, not missing, missing, voided, names)

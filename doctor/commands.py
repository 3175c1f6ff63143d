"""What people and programs can order of the doctor: one method an order. The HTTP API is a thin layer over this."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import sqlite3
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from doctor import audit, enrolment, groups, receipts, roster
from doctor.enrolment import InvitationRequest
from doctor.fanout import Fanout
from doctor.groups import GroupRow, Join, Leave
from doctor.journal import Journal
from doctor.keyring import Keyring
from doctor.outbox import Accepted, BroadcastRequest, Outbox, parse_message_id
from doctor.receipts import ReceiptRow
from doctor.roster import Departure, Patient, Roster
from doctor.settings import DoctorSettings
from shared.errors import UserError
from shared.logs import get_logger
from shared.net.stream import clock
from shared.protocol import invitations
from shared.protocol.doctor_handshake import OpenInvitation, Standing
from shared.protocol.invitations import Invitation
from shared.storage.keyfile import write_private
from shared.storage.sealed import Sealer
from shared.storage.sqlite import Writer

_log = get_logger("commands")


@dataclass(frozen=True, slots=True)
class LivePatient:
    """A patient with what the gateway knows of it right now."""

    patient: Patient
    state: str  # established, connecting, away, retired or revoked
    address: str | None
    suite: str | None
    epochs: dict[str, int]


class Commands:
    """Every order. The writer's transactions change the disk; their `on_commit` changes what runs, in the same order."""

    def __init__(
        self,
        settings: DoctorSettings,
        keys: Keyring,
        sealer: Sealer,
        roster_: Roster,
        outbox: Outbox,
        fanout: Fanout,
        writer: Writer,
        reader: sqlite3.Connection,
        journal: Journal,
    ) -> None:
        self.reader = reader
        self.port = settings.listen_port
        self._settings = settings
        self._keys = keys
        self._sealer = sealer
        self._roster = roster_
        self._outbox = outbox
        self._fanout = fanout
        self._writer = writer
        self._journal = journal

    # Invitations

    async def invite(
        self, patient_id: str | None, names: tuple[str, ...], hours: float | None, actor: str
    ) -> Invitation:
        """Invite one patient, or, with `patient_id` None, a fleet; a new fleet invitation voids the one before.

        Raises:
            UserError: an unknown group or a taken id. StorageError: not accepted.
        """
        fleet = patient_id is None
        lifetime = (
            hours if hours is not None else 0 if fleet else self._settings.invitation_hours
        ) * enrolment.HOUR
        uses = self._settings.fleet_uses if fleet else 1
        request = InvitationRequest(patient_id, names, uses, round(lifetime))

        def work(db: sqlite3.Connection) -> tuple[Invitation, list[bytes]]:
            voided = enrolment.void_fleet(db) if fleet else []
            return self._invite(db, request, actor), voided

        def committed(result: tuple[Invitation, list[bytes]]) -> None:
            invitation, voided = result
            for invitation_id in voided:
                self._roster.set_uses(invitation_id, 0)
            record = OpenInvitation(
                invitation.secret, invitation.expires, invitation.uses, invitation.patient_id
            )
            self._roster.put_invitation(invitation.invitation_id, record)

        invitation, _ = await self._writer.submit(work, committed)
        if fleet and self._settings.provisioning_file:
            text = invitations.to_text(invitation).encode()
            await asyncio.to_thread(_publish, Path(self._settings.provisioning_file), text)
        return invitation

    def _invite(self, db: sqlite3.Connection, request: InvitationRequest, actor: str) -> Invitation:
        return enrolment.invite(
            db,
            self._settings.doctor_id,
            self._keys,
            self.addresses,
            self._sealer,
            request,
            clock().wall,
            actor,
            secrets.token_bytes,
        )

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where devices find this doctor."""
        if self._settings.addresses:
            return self._settings.addresses
        host = self._settings.listen_host
        if host in ("0.0.0.0", "::", ""):  # noqa: S104  compared, not bound
            host = socket.gethostname()
        return (f"{host}:{self.port}",)

    async def provision_fleet_once(self) -> None:
        """At the first start, write the fleet invitation where replicas find it."""
        path = self._settings.provisioning_file
        if path and not await asyncio.to_thread(os.path.exists, path):
            await self.invite(None, (), None, "gateway")
            _log.info("fleet invitation written", path=path)

    # Messages

    async def broadcast(self, group: str, text: str, key: str | None, actor: str) -> Accepted:
        """Accept a message for everyone who is a member of the group now. It is on the disk when this returns.

        Raises:
            UserError: no such group, no such size. StorageError: not accepted.
        """
        lifetime = round(self._settings.message_hours * enrolment.HOUR)
        request = BroadcastRequest(group, text.encode(), lifetime, key)
        now = clock().wall
        return await self._writer.submit(
            lambda db: self._outbox.accept(db, request, now, actor),
            lambda accepted: None if accepted.repeated else self._fanout.publish(accepted),
        )

    def receipts(self, message_id: str) -> list[ReceiptRow]:
        """What became of a message, for each recipient.

        Raises:
            UserError: there is no such message.
        """
        stream, number = parse_message_id(message_id)
        written = {
            session.patient_id: session.attachments[stream.name].written
            for session in self._fanout.sessions.values()
            if stream.name in session.attachments
        }
        return receipts.list_receipts(self.reader, stream, number, clock().wall, written)

    # Roster

    async def revoke(self, patient_id: str, actor: str) -> Departure:
        """Expel a patient for good.

        When this returns: tombstone and audit entry are on the disk, its socket is cut, each of its groups is in a new
        epoch, and the journal says so. Whatever is accepted from now on is sealed under keys that it never held.

        Raises:
            UserError: no such patient. StorageError: nothing has happened.
        """
        departure = await self._depart(patient_id, Standing.REVOKED, actor)
        await asyncio.to_thread(self._journal.append, patient_id, clock().wall)
        return departure

    async def retire(self, patient_id: str, actor: str) -> Departure:
        """Remove a patient that is gone; with the same key it may come back.

        Raises:
            UserError: no such patient. StorageError: nothing has happened.
        """
        return await self._depart(patient_id, Standing.RETIRED, actor)

    async def _depart(self, patient_id: str, standing: Standing, actor: str) -> Departure:
        now = clock().wall

        def committed(departure: Departure) -> None:
            self._roster.put(departure.member)
            for invitation_id in departure.voided:
                self._roster.set_uses(invitation_id, 0)
            session = self._fanout.sessions.get(patient_id)
            if session is not None:
                # Out of the fan-out first, so that no epoch that begins below can count it in or reach it.
                self._fanout.drop_session(session)
                session.stream.abort()
            for leave in departure.leaves:
                self._fanout.leave(leave)
            _log.warning("patient " + standing.value, patient=patient_id)

        return await self._writer.submit(
            lambda db: roster.depart(db, patient_id, standing, now, actor), committed
        )

    def patients(self) -> list[LivePatient]:
        """Everyone on the roster, with what is known right now."""
        return [self._live(patient) for patient in roster.list_patients(self.reader)]

    def _live(self, patient: Patient) -> LivePatient:
        session = self._fanout.sessions.get(patient.patient_id)
        if session is None:
            state = "away" if patient.standing is Standing.ACTIVE else patient.standing.value
            return LivePatient(patient, state, None, None, {})
        epochs = {name: held.held_epoch for name, held in session.attachments.items() if held.held_epoch}
        state = "established" if session.positioned else "connecting"
        return LivePatient(patient, state, session.stream.peer, session.suite, epochs)

    def fleet_unseen_since(self, limit: int) -> list[str]:
        """Active fleet patients that were last seen before `limit`, in milliseconds."""
        rows = self.reader.execute(
            "SELECT patients.patient_id FROM patients JOIN invitations ON invitation = invitation_id"
            " WHERE standing = 'active' AND invitations.patient_id IS NULL AND last_seen < ?",
            (limit,),
        )
        return [row[0] for row in rows]

    # Groups

    async def create_group(self, name: str, actor: str) -> None:
        """Make a group. Raises UserError where the name is taken or not a name."""
        now = clock().wall
        await self._writer.submit(
            lambda db: groups.create(db, name, now, actor), lambda _: self._fanout.add_group(name)
        )

    async def add_member(self, group: str, patient_id: str, actor: str) -> Join:
        """Add a patient to a group: it reads what is accepted from now on."""
        now = clock().wall

        def committed(join: Join) -> None:
            self._fanout.join(join)
            self._fanout.extend(join)

        return await self._writer.submit(partial(_add, group, patient_id, now, actor), committed)

    async def remove_member(self, group: str, patient_id: str, actor: str) -> Leave:
        """Remove a patient from a group: it reads nothing that is accepted from now on."""
        now = clock().wall
        return await self._writer.submit(
            lambda db: groups.remove(db, group, patient_id, now, actor), self._fanout.leave
        )

    def list_groups(self) -> list[GroupRow]:
        """All groups with their members."""
        return groups.list_groups(self.reader)

    # Audit

    async def verify_audit(self) -> audit.Verdict:
        """Recompute the chain and compare the signed heads, on another thread."""
        identity = self._keys.identity
        path = Path(self._settings.state_dir) / "doctor.db"
        return await asyncio.to_thread(
            audit.verify_file, path, Path(self._settings.audit_dir), identity.public, identity.algorithm
        )


def _add(group: str, patient_id: str, now: int, actor: str, db: sqlite3.Connection) -> Join:
    return groups.add(db, group, patient_id, now, actor)


def _publish(path: Path, text: bytes) -> None:
    """Write the fleet invitation where the owner alone may read it.

    Raises:
        UserError: the directory is missing; says which.
    """
    if not os.path.isdir(path.parent):
        raise UserError(
            f"provisioning_file: there is no directory {path.parent}; create it or change the setting."
        )
    write_private(path, text)

"""What people and programs can order of the doctor: one method an order. The HTTP API is a thin layer over this and `questions`.

Law: the writer's transaction changes the disk; its `on_commit` changes what runs, in the same order. Nothing that runs
changes before the disk has.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import msgspec

from doctor import enrolment, groups, roster
from doctor.answers import (
    Answer,
    BroadcastAnswer,
    BroadcastOrder,
    DepartureAnswer,
    GroupAnswer,
    InvitationAnswer,
    InviteOrder,
    MemberAnswer,
    OnceOnly,
    Origin,
    Outcome,
)
from doctor.enrolment import InvitationRequest
from doctor.fanout import Fanout
from doctor.groups import Join, Leave
from doctor.journal import Journal
from doctor.keyring import Keyring
from doctor.outbox import BroadcastRequest, Outbox
from doctor.questions import Questions
from doctor.reports import Reports
from doctor.roster import Departure, Roster
from doctor.settings import DoctorSettings
from shared.errors import StorageError, UserError
from shared.logs import get_logger
from shared.net.stream import clock
from shared.protocol import invitations
from shared.protocol.doctor_handshake import OpenInvitation, Standing
from shared.protocol.invitations import Invitation
from shared.storage.keyfile import write_private
from shared.storage.sealed import Sealer
from shared.storage.sqlite import Writer
from shared.wire.opcodes import DisconnectReason

_log = get_logger("commands")

T = TypeVar("T")
A = TypeVar("A", bound=Answer)


class Commands(Questions):
    """Every order; whoever may give orders may ask questions.

    Args:
        settings, keys, sealer: the doctor's own.
        roster_: the handshake's view of the roster.
        outbox: accepts messages.
        fanout: groups and sessions at work.
        writer, reader: the database.
        journal: the revocations outside it.
        reports: what patients report.
    """

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
        reports: Reports,
    ) -> None:
        super().__init__(settings, keys, fanout, writer, reader, reports)
        self.port = settings.listen_port
        self.journal_behind = False
        self._sealer = sealer
        self._once = OnceOnly(sealer)
        self._roster = roster_
        self._outbox = outbox
        self._journal = journal

    async def _order(
        self,
        origin: Origin,
        asked: tuple[object, ...],
        work: Callable[[sqlite3.Connection], T],
        effect: Callable[[T], None],
        answer: Callable[[T], A],
        kind: type[A],
    ) -> A:
        """Carry out one order, once for each Idempotency-Key.

        Raises:
            UserError: it cannot be done. StorageError: nothing has happened.
        """
        now = clock().wall

        def committed(outcome: Outcome[T]) -> None:
            if outcome.done is not None:
                effect(outcome.done)

        outcome = await self._writer.submit(
            lambda db: self._once.carry_out(db, origin, asked, now, work, answer), committed
        )
        return msgspec.json.decode(outcome.answer, type=kind)

    # Invitations

    async def invite(self, order: InviteOrder, origin: Origin) -> InvitationAnswer:
        """Invite one patient, or, without an id, a fleet; a new fleet invitation voids the one before.

        Raises:
            UserError: an unknown group or a taken id. StorageError: nothing has happened.
        """
        fleet = order.patient is None
        hours = order.hours or (None if fleet else self._settings.invitation_hours)
        lifetime = (
            max(1, round(hours * enrolment.HOUR)) if hours else 0
        )  # rounded down to 0, it would never expire
        uses = self._settings.fleet_uses if fleet else 1
        request = InvitationRequest(order.patient, tuple(order.groups), uses, lifetime)

        def work(db: sqlite3.Connection) -> tuple[Invitation, list[bytes]]:
            voided = enrolment.void_fleet(db) if fleet else []
            return self._invite(db, request, origin.actor), voided

        asked = ("invite", order)
        answer = await self._order(origin, asked, work, self._keep_invitation, _invited, InvitationAnswer)
        if fleet and self._settings.provisioning_file and self._is_open(answer):
            path = Path(self._settings.provisioning_file)
            await asyncio.to_thread(_publish, path, answer.invitation.encode())
        return answer

    def _is_open(self, answer: InvitationAnswer) -> bool:
        """Whether the invitation still admits anybody: a repeated order gets an old answer, which may be void."""
        held = self._roster.invitation(invitations.from_text(answer.invitation).invitation_id)
        return held is not None and held.uses_left > 0

    def _keep_invitation(self, made: tuple[Invitation, list[bytes]]) -> None:
        invitation, voided = made
        for invitation_id in voided:
            self._roster.set_uses(invitation_id, 0)
        record = OpenInvitation(invitation.secret, invitation.expires, invitation.uses, invitation.patient_id)
        self._roster.put_invitation(invitation.invitation_id, record)

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
        if ":" in host:
            host = f"[{host}]"
        return (f"{host}:{self.port}",)

    async def provision_fleet_once(self) -> None:
        """At the first start, write the fleet invitation where replicas find it."""
        path = self._settings.provisioning_file
        if path and not await asyncio.to_thread(os.path.exists, path):
            await self.invite(InviteOrder(), Origin("gateway"))
            _log.info("fleet invitation written", path=path)

    # Messages

    async def broadcast(self, order: BroadcastOrder, origin: Origin) -> BroadcastAnswer:
        """Accept a message for everyone who is a member of the group now. It is on the disk when this returns.

        Raises:
            UserError: no such group, no such size. StorageError: not accepted.
        """
        lifetime = round(self._settings.message_hours * enrolment.HOUR)
        request = BroadcastRequest(order.group, order.text.encode(), lifetime)
        now = clock().wall
        return await self._order(
            origin,
            ("broadcast", order),
            lambda db: self._outbox.accept(db, request, now, origin.actor),
            self._fanout.publish,
            lambda done: BroadcastAnswer(done.message_id, done.stream.name, done.number, done.recipients),
            BroadcastAnswer,
        )

    # Roster

    async def revoke(self, patient_id: str, origin: Origin) -> DepartureAnswer:
        """Expel a patient for good.

        When this returns: tombstone and audit entry are on the disk, its socket is cut, each of its groups is in a new
        epoch, and the journal says so. Whatever is accepted from now on is sealed under keys that it never held.

        Raises:
            UserError: no such patient. StorageError: nothing has happened.
        """
        answer = await self._depart(patient_id, Standing.REVOKED, origin)
        try:
            await asyncio.to_thread(self._journal.append, patient_id, clock().wall)
        except StorageError as error:
            # The revocation stands; to call it off now would be false. The journal is completed later.
            _log.error("journal behind", patient=patient_id, cause=str(error))
            self.journal_behind = True
        return answer

    def complete_journal(self) -> None:
        """Called now and then: write what the disk refused before."""
        if self.journal_behind:
            try:
                self._journal.reconcile(self.reader, clock().wall)
            except StorageError as error:
                _log.error("journal behind", cause=str(error))
            else:
                self.journal_behind = False

    async def retire(self, patient_id: str, origin: Origin) -> DepartureAnswer:
        """Remove a patient that is gone; with the same key it may come back.

        Raises:
            UserError: no such patient. StorageError: nothing has happened.
        """
        return await self._depart(patient_id, Standing.RETIRED, origin)

    async def _depart(self, patient_id: str, standing: Standing, origin: Origin) -> DepartureAnswer:
        now = clock().wall

        def answer(done: Departure) -> DepartureAnswer:
            return DepartureAnswer(patient_id, standing.value, [leave.group for leave in done.leaves])

        return await self._order(
            origin,
            (standing.value, patient_id),
            lambda db: roster.depart(db, patient_id, standing, now, origin.actor),
            self._departed,
            answer,
            DepartureAnswer,
        )

    def _departed(self, departure: Departure) -> None:
        member = departure.member
        self._roster.put(member)
        for invitation_id in departure.voided:
            self._roster.set_uses(invitation_id, 0)
        session = self._fanout.sessions.get(member.patient_id)
        if session is not None:
            # Out of the fan-out first, so that no epoch that begins below can count it in or reach it.
            self._fanout.drop_session(session)
            # The device is told, if its socket takes it; cut off it is in any case.
            reason = (
                DisconnectReason.REVOKED if member.standing is Standing.REVOKED else DisconnectReason.RETIRED
            )
            session.connection.disconnect(reason)
            session.stream.flush()
            session.stream.abort()
        self._fanout.leave(*departure.leaves)
        _log.warning("patient left the roster", patient=member.patient_id, reason=member.standing.value)

    # Groups

    async def create_group(self, name: str, origin: Origin) -> GroupAnswer:
        """Make a group. Raises UserError where the name is taken or not a name."""
        now = clock().wall

        def work(db: sqlite3.Connection) -> str:
            groups.create(db, name, now, origin.actor)
            return name

        return await self._order(
            origin,
            ("create", name),
            work,
            self._fanout.add_group,
            lambda created: GroupAnswer(created, 1, []),
            GroupAnswer,
        )

    async def add_member(self, group: str, patient_id: str, origin: Origin) -> MemberAnswer:
        """Add a patient to a group: it reads what is accepted from now on. Raises UserError."""
        now = clock().wall

        def effect(join: Join) -> None:
            self._fanout.join(join)
            self._fanout.extend(join)

        return await self._order(
            origin,
            ("add", group, patient_id),
            lambda db: groups.add(db, group, patient_id, now, origin.actor),
            effect,
            lambda join: MemberAnswer(join.group, join.patient_id, join.start),
            MemberAnswer,
        )

    async def remove_member(self, group: str, patient_id: str, origin: Origin) -> MemberAnswer:
        """Remove a patient from a group: it reads nothing that is accepted from now on. Raises UserError."""
        now = clock().wall

        def answer(leave: Leave) -> MemberAnswer:
            return MemberAnswer(leave.group, leave.patient_id, leave.until)

        return await self._order(
            origin,
            ("remove", group, patient_id),
            lambda db: groups.remove(db, group, patient_id, now, origin.actor),
            self._fanout.leave,
            answer,
            MemberAnswer,
        )


def _invited(made: tuple[Invitation, list[bytes]]) -> InvitationAnswer:
    invitation = made[0]
    return InvitationAnswer(
        invitations.to_text(invitation),
        invitation.patient_id,
        invitation.groups,
        invitation.uses,
        invitation.expires,
    )


def _publish(path: Path, text: bytes) -> None:
    """Write the fleet invitation where the owner alone may read it.

    Raises:
        UserError: the directory is missing; says which.
    """
    if not path.parent.is_dir():
        raise UserError(
            f"provisioning_file: there is no directory {path.parent}; create it or change the setting."
        )
    write_private(path, text)

"""Orders about invitations: to one patient, or to a fleet, whose invitation is written where its replicas find it."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import sqlite3
from pathlib import Path

from doctor import enrolment
from doctor.answers import InvitationAnswer
from doctor.desk import Desk, Office
from doctor.enrolment import InvitationRequest
from doctor.idempotency import Origin
from doctor.orders import InviteOrder
from doctor.settings import WILDCARDS, DoctorSettings
from shared.errors import StorageError, UserError
from shared.logs import get_logger
from shared.net.stream import clock
from shared.protocol import invitations
from shared.protocol.doctor_handshake import OpenInvitation
from shared.protocol.invitations import Invitation
from shared.storage.keyfile import write_private

_log = get_logger("commands")


class Inviting(Desk):
    """Invites. `port` is the device port in use."""

    def __init__(self, office: Office) -> None:
        super().__init__(office)
        self.port = office.settings.listen_port
        self._unpublished: InvitationAnswer | None = None
        self._publishing = asyncio.Lock()  # else one that is void by now could be written over its successor

    async def invite(self, order: InviteOrder, origin: Origin) -> InvitationAnswer:
        """Invite one patient, or, without an id, a fleet; a new fleet invitation voids the one before.

        Raises:
            UserError: an unknown group or a taken id. StorageError: nothing has happened.
        """
        fleet = order.patient is None
        hours = order.hours or (None if fleet else self._office.settings.invitation_hours)
        lifetime = (
            max(1, round(hours * enrolment.HOUR)) if hours else 0
        )  # rounded down to 0, it would never expire
        uses = self._office.settings.fleet_uses if fleet else 1
        request = InvitationRequest(order.patient, tuple(order.groups), uses, lifetime)

        def work(db: sqlite3.Connection) -> tuple[Invitation, list[bytes]]:
            voided = enrolment.void_fleet(db) if fleet else []
            return self._invite(db, request, origin.actor), voided

        if fleet:
            self._require_provisioning_directory()
        asked = ("invite", order)
        answer = await self._order(origin, asked, work, self._keep_invitation, _invited, InvitationAnswer)
        if fleet:
            if self._is_open(answer):
                self._unpublished = answer
            await self.publish_waiting()
        return answer

    async def publish_waiting(self) -> None:
        """Write the fleet invitation where its replicas find it, if it is not there yet; called now and then as well.

        What the disk refuses is tried again: the invitation stands, and the one that is in the file is void.
        """
        async with self._publishing:
            answer, name = self._unpublished, self._office.settings.provisioning_file
            if answer is not None and name and self._is_open(answer):
                try:
                    await asyncio.to_thread(write_private, Path(name), answer.invitation.encode())
                except StorageError as error:
                    _log.error("fleet invitation not written", cause=str(error))
                    return
            if self._unpublished is answer:
                self._unpublished = None

    def _require_provisioning_directory(self) -> None:
        name = self._office.settings.provisioning_file
        if name and not Path(name).parent.is_dir():
            raise UserError(
                f"provisioning_file: there is no directory {Path(name).parent}; create it or change the setting."
            )

    def _is_open(self, answer: InvitationAnswer) -> bool:
        """Whether the invitation still admits anybody: a repeated order gets an old answer, which may be void."""
        held = self._office.roster.invitation(invitations.from_text(answer.invitation).invitation_id)
        return held is not None and held.uses_left > 0

    def _keep_invitation(self, made: tuple[Invitation, list[bytes]]) -> None:
        invitation, voided = made
        for invitation_id in voided:
            self._office.roster.set_uses(invitation_id, 0)
        record = OpenInvitation(invitation.secret, invitation.expires, invitation.uses, invitation.patient_id)
        self._office.roster.put_invitation(invitation.invitation_id, record)

    def _invite(self, db: sqlite3.Connection, request: InvitationRequest, actor: str) -> Invitation:
        return enrolment.invite(
            db,
            self._office.settings.doctor_id,
            self._office.keys,
            self.addresses,
            self._office.sealer,
            request,
            clock().wall,
            actor,
            secrets.token_bytes,
        )

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where devices find this doctor."""
        return addresses_of(self._office.settings, self.port)

    async def provision_fleet_once(self) -> None:
        """At the first start, write the fleet invitation where replicas find it."""
        path = self._office.settings.provisioning_file
        if self._office.restoration.pending is not None:
            return
        if path and not await asyncio.to_thread(os.path.exists, path):
            await self.invite(InviteOrder(), Origin("gateway"))
            _log.info("fleet invitation written", path=path)


def addresses_of(settings: DoctorSettings, port: int) -> tuple[str, ...]:
    """What invitations tell devices to connect to. `port`: the device port in use."""
    if settings.addresses:
        return settings.addresses
    host = settings.listen_host
    if host in WILDCARDS:
        host = socket.gethostname()
    if ":" in host:
        host = f"[{host}]"
    return (f"{host}:{port}",)


def _invited(made: tuple[Invitation, list[bytes]]) -> InvitationAnswer:
    return answer_of(made[0])


def answer_of(invitation: Invitation) -> InvitationAnswer:
    """An invitation as it is told to whoever asked for it."""
    return InvitationAnswer(
        invitations.to_text(invitation),
        invitation.patient_id,
        invitation.groups,
        invitation.uses,
        invitation.expires,
    )

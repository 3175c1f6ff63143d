"""Orders that remove a patient: revoked for good, or retired until it comes back."""

from __future__ import annotations

import msgspec

from doctor import roster
from doctor.answers import DepartureAnswer
from doctor.desk import Desk, Office
from doctor.idempotency import Origin
from doctor.roster import Departure
from shared.logs import get_logger
from shared.net.stream import clock
from shared.protocol.doctor_handshake import Standing
from shared.wire.opcodes import DisconnectReason

_log = get_logger("commands")


class Departures(Desk):
    """Revokes and retires."""

    def __init__(self, office: Office) -> None:
        super().__init__(office)
        self._excluded_in: dict[tuple[str, Standing], int] = {}  # ms

    async def revoke(self, patient_id: str, origin: Origin) -> DepartureAnswer:
        """Expel a patient for good.

        When this returns: tombstone and audit entry are on the disk, its socket is cut, each of its groups is in a new
        epoch, and the journal says so, or will when its disk takes it. Whatever is accepted from now on is sealed under keys
        that it never held.

        Raises:
            UserError: no such patient. StorageError: nothing has happened.
        """
        return await self._depart(patient_id, Standing.REVOKED, origin)

    async def retire(self, patient_id: str, origin: Origin) -> DepartureAnswer:
        """Remove a patient that is gone; with the same key it may come back.

        Raises:
            UserError: no such patient. StorageError: nothing has happened.
        """
        return await self._depart(patient_id, Standing.RETIRED, origin)

    async def _depart(self, patient_id: str, standing: Standing, origin: Origin) -> DepartureAnswer:
        started = clock()

        def answer(done: Departure) -> DepartureAnswer:
            return DepartureAnswer(patient_id, standing.value, done.groups)

        answered = await self._order(
            origin,
            (standing.value, patient_id),
            lambda db: roster.depart(db, patient_id, standing, started.wall, origin.actor),
            lambda departure: self._departed(departure, started.elapsed),
            answer,
            DepartureAnswer,
            unconfirmed=standing is Standing.REVOKED,
        )
        # Measured behind the commit, so it cannot stand in the stored answer.
        return msgspec.structs.replace(answered, excluded_in_ms=self._excluded_in.get((patient_id, standing)))

    def _departed(self, departure: Departure, started: int) -> None:
        member = departure.member
        self._office.roster.put(member)
        for invitation_id in departure.voided:
            self._office.roster.set_uses(invitation_id, 0)
        if departure.completed is not None:
            self._office.keys.all_confirmed(departure.completed)
        session = self._office.fanout.sessions.get(member.patient_id)
        if session is not None:
            # Out of the fan-out first, so that no epoch that begins below can count it in or reach it.
            self._office.fanout.drop_session(session)
            # The device is told, if its socket takes it; cut off it is in any case.
            reason = (
                DisconnectReason.REVOKED if member.standing is Standing.REVOKED else DisconnectReason.RETIRED
            )
            session.disconnect(reason)
            session.stream.abort()
        self._office.fanout.leave(*departure.leaves)
        took = self._excluded_in[member.patient_id, member.standing] = clock().elapsed - started
        _log.warning(
            "patient left the roster",
            patient=member.patient_id,
            reason=member.standing.value,
            excluded_in_ms=took,
        )

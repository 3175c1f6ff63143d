"""Orders about groups and who is in them."""

from __future__ import annotations

import sqlite3

from doctor import groups, streams
from doctor.answers import GroupAnswer, MemberAnswer
from doctor.desk import Desk
from doctor.idempotency import Origin
from doctor.streams import Join, Leave
from shared.net.stream import clock


class Grouping(Desk):
    """Makes groups, adds and removes members."""

    async def create_group(self, name: str, origin: Origin) -> GroupAnswer:
        """Make a group. Raises UserError where the name is taken or not a name."""
        now = clock().wall

        def work(db: sqlite3.Connection) -> int:
            groups.create(db, name, now, origin.actor)
            return streams.last_number(db, streams.of_group(name))

        return await self._order(
            origin,
            ("create", name),
            work,
            lambda last: self._office.fanout.add_group(name, last),
            lambda _: GroupAnswer(name, 1, []),
            GroupAnswer,
        )

    async def add_member(self, group: str, patient_id: str, origin: Origin) -> MemberAnswer:
        """Add a patient to a group: it reads what is accepted from now on. Raises UserError."""
        now = clock().wall

        def effect(join: Join) -> None:
            self._office.fanout.join(join)
            self._office.fanout.extend(join)

        return await self._order(
            origin,
            ("add", group, patient_id),
            lambda db: groups.add(db, group, patient_id, now, origin.actor),
            effect,
            lambda join: MemberAnswer(join.stream.name, join.patient_id, join.start),
            MemberAnswer,
        )

    async def remove_member(self, group: str, patient_id: str, origin: Origin) -> MemberAnswer:
        """Remove a patient from a group: it reads nothing that is accepted from now on. Raises UserError."""
        now = clock().wall

        def answer(leave: Leave) -> MemberAnswer:
            return MemberAnswer(leave.stream.name, leave.patient_id, leave.until)

        return await self._order(
            origin,
            ("remove", group, patient_id),
            lambda db: groups.remove(db, group, patient_id, now, origin.actor),
            self._office.fanout.leave,
            answer,
            MemberAnswer,
        )

"""Orders to send: a broadcast to a group."""

from __future__ import annotations

from doctor.answers import BroadcastAnswer, BroadcastOrder, Origin
from doctor.desk import Desk
from doctor.enrolment import HOUR
from doctor.outbox import BroadcastRequest
from shared.net.stream import clock


class Messaging(Desk):
    """Accepts messages."""

    async def broadcast(self, order: BroadcastOrder, origin: Origin) -> BroadcastAnswer:
        """Accept a message for everyone who is a member of the group now. It is on the disk when this returns.

        Raises:
            UserError: no such group, no such size. StorageError: not accepted.
        """
        lifetime = round(self._office.settings.message_hours * HOUR)
        request = BroadcastRequest(order.group, order.text.encode(), lifetime)
        now = clock().wall
        return await self._order(
            origin,
            ("broadcast", order),
            lambda db: self._office.outbox.accept(db, request, now, origin.actor),
            self._office.fanout.publish,
            lambda done: BroadcastAnswer(done.message_id, done.stream.name, done.number, done.recipients),
            BroadcastAnswer,
        )

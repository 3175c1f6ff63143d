"""Orders to send: a broadcast to a group, a message to one patient. It is on the disk when the order returns."""

from __future__ import annotations

from doctor import streams
from doctor.answers import BroadcastAnswer, MessageAnswer
from doctor.desk import Desk
from doctor.enrolment import HOUR
from doctor.idempotency import Origin
from doctor.orders import BroadcastOrder, MessageOrder
from doctor.outbox import MessageRequest
from shared.net.stream import clock
from shared.wire.messages import Stream


class Messaging(Desk):
    """Accepts messages."""

    async def broadcast(self, order: BroadcastOrder, origin: Origin) -> BroadcastAnswer:
        """Accept a message for everyone who is a member of the group now.

        Raises:
            UserError: no such group, no such size. StorageError: not accepted.
        """
        request = self._request(streams.of_group(order.group), order.text, order.hours)
        now = clock().wall
        return await self._order(
            origin,
            ("broadcast", order),
            lambda db: self._office.outbox.accept(db, request, now, origin.actor),
            self._office.fanout.publish,
            lambda done: BroadcastAnswer(done.message_id, done.stream.name, done.number, done.recipients),
            BroadcastAnswer,
        )

    async def send(self, patient_id: str, order: MessageOrder, origin: Origin) -> MessageAnswer:
        """Accept a message for one patient alone; no other can read it.

        Raises:
            UserError: no such patient, or it is revoked or retired; no such size. StorageError: not accepted.
        """
        request = self._request(streams.of_patient(patient_id), order.text, order.hours)
        now = clock().wall
        return await self._order(
            origin,
            ("send", patient_id, order),
            lambda db: self._office.outbox.accept(db, request, now, origin.actor),
            self._office.fanout.publish,
            lambda done: MessageAnswer(done.message_id, done.stream.name, done.number),
            MessageAnswer,
        )

    def _request(self, stream: Stream, text: str, hours: float | None) -> MessageRequest:
        lifetime = max(1, round((hours or self._office.settings.message_hours) * HOUR))
        return MessageRequest(stream, text.encode(), lifetime)

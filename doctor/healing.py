"""What one device says that it lacks: remembered until it is answered, and answered not more often than it may ask.

Law: no question is dropped. A device that asks faster than it is answered, or whose socket is full, is answered later from the last
position that it told; so nothing depends on its asking again. What cannot be healed is told to the doctor, with the reason.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from doctor.fanout import Fanout
from doctor.sessions import Session
from shared.logs import get_logger
from shared.net.stream import clock
from shared.protocol.events import ResendRequested
from shared.protocol.resend_requests import ASK_INTERVAL
from shared.wire.messages import Stream

_log = get_logger("gateway")

# A device leaves a second between two questions; on their way here they may come closer together.
INTERVAL = ASK_INTERVAL // 2
FOREIGN_STREAMS = 256  # that are remembered of one device; its own are as many as it has memberships


@dataclass(frozen=True, slots=True)
class _Gap:
    """The device has applied up to `position`; `key_id` is of the broadcast that it could not open, or empty."""

    position: int
    key_id: bytes


class Healing:
    """Answers one session's questions.

    Args:
        session: whose questions they are.
        fanout: has the streams.
    """

    def __init__(self, session: Session, fanout: Fanout) -> None:
        self._session = session
        self._fanout = fanout
        self._waiting: dict[Stream, _Gap] = {}
        self._answered_at = -INTERVAL
        self._asked_for_others = False
        self._timer: asyncio.TimerHandle | None = None

    def ask(self, asked: ResendRequested) -> None:
        """Take a question, whose positions have passed V-090."""
        for position in asked.positions:
            own = position.stream in self._session.attachments
            if own or position.stream in self._waiting or len(self._waiting) < FOREIGN_STREAMS:
                self._waiting[position.stream] = _Gap(position.last, asked.key_id)
        self.answer_soon()

    def answer_soon(self) -> None:
        """Answer what waits, as soon as it is time and the socket takes more."""
        if not self._waiting or self._timer is not None or not self._session.writable:
            return
        delay = self._answered_at + INTERVAL - clock().elapsed
        if delay > 0:
            self._timer = asyncio.get_running_loop().call_later(delay / 1000, self._ring)
        else:
            self._answer()

    def close(self) -> None:
        """The session has ended: the next one begins with where the device stands."""
        if self._timer is not None:
            self._timer.cancel()
        self._waiting.clear()

    def _ring(self) -> None:
        self._timer = None
        if self._session.writable:
            self._answer()

    def _answer(self) -> None:
        self._answered_at = clock().elapsed
        waiting, self._waiting = self._waiting, {}
        healed = [self._send_again(stream, gap) for stream, gap in waiting.items()]
        keys = {gap.key_id for gap in waiting.values()} - {b""}
        if keys and not any(healed):
            epochs = " and ".join(sorted(self._epoch_of(key_id) for key_id in keys))
            self._tell(f"it cannot open a broadcast of {epochs}, though it has all that it was sent")

    def _send_again(self, stream: Stream, gap: _Gap) -> bool:
        """Whether there was something to send again."""
        attachment = self._session.attachments.get(stream)
        if attachment is None:
            if (
                not self._asked_for_others
            ):  # once a session: it may ask for hundreds, twice a second and without end
                self._asked_for_others = True
                _log.warning("cannot send again: not a recipient", stream=str(stream), **self._session.who)
            self._tell(f"it asked for {stream}, of which it is no recipient")
            return False
        missing = self._fanout.catch_up.send_again_from(attachment, gap.position)
        _log.info(
            "sent again on request",
            stream=str(stream),
            position=gap.position,
            epoch=attachment.held_epoch,
            result="missing" if missing else "nothing was missing",
            reason="unknown key" if gap.key_id else "gap",
            **self._session.who,
        )
        return missing

    def _epoch_of(self, key_id: bytes) -> str:
        for group in self._fanout.groups.values():
            if group.epoch is not None and group.epoch.key_id == key_id:
                member = "" if self._session.patient_id in group.members else ", where it is no member"
                return f"epoch {group.epoch_number} of {group.name}{member}"
        return "an epoch that has passed"

    def _tell(self, cause: str) -> None:
        self._fanout.troubles.note(self._session.patient_id, cause, clock().wall)

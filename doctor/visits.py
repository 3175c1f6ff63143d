"""A visit is one connection to the device port, from its first byte to its last: handshake, admission, session.

The protocol's verdicts come as events; what a visit adds is the roster's transaction, and V-090, which needs to know what was
ever sent to a patient. It never looks into a message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from doctor import audit, enrolment
from doctor.audit import Action
from doctor.door import Budget, DoorKeeper, Replacements
from doctor.enrolment import Admission, AdmissionRefused
from doctor.fanout import Fanout
from doctor.receipts import Acknowledgement, Receipts
from doctor.reports import Reports
from doctor.roster import Roster
from doctor.sessions import Attachment, Session
from shared.crypto.suites import SUITES
from shared.errors import StorageError
from shared.logs import get_logger
from shared.net.stream import Stream, clock
from shared.protocol.clock import SECOND
from shared.protocol.doctor_connection import DoctorConnection
from shared.protocol.doctor_handshake import Practice
from shared.protocol.events import (
    Alerted,
    Disconnected,
    Event,
    Failed,
    Positioned,
    Receipted,
    Reported,
    ResendRequested,
    Traced,
    Verified,
)
from shared.storage.sqlite import Writer
from shared.wire.checks import Check
from shared.wire.messages import Position, Report, TargetKind
from shared.wire.messages import Stream as MessageStream
from shared.wire.opcodes import DisconnectReason

_log = get_logger("gateway")

RESEND_INTERVAL = 1 * SECOND


@dataclass(frozen=True, slots=True)
class House:
    """What all visits share."""

    practice: Practice
    roster: Roster
    fanout: Fanout
    receipts: Receipts
    writer: Writer
    door: DoorKeeper
    reports: Reports
    replacements: Replacements = field(default_factory=Replacements)
    entries: Budget = field(default_factory=Budget)  # audit entries about refusals
    visits: set[Visit] = field(default_factory=set)  # those that are connected


class DeviceStream(Stream[DoctorConnection]):
    """A device's TCP connection; over the limit of half-open ones it is closed before a byte is read."""

    def __init__(
        self,
        connection: DoctorConnection,
        visit: Visit,
        on_open: Callable[[str], bool],
    ) -> None:
        super().__init__(connection, visit.on_events, visit.on_closed, visit.on_writable)
        self._on_open = on_open

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask at the door first."""
        address = transport.get_extra_info("peername")
        host = address[0] if address else "?"
        self.connection.address = host
        if self._on_open(host):
            super().connection_made(transport)
        else:
            self.connection.disconnect(DisconnectReason.CLOSING)
            cast(asyncio.Transport, transport).abort()


def _attachment(session: Session, stream: MessageStream) -> Attachment | None:
    return session.attachments.get(stream.name) if stream.kind is TargetKind.GROUP else None


class Visit:
    """One connection to the device port."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._session: Session | None = None
        self._host: str | None = None
        self._asked_at = -RESEND_INTERVAL
        self.stream = DeviceStream(DoctorConnection(house.practice, clock()), self, self._enter)

    # From the stream

    def on_events(self, events: Sequence[Event]) -> None:
        """Act on what the protocol says has happened."""
        for event in events:
            match event:
                case Traced():
                    self._log_step(event)
                case Verified():
                    self._ask_admission(event)
                case Positioned():
                    self._begin_delivery(event.positions)
                case Receipted():
                    self._take_receipt(event.positions)
                case ResendRequested():
                    self._send_again(event)
                case Reported():
                    self._keep_report(event.report)
                case Failed():
                    self._log_failure(event)
                case Alerted():
                    _log.info("the device ended the connection", alert=event.code.name, **self._who())
                case Disconnected():
                    _log.info("the device signed off", reason=event.reason.name, **self._who())
                case _:
                    raise AssertionError(f"a doctor's connection emits no {type(event).__name__}")

    def on_writable(self) -> None:
        """The device reads again."""
        if self._session is not None:
            self._house.fanout.resume(self._session)

    def on_closed(self) -> None:
        """The connection is gone."""
        self._leave_door()
        self._house.visits.discard(self)
        if self._session is not None:
            self._house.fanout.drop_session(self._session)
            _log.info("session ended", **self._who())
        else:
            _log.debug("connection closed", **self._who())

    # From the gateway

    def hang_up(self, reason: DisconnectReason) -> None:
        """End the session in good order, or just the connection where there is none yet."""
        self.stream.connection.disconnect(reason)
        self.stream.flush()

    # Steps

    def _enter(self, host: str) -> bool:
        if not self._house.door.enter(host):
            _log.warning("too many unfinished handshakes", host=host)
            return False
        self._host = host
        self._house.visits.add(self)
        _log.debug("connection opened", host=host)
        return True

    def _leave_door(self) -> None:
        if self._host is not None:
            self._house.door.leave(self._host)
            self._host = None

    def _ask_admission(self, verified: Verified) -> None:
        now, peer = clock().wall, self.stream.peer
        _log.info(
            "verified",
            patient=verified.patient_id,
            suite=SUITES[verified.suite].name,
            skew_s=(verified.patient_clock - verified.doctor_clock) / 1000,
            address=peer,
        )
        if self._house.replacements.paused(verified.patient_id, clock().elapsed):
            detail = f"{verified.patient_id}: its sessions replace one another; two devices may hold one key"
            self.stream.connection.refuse(Check.NOT_PAUSED, detail, clock())  # V-064
            return

        def decided(future: asyncio.Future[Admission]) -> None:
            error = None if future.cancelled() else future.exception()
            if isinstance(error, AdmissionRefused):
                self.stream.connection.refuse(error.check, error.detail, clock())
                self.stream.flush()
            elif error is not None:
                self._could_not_store(error)

        self._house.writer.submit_nowait(
            lambda db: enrolment.admit(db, verified, now, peer),
            lambda admission: self._admitted(verified, admission),
        ).add_done_callback(decided)

    def _could_not_store(self, error: BaseException) -> None:
        """A disk that refuses must not look like a refusal of the patient: cut, and let it come again."""
        _log.error("admission not stored", cause=str(error), **self._who())
        self.stream.abort()
        if not isinstance(error, StorageError):
            raise error

    def _admitted(self, verified: Verified, admission: Admission) -> None:
        """Called in commit order: from here on the patient is a member, whatever becomes of this connection."""
        fanout, roster = self._house.fanout, self._house.roster
        roster.put(admission.member)
        if admission.invitation_id is not None:
            roster.set_uses(admission.invitation_id, admission.uses_left)
        if not self.stream.open or self.stream.connection.ended:
            # The disk took longer than the handshake may; the patient is in, and its next connection is admitted at once.
            _log.warning("admitted after its connection had ended", patient=verified.patient_id)
        else:
            self._leave_door()
            suite = SUITES[verified.suite].name
            session = Session(verified.patient_id, self.stream, verified.contribution, suite)
            self._session = session
            replaced = fanout.add_session(session, admission.memberships)
            if replaced is not None:
                self._replace(replaced)
            _log.info("established", patient=verified.patient_id, suite=suite, address=self.stream.peer)
        for joined in admission.joins:
            fanout.join(joined)
        if self._session is not None:
            self.stream.connection.admit(clock())
            self.stream.flush()

    def _replace(self, replaced: Session) -> None:
        replaced.connection.disconnect(DisconnectReason.REPLACED)
        replaced.stream.flush()
        if self._house.replacements.note(replaced.patient_id, clock().elapsed):
            _log.warning("replaced too often: two devices may hold one key", **self._who())
            detail = f"{replaced.stream.peer} by {self.stream.peer}"
            self._record(Action.REPLACED_OFTEN, replaced.patient_id, detail)

    def _begin_delivery(self, positions: Sequence[Position]) -> None:
        session = self._session
        assert session is not None  # noqa: S101  positions come after the admission
        if not self._take_receipt(positions):
            return
        reported = {
            position.stream.name: position.last
            for position in positions
            if position.stream.kind is TargetKind.GROUP
        }
        self._house.fanout.begin_delivery(session, reported)

    def _take_receipt(self, positions: Sequence[Position]) -> bool:
        """Note what is acknowledged; False where the connection had to be ended."""
        session = self._session
        assert session is not None  # noqa: S101  receipts come after the admission
        for position in positions:
            attachment = _attachment(session, position.stream)
            if not self._was_issued(attachment, position):
                return False
            if attachment is not None:
                self._acknowledge(attachment, position)
        return True

    def _was_issued(self, attachment: Attachment | None, position: Position) -> bool:
        """V-090: whether the patient can stand there; if not, its connection is ended."""
        issued = self._house.fanout.last_issued(attachment) if attachment else 0
        if position.last <= issued:
            return True
        detail = f"{position.stream}: {position.last} acknowledged, {issued} is the last that was issued"
        self.stream.connection.fail(Check.RECEIPT_ISSUED, detail, clock())  # V-090
        return False

    def _send_again(self, asked: ResendRequested) -> None:
        """Heal what a device says it lacks, or tell the doctor why it cannot be healed. At most once a second."""
        session, elapsed = self._session, clock().elapsed
        assert session is not None  # noqa: S101  records come after the admission
        if elapsed - self._asked_at < RESEND_INTERVAL:
            return
        self._asked_at = elapsed
        for position in asked.positions:
            attachment = _attachment(session, position.stream)
            if attachment is None:
                _log.warning("cannot send again: not a recipient", stream=str(position.stream), **self._who())
                continue
            if not self._was_issued(attachment, position):
                return
            missing = self._house.fanout.send_again_from(attachment, position.last)
            _log.info(
                "sent again on request",
                stream=str(position.stream),
                position=position.last,
                epoch=attachment.held_epoch,
                result="missing" if missing else "nothing was missing",
                reason="unknown key" if asked.key_id else "gap",
                **self._who(),
            )

    def _keep_report(self, report: Report) -> None:
        session = self._session
        assert session is not None  # noqa: S101  records come after the admission
        now, patient_id = clock().wall, session.patient_id

        def kept(future: asyncio.Future[bytes]) -> None:
            error = None if future.cancelled() else future.exception()
            if isinstance(error, StorageError):
                # Not acknowledged: the device keeps it and sends it again.
                _log.error("report not stored", cause=str(error), **self._who())
            elif error is not None:
                raise error

        self._house.writer.submit_nowait(
            lambda db: self._house.reports.store(db, patient_id, report, now), self._acknowledge_report
        ).add_done_callback(kept)

    def _acknowledge_report(self, report_id: bytes) -> None:
        if self.stream.open and not self.stream.connection.ended:
            self.stream.connection.acknowledge_reports([report_id])
            self.stream.flush()

    def _acknowledge(self, attachment: Attachment, position: Position) -> None:
        if position.last <= attachment.delivered:
            return
        # What was acknowledged before stays what it was: only the numbers of this receipt can have expired in it.
        new = range(attachment.delivered + 1, position.last + 1)
        attachment.note_delivered(position.last, clock().elapsed)
        self._house.receipts.record(
            Acknowledgement(
                position.stream,
                attachment.session.patient_id,
                position.last,
                tuple(number for number in position.expired if number in new),
            )
        )

    # Logs

    def _who(self) -> dict[str, str]:
        who = {"address": self.stream.peer}
        if self._session is not None:
            who["patient"] = self._session.patient_id
        return who

    def _log_step(self, step: Traced) -> None:
        checks = " ".join(check.number for check in step.checks)
        _log.debug(
            "handshake",
            direction=step.direction.value,
            message=step.message,
            opcode=step.opcode,
            size=step.size,
            check=checks,
            address=self.stream.peer,
        )

    def _log_failure(self, failed: Failed) -> None:
        check = failed.check
        who = self._who()
        if failed.patient_id is not None:
            who["patient"] = failed.patient_id
        _log.warning("refused", check=check.number, alert=check.alert.name, cause=failed.detail, **who)
        if "patient" not in who:
            return  # anybody can knock; only what a proven patient did is worth an entry that stays
        if not self._house.entries.spend(who["patient"], clock().elapsed):
            return  # the line above is all that a revoked device gets which knocks without end
        action = Action.RECEIPT_IMPOSSIBLE if check is Check.RECEIPT_ISSUED else Action.REFUSED
        self._record(action, who["patient"], f"{check.number} {failed.detail}")

    def _record(self, action: Action, patient: str, detail: str) -> None:
        now = clock().wall

        def stored(future: asyncio.Future[int]) -> None:
            if not future.cancelled() and (error := future.exception()) is not None:
                _log.error("audit entry not stored", cause=str(error), patient=patient)

        self._house.writer.submit_nowait(
            lambda db: audit.append(db, now, "gateway", action, patient, detail)
        ).add_done_callback(stored)

"""A visit is one connection to the device port, from its first byte to its last: handshake, admission, session.

The protocol's verdicts come as events; what a visit adds is the roster's transaction. What an admitted patient then sends is
read in `doctor.intake`. A visit never looks into a message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from doctor import enrolment
from doctor.audit import Action
from doctor.door import Place, TurnedAway
from doctor.enrolment import Admission, AdmissionRefused
from doctor.feed import Topic
from doctor.house import DeviceStream, House
from doctor.intake import Intake
from doctor.sessions import Session
from doctor.traces import Trace
from shared.crypto.suites import SUITES
from shared.errors import StorageError
from shared.logs import get_logger
from shared.net.stream import clock
from shared.protocol.doctor_connection import DoctorConnection
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
from shared.wire.checks import Check
from shared.wire.opcodes import DisconnectReason

_log = get_logger("gateway")

BLAMELESS = frozenset(
    {Check.STREAM_COMPLETE, Check.HANDSHAKE_DEADLINE, Check.REQUEST_CLOCK, Check.VERIFIER_CLOCK}
)
"""What a bad network or a wrong clock does to honest devices, a whole ward behind one address perhaps. It is no sign of an attack:
connections that stall count while they are unfinished, and a clock is judged only of who has proved its key."""


class Visit:
    """One connection to the device port."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._intake: Intake | None = None  # there is one from the admission on
        self._trace: Trace | None = None  # from the first message of the handshake on
        self._place: Place | None = None  # at the door, until it is verified or gone
        connection = DoctorConnection(house.practice, clock())
        self.stream = DeviceStream(
            connection,
            self._enter,
            self._on_events,
            self._on_closed,
            self._on_writable,
            self._on_unwritable,
        )

    # From the stream

    def _on_events(self, events: Sequence[Event]) -> None:
        """Act on what the protocol says has happened."""
        for event in events:
            match event:
                case Traced():
                    self._trace_step(event)
                case Verified():
                    self._ask_admission(event)
                case Positioned() | Receipted() | ResendRequested() | Reported():
                    assert self._intake is not None  # noqa: S101  records come after the admission
                    self._intake.take(event)
                case Failed():
                    self._log_failure(event)
                case Alerted():
                    self._log_alert(event)
                case Disconnected():
                    _log.info("the device signed off", reason=event.reason.name, **self._who())
                case _:
                    raise AssertionError(f"a doctor's connection emits no {type(event).__name__}")

    def _on_writable(self) -> None:
        """The device reads again."""
        if self._intake is not None:
            self._intake.resume()

    def _on_unwritable(self) -> None:
        """The device reads too slowly, or its connection is about to end."""
        if self._intake is not None:
            self._intake.pause()

    def _on_closed(self) -> None:
        """The connection is gone."""
        self._leave_door()
        self._house.streams.discard(self.stream)
        if self._trace is not None:
            self._trace.closed = True
            self._house.feed.tell(Topic.HANDSHAKES)
        if self._intake is not None:
            self._intake.close()
            self._house.feed.tell(Topic.PATIENTS)
            _log.info("session ended", **self._who())
        else:
            _log.debug("connection closed", **self._who())

    # Steps

    def _enter(self, host: str) -> bool:
        place = self._house.door.enter(host, self._show_out, clock().elapsed)
        if isinstance(place, TurnedAway):
            self._house.noise.tell(place.value, host, clock().elapsed)
            self._count_turned_away(place, host)
            return False
        self._place = place
        self._house.streams.add(self.stream)
        _log.debug("connection opened", host=host)
        return True

    def _leave_door(self) -> None:
        if self._place is not None:
            self._house.door.leave(self._place)
            self._place = None

    def _show_out(self, why: TurnedAway) -> None:
        self._place = None
        host = self.stream.connection.address
        self._house.noise.tell(why.value, host, clock().elapsed)
        self._count_turned_away(why, host)
        self.stream.show_out()

    def _count_turned_away(self, why: TurnedAway, host: str) -> None:
        self._house.ledger.count_stranger(why.name.lower(), host)
        self._house.tally.turned_away[why] += 1
        self._house.feed.tell(Topic.EVENTS)

    def _ask_admission(self, verified: Verified) -> None:
        self._leave_door()  # it is no stranger any more: it need not make room for one
        now, peer = clock().wall, self.stream.peer
        if self._trace is not None:
            self._house.traces.proved(self._trace, verified.patient_id)
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

        noted = self._house.logins.take(verified.patient_id, clock().elapsed)

        def decided(future: asyncio.Future[Admission]) -> None:
            error = None if future.cancelled() else future.exception()
            if isinstance(error, AdmissionRefused):
                self.stream.connection.refuse(error.check, error.detail, clock())
                self.stream.flush()
            elif error is not None:
                self._could_not_store(error)

        self._house.writer.submit_nowait(
            lambda db: enrolment.admit(db, verified, now, peer, noted, self._house.keys),
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
        if not admission.noted:
            self._house.ledger.count_login(verified.patient_id)
        if admission.invitation_id is not None:
            roster.set_uses(admission.invitation_id, admission.uses_left)
        if admission.completed is not None:
            self._house.keys.all_confirmed(admission.completed)
        if not self._house.keys.signed_as(
            verified.doctor_key
        ):  # a rotation came right behind the admission: it comes back and learns the new key
            self.stream.hang_up(DisconnectReason.CLOSING)
        if not self.stream.open or self.stream.connection.ended:
            # The disk took longer than the handshake may; the patient is in, and its next connection is admitted at once.
            self._house.tally.late += 1
            _log.warning("admitted after its connection had ended", patient=verified.patient_id)
        else:
            self._house.tally.established += 1
            suite = SUITES[verified.suite].name
            session = Session(verified.patient_id, self.stream, verified.contribution, suite)
            session.skew = verified.patient_clock - verified.doctor_clock
            self._intake = Intake(self._house, session)
            if self._trace is not None:
                self._trace.established = True
                self._trace = None  # nothing more comes, and it would stay as long as the session
            self._house.feed.tell(Topic.PATIENTS)
            replaced = fanout.add_session(session, admission.memberships)
            if replaced is not None:
                self._replace(replaced)
            _log.info("established", patient=verified.patient_id, suite=suite, address=self.stream.peer)
        for joined in admission.joins:
            fanout.join(joined)
        if self._intake is not None:
            self.stream.connection.admit(clock())
            self.stream.flush()

    def _replace(self, replaced: Session) -> None:
        replaced.disconnect(DisconnectReason.REPLACED)
        if self._house.replacements.note(replaced.patient_id, clock().elapsed):
            _log.warning("replaced too often: two devices may hold one key", **self._who())
            detail = f"{replaced.stream.peer} by {self.stream.peer}"
            self._house.ledger.note(Action.REPLACED_OFTEN, replaced.patient_id, detail)

    # Logs

    def _who(self) -> dict[str, str]:
        return self._intake.session.who if self._intake is not None else {"address": self.stream.peer}

    def _begin_trace(self) -> Trace:
        if self._trace is None:
            self._trace = self._house.traces.begin(self.stream.peer)
            self._house.feed.tell(Topic.HANDSHAKES)
        return self._trace

    def _trace_step(self, step: Traced) -> None:
        self._begin_trace().add(step)
        if not _log.debugging:
            return
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

    def _log_alert(self, alerted: Alerted) -> None:
        what = "the device ended the connection"
        if self._intake is None:
            self._house.tally.given_up[alerted.code] += 1
            if self._trace is not None:
                self._trace.alerted = alerted.code
            host = self.stream.connection.address
            self._house.noise.tell(what, host, clock().elapsed, alert=alerted.code.name, **self._who())
        else:
            _log.info(what, alert=alerted.code.name, **self._who())

    def _log_failure(self, failed: Failed) -> None:
        check, who, elapsed = failed.check, self._who(), clock().elapsed
        host = self.stream.connection.address
        if self._intake is None:
            self._begin_trace().fail(failed)  # the very first message may be the one that is refused
        ended = self._house.tally.refused if self._intake is None else self._house.tally.broken
        ended[check] += 1
        self._house.feed.tell(Topic.EVENTS)
        if self._intake is None and check not in BLAMELESS:
            self._house.door.note_failure(host, elapsed)
        if failed.patient_id is not None:
            who["patient"] = failed.patient_id
        line: dict[str, str | float] = {
            "check": check.number,
            "alert": check.alert.name,
            "cause": failed.detail,
            **who,
        }
        if failed.clocks is not None:  # two clocks in milliseconds are hard to compare by eye
            line["skew_s"] = (failed.clocks[0] - failed.clocks[1]) / 1000
        if "patient" not in who or not self._house.entries.take(self._budget_of(who["patient"]), elapsed):
            # Anybody can knock, and a revoked device can do so without end; only what a proven patient did is worth an entry
            # that stays, and a line of its own.
            self._house.noise.tell("refused", host, elapsed, **line)
            self._house.ledger.count_stranger(check.number, host)
            return
        _log.warning("refused", **line)
        action = Action.RECEIPT_IMPOSSIBLE if check is Check.RECEIPT_ISSUED else Action.REFUSED
        cause = f"{check.number} {failed.detail}"
        self._house.ledger.note(action, who["patient"], f"{cause} from {self.stream.peer}")
        if self._house.roster.member(who["patient"]) is not None:
            self._house.fanout.troubles.note(who["patient"], f"refused: {cause}", clock().wall)

    def _budget_of(self, patient_id: str) -> str:
        """Whose entries a refusal counts among: who is to be enrolled makes up its name, so all of those share one budget."""
        return patient_id if self._house.roster.member(patient_id) is not None else ""

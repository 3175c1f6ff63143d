"""One device with its inbox: it connects, applies what the doctor sends, and acknowledges what it has applied.

Law: the only place that knows what an event is for. Received messages go to the inbox; receipts go out once the inbox has
committed, on the newest established connection. How often to connect, and what an end means, is decided in `presence`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

from patient import notices
from patient.identity import DeviceHome, DeviceIdentity
from patient.inbox import Inbox
from patient.link import Link
from patient.notices import Tell
from patient.outbox import Outbox
from patient.receipts import Receipting, receipts
from patient.reporting import Reporting
from patient.settings import PatientSettings
from patient.stored import StoredMessage
from patient.verdicts import InboxFailed, Reason, Situation, Verdict, judge, refused_for_certain
from shared.crypto.secret import Random
from shared.errors import StorageError
from shared.logs import get_logger
from shared.net.stream import clock
from shared.protocol.clock import Instant
from shared.protocol.events import (
    Confirmed,
    Disconnected,
    Dropped,
    EpochBegun,
    Event,
    Failed,
    MessageReceived,
    ReceiptsHeard,
    Repeated,
    ReportsReceipted,
    Traced,
)
from shared.protocol.patient_connection import PatientConnection
from shared.protocol.rotation import Successors
from shared.storage.sealed import Sealer
from shared.wire.messages import Position, ReportKind, Stream, TargetKind

_log = get_logger("device")


@dataclass(frozen=True, slots=True)
class Conditions:
    """What a device cannot know by itself, so that tests may decide it.

    Args:
        random: entropy.
        pause: lets so many seconds pass.
        renewal_after: seconds from a session's beginning to its renewal; None draws them between 45 and 55 minutes.
        now: both clocks.
    """

    random: Random = os.urandom
    pause: Callable[[float], Awaitable[object]] = asyncio.sleep
    renewal_after: Callable[[], float] | None = None
    now: Callable[[], Instant] = clock


class Device:
    """A device that has an identity. `async with` opens its inbox, and at the end closes sessions and inbox.

    Args:
        home: its directory, whose lock the caller holds.
        identity: the content of its identity file.
        tell: where notices go.

    `may_be_admitted`: a SESSION_VERIFIER went out, and no sealed refusal of the admission came back.
    """

    def __init__(
        self,
        home: DeviceHome,
        identity: DeviceIdentity,
        settings: PatientSettings,
        tell: Tell,
        conditions: Conditions,
    ) -> None:
        self.identity = identity
        self.may_be_admitted = False
        self._home = home
        self._settings = settings
        self._tell = tell
        self._random = conditions.random
        self._now = conditions.now
        self._suite = identity.suite_for(settings.suite)
        self._reader = identity.reader(settings.clock_window_s)
        sealer = Sealer(identity.storage_key, conditions.random)
        self._inbox = Inbox(home.inbox_file, sealer, self._applied, self._not_applied)
        self._receipting = Receipting(self._inbox.position, self._session)
        self._reported: Sequence[Position] = ()  # by the first RECEIPT of the last confirmed session
        self._links: list[Link] = []  # in the order of their beginning; two while a session is renewed
        self._outbox = Outbox(home.outbox_file, sealer, conditions.random)
        self._reporting = Reporting(self._outbox, self._session, tell, conditions.now)

    async def __aenter__(self) -> Device:
        await self._inbox.__aenter__()
        self._say_which_suite()
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._inbox.settle()  # what has come is on the disk and may be acknowledged
            self._receipting.send()
        except StorageError as error:
            _log.warning("inbox not settled", cause=str(error))
        for link in list(self._links):
            await self.drop(link)
        await self._reporting.close()
        await self._outbox.close()
        await self._inbox.__aexit__(None, None, None)

    async def connect(self) -> Link | Verdict:
        """One attempt at each address in turn: an established session, or else the most telling verdict.

        Raises:
            UserError: an address is no address.
            StorageError: the inbox cannot be read.
        """
        for link in self._links:
            if (verdict := self.verdict(link)).final:
                return verdict  # another connection would undo what the doctor has just said
        if not self._links:
            await self._inbox.reload()
        most_telling: Verdict | None = None
        for address in self._settings.doctor_addresses or self.identity.doctor.addresses:
            if self._inbox.failed:
                # It takes nothing before it is read again, which has to wait until the last session is gone.
                return most_telling or Verdict(Reason.STORAGE, "This device could not store a message.")
            link = await self._attempt(address)
            if link.established:
                await self._forget_invitation()
                return link
            verdict = self.verdict(link)
            self._tell(notices.Refused(verdict.reason.value, verdict.sentence, verdict.final))
            if verdict.final:
                return verdict
            if most_telling is None or verdict.reason is not Reason.UNREACHABLE:
                most_telling = verdict
        assert most_telling is not None  # noqa: S101  neither the invitation nor the setting in use is empty
        return most_telling

    async def report(self, kind: ReportKind, body: bytes) -> bytes:
        """Keep a report for the doctor, and send it as soon as there is a session. Returns its id once it is on the disk.

        Raises:
            UserError: it is none that the doctor would take, or too many wait already.
            StorageError: it was not kept.
        """
        report_id = await self._outbox.write(kind, body, self._now().wall)
        self._reporting.look()
        return report_id

    def waiting_reports(self, limit: int) -> int:
        """How many reports wait for the doctor; it counts no further than `limit`.

        Raises:
            UserError, StorageError: the outbox cannot be read.
        """
        return len(self._outbox.waiting(0, limit))

    def verdict(self, link: Link) -> Verdict:
        """What the end of a connection means."""
        situation = Situation(
            patient_id=self.identity.patient_id,
            doctor_id=self.identity.doctor.doctor_id,
            suite=self._suite.name,
            address=link.address,
            enrolling=self.identity.enrolment is not None,
            clock_window_s=self._settings.clock_window_s,
            now=self._now().wall,
        )
        return judge(link.ending, situation)

    async def drop(self, link: Link) -> None:
        """End a session that is not needed any more."""
        await link.close()
        self._links.remove(link)

    # Connections

    async def _attempt(self, address: str) -> Link:
        """A connection to an address. Where the doctor proves that it has new keys, another one, after they are pinned."""
        link = await self._greet(address)
        if link.successors is not None:
            try:
                await self._pin(link.successors)
            except StorageError as error:
                # The former keys stay pinned, and the doctor will prove the new ones again.
                link.ending = InboxFailed(str(error))
            else:
                link = await self._greet(address)
        return link

    async def _pin(self, successors: Successors) -> None:
        # The file is replaced in one step. Whichever a crash leaves, the doctor shows the proof until it has seen the new keys at work.
        rotated = self.identity.rotated(successors)
        await asyncio.to_thread(self._home.save, rotated)
        self.identity = rotated
        self._reader = rotated.reader(self._settings.clock_window_s)
        doctor = rotated.doctor
        _log.info("doctor's keys rotated", number=successors.sequence)
        self._tell(notices.KeysRotated(doctor.doctor_id, successors.sequence, doctor.fingerprints()))

    async def _greet(self, address: str) -> Link:
        """One connection to an address; where a busy doctor asks for a cookie, a second one that brings it."""
        link = Link(address, self._inbox.positions(), self._handle, now=self._now)
        await self._open(link)
        if link.retry is not None:
            link = Link(address, self._inbox.positions(), self._handle, link.retry, self._now)
            await self._open(link)
        return link

    async def _open(self, link: Link) -> bool:
        self._links.append(link)
        established = False
        try:
            established = await link.open(partial(self._new_connection, link))
        finally:
            if not established:
                self._links.remove(link)
            if link.verifier_sent and not refused_for_certain(link.ending):
                self.may_be_admitted = True
        return established

    def _new_connection(self, link: Link) -> PatientConnection:
        identity = self.identity.for_handshake(self._suite, self._settings.clock_window_s)
        report = partial(self._report, link)
        return PatientConnection(
            identity, self._reader, link.positions, self._now(), self._random, report, link.hello
        )

    def _report(self, link: Link) -> Sequence[Position]:
        """What the first RECEIPT says: as much as fits one. The rest goes out when the session is confirmed."""
        link.reported = next(receipts(self._inbox.expired(), self._inbox.position), [])
        return link.reported

    def _say_which_suite(self) -> None:
        wanted, used = self._settings.suite, self._suite.name
        if wanted == used:
            return
        sentence = (
            f"The setting `suite` is {wanted}, for which this device would need a key of another kind; it uses {used}. "
            "Set that, or enrol a new device."
        )
        _log.warning("setting ignored", suite=wanted, cause=sentence)
        self._tell(notices.SettingIgnored("suite", sentence))

    async def _forget_invitation(self) -> None:
        """The first admission: the invitation's secret has done its work."""
        if self.identity.enrolment is None:
            return
        admitted = self.identity.admitted()
        try:
            await asyncio.to_thread(self._home.save, admitted)
        except (
            StorageError
        ) as error:  # the next session tries again; the doctor ignores the invitation from now on
            _log.warning("invitation not erased", cause=str(error))
        else:
            self.identity = admitted

    # Events

    def _handle(self, link: Link, event: Event) -> None:
        if isinstance(event, MessageReceived):
            self._inbox.store(event, self._now().wall)
        elif isinstance(event, EpochBegun):
            self._inbox.begin(Stream(TargetKind.GROUP, event.group), event.start)
            self._tell(notices.Epoch(event.group, event.epoch))
        elif isinstance(event, Repeated):
            self._acknowledge_again(event)
        elif isinstance(event, ReportsReceipted):
            self._reporting.receipted(event.report_ids)
        elif isinstance(event, ReceiptsHeard):
            self._inbox.note_heard(event.last)
        elif isinstance(event, Traced):
            checks = tuple(check.number for check in event.checks)
            self._tell(
                notices.Handshake(event.direction.value, event.message, event.opcode, event.size, checks)
            )
        elif isinstance(event, Confirmed):
            self._established(link)
        elif isinstance(event, Disconnected):
            if self.verdict(link).final:  # then a renewal that is under way must not bring this device back
                for other in self._links:
                    if other is not link:
                        other.abort(event)
        elif isinstance(event, Dropped):
            # The connection has asked for what is missing; until it comes, later messages of the stream are dropped too.
            _log.warning(
                "broadcast dropped", check=event.check.number, cause=event.detail, stream=str(event.stream)
            )
        elif isinstance(event, Failed):
            _log.warning("doctor broke the protocol", check=event.check.number, cause=event.detail)

    def _established(self, link: Link) -> None:
        self._tell(
            notices.Established(
                self.identity.patient_id, self.identity.doctor.doctor_id, self._suite.name, link.address
            )
        )
        # The doctor's first record says that it has the first RECEIPT. Should it fall in this very moment it may not have
        # stored it: so what one session's RECEIPT said counts as known when the next session's has said it again.
        self._inbox.note_receipted(self._reported)
        self._inbox.note_heard({position.stream: position.last for position in link.reported})
        self._reported = link.reported
        # A receipt that went out on the session which this one replaces may be lost: everything is told once more.
        for stream, expired in self._inbox.expired().items():
            self._receipting.tell(stream, expired)
        self._reporting.begin()

    def _acknowledge_again(self, event: Repeated) -> None:
        expired = self._inbox.expired().get(event.stream, [])
        # The doctor repeats in order, from the first number it has no receipt for: what is below is known to it.
        self._receipting.tell(event.stream, [number for number in expired if number >= event.number])

    # The inbox

    def _applied(self, message: StoredMessage) -> None:
        for link in self._links:
            link.positions.raise_to(message.stream, message.number)
        self._receipting.tell(message.stream, [message.number] if message.body is None else [])
        if message.body is None:
            _log.info("message expired", stream=str(message.stream), number=message.number)
        else:
            self._tell(notices.message_notice(message))

    def _not_applied(self, error: BaseException) -> None:
        _log.error("message not stored", cause=str(error))
        for link in self._links:
            link.abort(InboxFailed(str(error)))

    def _session(self) -> Link | None:
        """The newest established session."""
        return next((link for link in reversed(self._links) if link.in_session), None)

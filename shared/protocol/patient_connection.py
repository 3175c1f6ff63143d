"""The patient's connection: it speaks first, believes only its pinned doctor, and applies messages strictly in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from shared.crypto.aead import Aead
from shared.errors import InvalidSeal
from shared.protocol import patient_handshake
from shared.protocol.clock import SECOND, Instant
from shared.protocol.connection import SILENCE_LIMIT, Connection
from shared.protocol.envelopes import Positions, Reader
from shared.protocol.epochs import KEY_ID_SIZE, HeldEpochs
from shared.protocol.events import (
    Alerted,
    Confirmed,
    Direction,
    Dropped,
    EpochBegun,
    KeysRotated,
    MessageReceived,
    ReceiptsHeard,
    Repeated,
    ReportsReceipted,
    RetryAsked,
)
from shared.protocol.patient_handshake import Hello, Identity, Request
from shared.protocol.resend_requests import ResendRequests
from shared.protocol.rotation import Successors
from shared.protocol.transitions import Act, Role, State, Step
from shared.wire import messages
from shared.wire.checks import Check, Checklist, PeerError
from shared.wire.framing import Frame
from shared.wire.messages import (
    AuthRequest,
    AuthResponse,
    Direct,
    GroupKey,
    KeyExchange,
    KeyExchangeReply,
    Ping,
    Pong,
    Position,
    Receipt,
    Report,
    ReportReceipt,
    Retry,
    SessionVerifier,
    SignedMessage,
    Stream,
    TargetKind,
)
from shared.wire.opcodes import AlertCode, Opcode

PING_INTERVAL = 20 * SECOND


class PatientConnection(Connection):
    """One connection of one device.

    Args:
        identity: who this is and whom it trusts.
        reader: judges the doctor's envelopes.
        positions: how far the inbox has come in each stream: what is committed. Two connections that read into one inbox
            may share them or have their own, as the inbox ignores what it has.
        random: entropy, `random(n)` returns n bytes.
        report: what the first RECEIPT says, asked for when it goes out; at most 256 positions. None: `positions`, in
            which nothing has expired unshown.
        hello: the greeting of an earlier `RetryAsked`; None makes a new one.
    """

    def __init__(
        self,
        identity: Identity,
        reader: Reader,
        positions: Positions,
        now: Instant,
        random: Callable[[int], bytes],
        report: Callable[[], Sequence[Position]] | None = None,
        hello: Hello | None = None,
    ) -> None:
        super().__init__(Role.PATIENT, now)
        self._identity = identity
        self._reader = reader
        self._positions = positions
        self._random = random
        self._report = report or self._all_positions
        self._epochs = HeldEpochs()
        self._doctor_alert_key: bytes | None = None
        self._questions = ResendRequests()
        self._clocks_agreed = now
        self._unheard: dict[
            Stream, int
        ] = {}  # told to the doctor, which has not said yet that it has read it
        self._asked: tuple[bytes, Mapping[Stream, int]] = (
            b"",
            {},
        )  # the last PING's token, and what went before it
        hello = hello or patient_handshake.start(identity, random)
        self._phase: Hello | Request | None = hello
        self._outgoing.append(hello.m1)
        self._trace(Direction.SENT, KeyExchange, hello.m1)

    def acknowledge(self, positions: Sequence[Position]) -> None:
        """Send a RECEIPT for what the inbox has committed."""
        self._send_record(Opcode.RECEIPT, Receipt(list(positions)))
        self._unheard.update((position.stream, position.last) for position in positions)

    def report(self, report: Report) -> None:
        """Send a report; until its receipt has come, send it again in the next session, under the same id.

        Its bounds are those of `Report`: the doctor ends the session for one that breaks them. Raises LocalError unless the
        session is ESTABLISHED.
        """
        self._send_record(Opcode.REPORT, report)

    def next_deadline(self) -> int | None:
        """As the base; or earlier, where a question waits for its turn."""
        deadline, question = super().next_deadline(), self._questions.deadline()
        return deadline if deadline is None or question is None else min(deadline, question)

    def handle_timeout(self, now: Instant) -> None:
        """As the base; a question that has waited goes out."""
        super().handle_timeout(now)
        self._ask(now)

    # Handshake

    def _receive(self, step: Step, frame: Frame, now: Instant) -> None:
        if step.message is KeyExchangeReply:
            self._receive_reply(step, frame, now)
        elif step.message is Retry:
            self._receive_retry(step, frame)
        elif step.message is AuthResponse:
            self._receive_response(step, frame, now)
        elif step.message is SignedMessage:
            self._receive_broadcast(step, frame, now)
        else:
            confirming, earlier = self.state is State.CONFIRMING, len(self._events)
            self._receive_record(step, frame, now)
            if confirming and self.state is State.ESTABLISHED:
                self._establish(now)
                self._events.insert(earlier, Confirmed())

    def _receive_reply(self, step: Step, frame: Frame, now: Instant) -> None:
        checks = Checklist()
        assert isinstance(self._phase, Hello)  # noqa: S101  the state says so; tells mypy
        request = patient_handshake.answer_reply(
            self._identity, self._phase, frame, now, checks, self._random
        )

        if isinstance(request, Successors):
            # The new keys have to be on the disk before anything is said to whoever holds them: the next connection does that.
            self._phase = None
            self._machine.act(Act.CLOSE)
            self._trace(Direction.RECEIVED, KeyExchangeReply, frame.data, checks)
            self._events.append(KeysRotated(request))
            return
        self._phase = request
        self._doctor_alert_key = request.alert_key
        self._machine.follow(step)
        self._outgoing.append(request.m3)
        self._trace(Direction.RECEIVED, KeyExchangeReply, frame.data, checks)
        self._trace(Direction.SENT, AuthRequest, request.m3)

    def _receive_retry(self, step: Step, frame: Frame) -> None:
        assert isinstance(self._phase, Hello)  # noqa: S101  the state says so; tells mypy
        hello, retry = self._phase, messages.decode(Retry, frame.payload)

        self._phase = None  # the ephemeral key goes on with the next connection, which erases it in its time
        self._machine.follow(step)
        self._trace(Direction.RECEIVED, Retry, frame.data)
        if hello.message.cookie:
            # Anyone can send a RETRY: one an attempt, or it would keep a device connecting for ever.
            self._events.append(Alerted(AlertCode.BUSY, 0, authentic=False))
        else:
            self._events.append(RetryAsked(patient_handshake.start_again(hello, retry.cookie)))

    def _receive_response(self, step: Step, frame: Frame, now: Instant) -> None:
        checks = Checklist()
        assert isinstance(self._phase, Request)  # noqa: S101  the state says so; tells mypy
        keys, verifier = patient_handshake.answer_response(self._identity, self._phase, frame, now, checks)

        # The KEM secrets and K_i would give every key of the session again, whatever the ratchet has erased.
        self._phase = None
        self._clocks_agreed = now
        self._start_records(keys)
        self._machine.follow(step)
        self._outgoing.append(verifier)
        self._trace(Direction.RECEIVED, AuthResponse, frame.data, checks)
        self._trace(Direction.SENT, SessionVerifier, verifier)
        self.acknowledge(self._report())

    def _all_positions(self) -> list[Position]:
        return [Position(stream, self._positions[stream], []) for stream in self._positions.streams()]

    def _open_sealed_alert(self, sealed: bytes) -> Alerted:
        if self._doctor_alert_key is None:
            raise PeerError(Check.RECORD_OPENS, "a sealed alert before there is a key")  # V-070
        try:
            plaintext = Aead(self._doctor_alert_key).open(0, sealed, bytes([Opcode.ALERT]))
        except InvalidSeal as error:
            raise PeerError(Check.RECORD_OPENS, f"alert: {error}") from error  # V-070
        return self._authentic_alert(plaintext)

    # Records

    def _receive_record(self, step: Step, frame: Frame, now: Instant) -> None:
        if step.message is GroupKey:
            self._receive_group_key(step, frame)
        elif step.message is Direct:
            self._receive_direct(step, frame, now)
        elif step.message is ReportReceipt:
            receipt = self._open_record(ReportReceipt, frame)
            self._commit_record(step)
            self._events.append(ReportsReceipted(tuple(receipt.report_ids)))
        elif step.message is Pong:
            self._receive_pong(step, frame)
        else:
            self._receive_common(step, frame, now)

    def _receive_group_key(self, step: Step, frame: Frame) -> None:
        message = self._open_record(GroupKey, frame)
        epoch = self._epochs.check(message)

        self._epochs.hold(epoch)
        self._positions.raise_to(Stream(TargetKind.GROUP, message.group), message.start)
        self._commit_record(step)
        self._events.append(EpochBegun(message.group, message.epoch, message.start))

    def _receive_direct(self, step: Step, frame: Frame, now: Instant) -> None:
        direct = self._open_record(Direct, frame)
        envelope, body = self._reader.verify(direct.message, None, self._session_time(now))
        following = self._positions.is_next(envelope, direct.start)

        self._positions.raise_to(envelope.stream, direct.start)
        self._commit_record(step)
        if following:
            self._positions.raise_to(envelope.stream, envelope.number)
            self._events.append(MessageReceived(envelope, body, direct=True))
        else:
            self._events.append(Repeated(envelope.stream, envelope.number))

    def _receive_broadcast(self, step: Step, frame: Frame, now: Instant) -> None:
        """A broadcast that fails is dropped, and the session goes on.

        Its key is the whole group's: were a bad one fatal, any member could end the others' sessions. Nothing is lost by
        dropping: the doctor is asked for what is missing, and sends again what stays unreceipted.
        """
        stream: Stream | None = None
        try:
            group, message = self._epochs.open(frame)
            envelope, body = self._reader.verify(message, group, self._session_time(now))
            stream = envelope.stream
            following = self._positions.is_next(envelope, 0)
        except PeerError as error:
            self._events.append(Dropped(error.check, error.detail, stream))
            # A forged broadcast is not worth a question: there is nothing behind it.
            if error.check is Check.ENVELOPE_PREVIOUS:
                self._questions.note_gap(envelope.stream, envelope.number)
            elif error.check in (Check.EPOCH_KEY_KNOWN, Check.BROADCAST_OPENS):
                self._questions.note_unknown_key(frame.payload[:KEY_ID_SIZE])
            self._ask(now)
            return

        self._machine.follow(step)
        if following:
            self._positions.raise_to(envelope.stream, envelope.number)
            self._events.append(MessageReceived(envelope, body, direct=False))

    def _receive_pong(self, step: Step, frame: Frame) -> None:
        """The doctor reads in order: whatever went before the PING that it answers has been read."""
        pong = self._open_record(Pong, frame)
        token, told = self._asked

        self._commit_record(step)
        if pong.token == token and told:
            self._asked = (b"", {})
            self._unheard = {
                stream: last for stream, last in self._unheard.items() if last > told.get(stream, -1)
            }
            self._events.append(ReceiptsHeard(told))

    def _session_time(self, now: Instant) -> Instant:
        """The clock as it was when V-055 found it right, carried on by the one that does not jump.

        So whatever is done to the wall clock in the middle of a session hides no message as expired, and ends nothing.
        """
        return Instant(self._clocks_agreed.wall + now.elapsed - self._clocks_agreed.elapsed, now.elapsed)

    def _ask(self, now: Instant) -> None:
        if self.state is State.ESTABLISHED and (question := self._questions.take(self._positions, now)):
            self._send_record(Opcode.RESEND_REQUEST, question)

    def _keep_alive(self, now: Instant) -> None:
        super()._keep_alive(now)
        if not self.ended:
            token = self._random(8)
            self._send_record(Opcode.PING, Ping(token))
            self._asked = (token, dict(self._unheard))
            self._deadline = min(now.elapsed + PING_INTERVAL, self._heard + SILENCE_LIMIT)

    def _establish(self, now: Instant) -> None:
        self._deadline = now.elapsed + PING_INTERVAL

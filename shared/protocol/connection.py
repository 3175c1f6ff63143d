"""What both sides of a connection have in common: bytes in, events and bytes out, and how a fault ends it.

The contract with the program around it is four verbs and a timer:

    receive_data(data, now)    bytes that came in; `receive_eof(now)` where no more will
    take_events()              what they meant
    data_to_send()             bytes to write; after them, close the transport if `ended`
    next_deadline()            when to call `handle_timeout(now)`, in milliseconds of `Instant.elapsed`

A peer's fault never raises out of here. The connection moves to FAILED, queues one coarse alert, emits `Failed` with the cause
for the log, and discards whatever else comes in. What raises is misuse by our own program (`LocalError`).
"""

from __future__ import annotations

from shared.crypto.aead import Aead
from shared.errors import LocalError
from shared.protocol.clock import SECOND, Instant
from shared.protocol.events import Alerted, Direction, Disconnected, Event, Failed, Traced
from shared.protocol.key_schedule import SessionKeys
from shared.protocol.records import RecordOpener, RecordSealer
from shared.protocol.transitions import Act, Machine, Role, State, Step, message_name
from shared.wire import framing, messages
from shared.wire.checks import Check, Checklist, PeerError
from shared.wire.framing import AUTHENTICATED_LIMIT, HEADER_SIZE, Frame, FrameBuffer
from shared.wire.messages import Alert, Disconnect, Ping, Pong, Wire
from shared.wire.opcodes import AlertCode, DisconnectReason, Opcode

HANDSHAKE_DEADLINE = 10 * SECOND
SILENCE_LIMIT = 60 * SECOND  # an established peer that says nothing for so long is gone


class Connection:
    """One side of one connection. `PatientConnection` and `DoctorConnection` add what each role does."""

    def __init__(self, role: Role, now: Instant, deadline: int = HANDSHAKE_DEADLINE) -> None:
        self._machine = Machine(role)
        self._buffer = FrameBuffer()
        self._outgoing: list[bytes] = []
        self._events: list[Event] = []
        self._deadline: int | None = now.elapsed + deadline
        self._heard = now.elapsed
        self._sealer: RecordSealer | None = None
        self._opener: RecordOpener | None = None
        self._alert_key: bytes | None = None
        self._claimed: str | None = None

    # The contract

    @property
    def state(self) -> State:
        """Where the connection stands."""
        return self._machine.state

    @property
    def ended(self) -> bool:
        """Whether nothing more is read; once `data_to_send` is written, the transport is to be closed."""
        return self._machine.ended

    def receive_data(self, data: bytes, now: Instant) -> None:
        """Take bytes from the peer, in any portions."""
        if self.ended:
            return
        self._heard = now.elapsed
        self._buffer.receive(data)
        self._read_frames(now)

    def receive_eof(self, now: Instant) -> None:
        """The peer will send nothing more."""
        if self.ended:
            return
        if len(self._buffer) and self.state is not State.ADMITTING:
            error = PeerError(Check.STREAM_COMPLETE, f"{len(self._buffer)} bytes of a frame")  # V-006
            self._fail(error, now)
        else:
            self._machine.act(Act.CLOSE)

    def take_events(self) -> list[Event]:
        """What has happened since the last call."""
        events, self._events = self._events, []
        return events

    def data_to_send(self) -> bytes:
        """The bytes to write now, whole frames in order."""
        outgoing = self._outgoing
        if not outgoing:
            return b""
        data = outgoing[0] if len(outgoing) == 1 else b"".join(outgoing)
        outgoing.clear()
        return data

    def next_deadline(self) -> int | None:
        """When `handle_timeout` wants to be called next, if ever."""
        return None if self.ended else self._deadline

    def handle_timeout(self, now: Instant) -> None:
        """Time has passed."""
        if self.ended or self._deadline is None or now.elapsed < self._deadline:
            return
        if self.state is State.ESTABLISHED:
            self._keep_alive(now)
        elif self.state is State.ADMITTING:
            # The roster's transaction may still commit. An alert would be the doctor's word that it has not: the
            # patient would throw away the key that the roster is about to hold. Without a word it asks again.
            self._machine.act(Act.CLOSE)  # V-008
        else:
            detail = f"still in state {self.state.value} at the deadline"
            self._fail(PeerError(Check.HANDSHAKE_DEADLINE, detail), now)  # V-008

    def disconnect(self, reason: DisconnectReason) -> None:
        """End the session in good order, or just close where there is none yet."""
        if self.ended:
            return
        if self._machine.may_send(Opcode.DISCONNECT):
            self._send_record(Opcode.DISCONNECT, Disconnect(reason))
        self._machine.act(Act.CLOSE)

    def fail(self, check: Check, detail: str, now: Instant) -> None:
        """End the connection for a check that only the surrounding program can apply."""
        if not self.ended:
            self._fail(PeerError(check, detail), now)

    # What roles share

    def _read_frames(self, now: Instant) -> None:
        try:
            while not self.ended:
                if self.state is State.ADMITTING:
                    waiting = len(self._buffer)
                    if waiting > AUTHENTICATED_LIMIT + HEADER_SIZE:
                        raise PeerError(Check.INPUT_BOUNDED, f"{waiting} bytes before admission")  # V-007
                    return
                frame = self._buffer.next_frame()
                if frame is None:
                    return
                step = self._machine.expect(frame.opcode)
                self._receive(step, frame, now)
        except PeerError as error:
            self._fail(error, now)

    def _receive(self, step: Step, frame: Frame, now: Instant) -> None:
        raise NotImplementedError

    def _receive_common(self, step: Step, frame: Frame, now: Instant) -> None:
        """The messages that mean the same to both roles."""
        if step.message is Alert:
            event: Event = self._open_alert(frame)
            self._machine.follow(step)
            self._events.append(event)
            return
        message = self._open_record(step.message, frame)
        self._commit_record(step)
        if isinstance(message, Disconnect):
            self._events.append(Disconnected(message.reason))
        elif isinstance(message, Ping):
            self._send_record(Opcode.PONG, Pong(message.token))

    def _open_record(self, kind: type[messages.W], frame: Frame) -> messages.W:
        """The message of the next record; changes nothing until `_commit_record`."""
        return messages.decode(kind, self._record_opener().open(frame))

    def _commit_record(self, step: Step) -> None:
        """The record that was opened has passed all its checks: count it and take its transition."""
        self._record_opener().advance()
        self._machine.follow(step)

    def _record_opener(self) -> RecordOpener:
        assert self._opener is not None  # noqa: S101  the table has records only in states with keys; tells mypy
        return self._opener

    def _send_record(self, opcode: Opcode, message: Wire) -> None:
        if self._sealer is None or not self._machine.may_send(opcode):
            raise LocalError(f"{opcode.name} may not be sent in state {self.state.value}")
        self._outgoing.append(self._sealer.seal(opcode, messages.encode(message)))

    def _start_records(self, keys: SessionKeys) -> None:
        """Both directions' keys exist and the peer is authentic: larger frames are welcome from here on."""
        mine, theirs = keys.to_patient, keys.to_doctor
        if self._machine.role is Role.PATIENT:
            mine, theirs = theirs, mine
        self._sealer, self._opener = RecordSealer(mine), RecordOpener(theirs)
        self._buffer.limit = AUTHENTICATED_LIMIT

    def _establish(self, now: Instant) -> None:
        """From the handshake's deadline to the watch for silence."""
        self._deadline = now.elapsed + SILENCE_LIMIT

    def _keep_alive(self, now: Instant) -> None:
        silent = now.elapsed - self._heard
        if silent >= SILENCE_LIMIT:
            self._machine.act(Act.CLOSE)
        else:
            self._deadline = self._heard + SILENCE_LIMIT

    # Faults

    def _fail(self, error: PeerError, now: Instant) -> None:
        self._outgoing.append(self._alert_frame(error.check.alert, now))
        self._machine.act(Act.FAIL)
        self._buffer.clear()
        self._events.append(Failed(error.check, error.detail, self._claimed, error.clocks))

    def _alert_frame(self, code: AlertCode, now: Instant) -> bytes:
        """An alert in the form that the peer can read: a record after the first record, before it sealed or clear."""
        if self._sealer is not None and self._sealer.count:
            return self._sealer.seal(Opcode.ALERT, messages.encode(Alert(code, now.wall, b"")))
        if self._alert_key is None:
            payload = messages.encode(Alert(_clear(code), 0, b""))
        else:
            inner = messages.encode(Alert(code, now.wall, b""))
            # Only the doctor ever has this key set, and after the alert its connection is over: the key seals once, so
            # nonce 0 is safe. A patient's alert in a handshake is clear; sealing it too would use key and nonce twice.
            sealed = Aead(self._alert_key).seal(0, inner, bytes([Opcode.ALERT]))
            payload = messages.encode(Alert(AlertCode.SEALED, 0, sealed))
        return framing.header(Opcode.ALERT, len(payload)) + payload

    def _open_alert(self, frame: Frame) -> Alerted:
        if self._opener is not None and self._opener.count:
            return self._authentic_alert(self._opener.open(frame))
        alert = messages.decode(Alert, frame.payload)
        if alert.code is not AlertCode.SEALED:
            return Alerted(alert.code, 0, authentic=False)
        return self._open_sealed_alert(alert.sealed)

    def _authentic_alert(self, plaintext: bytes) -> Alerted:
        alert = messages.decode(Alert, plaintext)
        if alert.code is AlertCode.SEALED:
            raise PeerError(Check.PAYLOAD_CANONICAL, "an alert that is sealed twice")  # V-004
        return Alerted(alert.code, alert.time, authentic=True)

    def _open_sealed_alert(self, sealed: bytes) -> Alerted:
        raise PeerError(Check.RECORD_OPENS, "a sealed alert from a patient")  # V-070

    def _trace(
        self, direction: Direction, message: type[Wire], frame: bytes, checks: Checklist | None = None
    ) -> None:
        passed = tuple(checks.passed) if checks else ()
        self._events.append(Traced(direction, message_name(message), frame[1], len(frame), passed))


def _clear(code: AlertCode) -> AlertCode:
    """A code that may be told to anyone: what only a proven peer may know becomes REFUSED."""
    return code if code < AlertCode.INVITATION_EXPIRED else AlertCode.REFUSED

"""The doctor's connection to one patient: it answers, and sends nothing before the patient has said where it stands."""

from __future__ import annotations

from collections.abc import Sequence

from shared.crypto.signatures import Algorithm
from shared.errors import LocalError
from shared.protocol import doctor_handshake
from shared.protocol.clock import Instant
from shared.protocol.connection import Connection
from shared.protocol.doctor_handshake import Offer, Practice, Response
from shared.protocol.epochs import Epoch
from shared.protocol.events import Direction, Positioned, Receipted, Reported, ResendRequested, Verified
from shared.protocol.key_schedule import SessionKeys
from shared.protocol.patient_handshake import frame_of
from shared.protocol.transitions import Act, Role, State, Step
from shared.wire import messages
from shared.wire.checks import Check, Checklist
from shared.wire.framing import Frame
from shared.wire.messages import (
    AuthRequest,
    AuthResponse,
    Direct,
    KeyExchange,
    KeyExchangeReply,
    Receipt,
    Report,
    ReportReceipt,
    ResendRequest,
    Retry,
    SessionVerifier,
    SignedMessage,
)
from shared.wire.opcodes import Opcode


class DoctorConnection(Connection):
    """One connection to a patient that is yet to prove who it is.

    Args:
        practice: what all of this doctor's connections share: keys, roster, prekeys.

    Attributes:
        address: where the peer is, without its port; the shell sets it before the first byte. Cookies are bound to it.
    """

    def __init__(self, practice: Practice, now: Instant) -> None:
        super().__init__(Role.DOCTOR, now, practice.handshake_deadline)
        self.address = ""
        self._practice = practice
        self._phase: Offer | Response | None = None
        self._keys: SessionKeys | None = None

    def admit(self, now: Instant) -> None:
        """The roster's transaction has admitted the patient: read on.

        Does nothing on a connection that has ended meanwhile, which is the peer's doing or the deadline's. Raises
        LocalError unless the session is verified and waits for this.
        """
        if self.ended:
            return
        if self._keys is None:
            raise LocalError("admit before the session is verified, or twice")
        self._machine.act(Act.ADMIT)
        self._start_records(self._keys)
        self._keys = None
        self._read_frames(now)

    def refuse(self, check: Check, detail: str, now: Instant) -> None:
        """The roster's transaction has refused the patient (V-063, or the check that failed there)."""
        self.fail(check, detail, now)

    def send_group_key(self, epoch: Epoch, start: int) -> None:
        """Give this member the epoch's secret. `start`: the number after which its stream starts."""
        self._send_record(Opcode.GROUP_KEY, epoch.group_key(start))

    def send_direct(self, start: int, message: SignedMessage) -> None:
        """Send one message to this patient alone: a private one, or a broadcast that it missed."""
        self._send_record(Opcode.DIRECT, Direct(start, message))

    def acknowledge_reports(self, report_ids: Sequence[bytes]) -> None:
        """Say that these reports, 1 to 256 ids of 16 bytes, are on the disk. Raises LocalError unless ESTABLISHED."""
        self._send_record(Opcode.REPORT_RECEIPT, ReportReceipt(list(report_ids)))

    # Handshake

    def _receive(self, step: Step, frame: Frame, now: Instant) -> None:
        if step.message is Receipt:
            self._receive_receipt(step, frame, now)
        elif step.message is ResendRequest:
            request = self._open_record(ResendRequest, frame)
            self._commit_record(step)
            self._events.append(ResendRequested(request.key_id, tuple(request.positions)))
        elif step.message is Report:
            report = self._open_record(Report, frame)
            self._commit_record(step)
            self._events.append(Reported(report))
        elif step.message is KeyExchange:
            self._receive_key_exchange(step, frame, now)
        elif step.message is AuthRequest:
            self._receive_auth_request(step, frame, now)
        elif step.message is SessionVerifier:
            self._receive_verifier(step, frame, now)
        else:
            self._receive_common(step, frame, now)

    def _receive_key_exchange(self, step: Step, frame: Frame, now: Instant) -> None:
        checks = Checklist()
        offer = doctor_handshake.answer_key_exchange(self._practice, self.address, frame, now, checks)

        self._trace(Direction.RECEIVED, KeyExchange, frame.data, checks)
        if isinstance(offer, Retry):
            # Nothing is kept for this peer: its next connection brings all that is needed.
            retry = frame_of(Opcode.RETRY, messages.encode(offer))
            self._machine.act(Act.CLOSE)
            self._outgoing.append(retry)
            self._trace(Direction.SENT, Retry, retry)
            return
        self._phase = offer
        self._machine.follow(step)
        self._outgoing.append(offer.m2)
        self._trace(Direction.SENT, KeyExchangeReply, offer.m2)

    def _receive_auth_request(self, step: Step, frame: Frame, now: Instant) -> None:
        checks = Checklist()
        offer = self._phase
        assert isinstance(offer, Offer)  # noqa: S101  the state says so; tells mypy
        opened = doctor_handshake.open_auth_request(self._practice, offer, frame, now, checks)
        # From here on the peer has proved its key: an alert may say why, sealed, and the log may name it.
        self._alert_key, self._claimed = opened.alert_key, opened.claims.patient_id
        response = doctor_handshake.answer_auth_request(self._practice, offer, opened, now, checks)

        self._phase = response
        self._machine.follow(step)
        self._outgoing.append(response.m4)
        self._trace(Direction.RECEIVED, AuthRequest, frame.data, checks)
        self._trace(Direction.SENT, AuthResponse, response.m4)

    def _receive_verifier(self, step: Step, frame: Frame, now: Instant) -> None:
        checks = Checklist()
        response = self._phase
        assert isinstance(response, Response)  # noqa: S101  the state says so; tells mypy
        patient_clock = doctor_handshake.verify_session(self._practice, response, frame, now, checks)

        claims = response.claims
        self._phase, self._keys = None, response.keys
        self._machine.follow(step)
        self._trace(Direction.RECEIVED, SessionVerifier, frame.data, checks)
        self._events.append(
            Verified(
                patient_id=claims.patient_id,
                algorithm=Algorithm(claims.algorithm),
                public_key=claims.public_key,
                suite=response.suite.id,
                invitation_id=claims.invitation_id if response.enrolling else None,
                contribution=response.keys.contribution,
                patient_clock=patient_clock,
                doctor_clock=now.wall,
                doctor_key=response.doctor_key,
            )
        )

    # Records

    def _receive_receipt(self, step: Step, frame: Frame, now: Instant) -> None:
        receipt = self._open_record(Receipt, frame)
        first = self.state is State.AWAIT_POSITION

        self._commit_record(step)
        positions = tuple(receipt.positions)
        if first:
            self._establish(now)
            self._events.append(Positioned(positions))
        else:
            self._events.append(Receipted(positions))

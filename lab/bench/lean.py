"""Lean patients: the real protocol core over a blocking socket, without a disk, a loop or a log.

They do everything that the protocol asks of a device, so the doctor cannot tell them from one; what they leave out is what would
make the measuring program the bottleneck. Their messages are counted or thrown away, never stored.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

from shared.crypto.signatures import Algorithm, fingerprint
from shared.crypto.suites import Suite
from shared.errors import TelemedError
from shared.net.stream import clock
from shared.protocol.envelopes import Positions, Reader
from shared.protocol.events import Alerted, Confirmed, EpochBegun, Event, Failed, RetryAsked
from shared.protocol.invitations import Invitation, derived_id
from shared.protocol.patient_connection import PatientConnection
from shared.protocol.patient_handshake import Enrolment, Hello, Identity

RECEIVE_SIZE = 1 << 16
PATIENCE = 30.0  # seconds for one answer of the doctor


class NotEstablished(TelemedError):
    """The doctor did not let a lean patient in; `str(error)` says what came instead."""


class LeanPatient:
    """One patient of a fleet: a key, the pinned doctor, positions in memory.

    Args:
        invitation: a fleet's.
        suite: what it asks for.
    """

    def __init__(self, invitation: Invitation, suite: Suite) -> None:
        key = suite.signer.generate(os.urandom)
        name = fingerprint(key.algorithm, key.public)
        doctor_key, envelope_key = (
            invitation.doctor_key(suite.signer.algorithm),
            invitation.doctor_key(Algorithm.ECDSA_P256),
        )
        assert doctor_key is not None  # noqa: S101  our own doctor's invitation has both
        assert envelope_key is not None  # noqa: S101  as above
        enrolment = Enrolment(invitation.invitation_id, invitation.secret)
        self.patient_id = derived_id(name)
        self._identity = Identity(self.patient_id, key, suite, invitation.doctor_id, doctor_key, enrolment)
        self._reader = Reader(self.patient_id, name, invitation.doctor_id, envelope_key)
        self.positions = Positions()

    def connect(self, address: tuple[str, int]) -> LeanSession:
        """A connection on which the handshake is over: the doctor's first record has come.

        Raises:
            NotEstablished: it ended instead. OSError: the network.
        """
        session = LeanSession(self.begin(), address)
        events = session.until(Confirmed, RetryAsked)
        retry = next((event for event in events if isinstance(event, RetryAsked)), None)
        if retry is not None:
            session.close()
            session = LeanSession(self.begin(retry.hello), address)
            session.until(Confirmed)
        return session

    def begin(self, hello: Hello | None = None) -> PatientConnection:
        """The protocol's side of a new connection; `hello` is what a RETRY asked for."""
        return PatientConnection(
            self._identity, self._reader, self.positions, clock(), os.urandom, hello=hello
        )


class LeanCaller:
    """One handshake of a patient as part of a crowd (`lab.bench.newcomers`); a doctor under load is none that is measured."""

    def __init__(self, patient: LeanPatient) -> None:
        self._patient = patient
        self._connection: PatientConnection | None = None
        self.admitted = False

    def begin(self) -> bytes:
        """KEY_EXCHANGE."""
        self._connection = self._patient.begin()
        return self._connection.data_to_send()

    def take(self, data: bytes) -> bytes:
        """What the protocol answers. Raises NotEstablished: it ended instead."""
        assert self._connection is not None  # noqa: S101  it has begun
        if data:
            self._connection.receive_data(data, clock())
        events = self._connection.take_events()
        if not data or any(isinstance(event, Alerted | Failed | RetryAsked) for event in events):
            raise NotEstablished(f"The doctor ended the connection; before that: {events}.")
        self.admitted |= any(isinstance(event, Confirmed) for event in events)
        return self._connection.data_to_send()


class LeanSession:
    """A socket and the protocol's side of it.

    Attributes:
        epochs: how many group keys have come.
    """

    def __init__(self, connection: PatientConnection, address: tuple[str, int]) -> None:
        self.connection = connection
        self.epochs = 0
        self.socket = socket.create_connection(address, PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.flush()

    def until(self, *kinds: type[Event]) -> Sequence[Event]:
        """Read until an event of one of these kinds has come; returns what came with it.

        Raises:
            NotEstablished: the connection ended first.
        """
        while True:
            data = self.socket.recv(RECEIVE_SIZE)
            events = self.take(data)
            if any(isinstance(event, kinds) for event in events):
                return events
            if not data:
                raise NotEstablished(f"The doctor ended the connection; before that: {events}.")

    def take(self, data: bytes) -> list[Event]:
        """Feed what was read, send what there is to send; the events.

        Raises:
            NotEstablished: the protocol was broken, or the doctor said no.
        """
        if data:
            self.connection.receive_data(data, clock())
        else:
            self.connection.receive_eof(clock())
        events = self.connection.take_events()
        self.flush()
        for event in events:
            if isinstance(event, Alerted | Failed):
                raise NotEstablished(f"The connection failed: {event}.")
            self.epochs += isinstance(event, EpochBegun)
        return events

    def flush(self) -> None:
        """Send what there is to send."""
        if data := self.connection.data_to_send():
            self.socket.sendall(data)

    def close(self) -> None:
        """Close the socket without a word, as a device does that loses its power."""
        self.socket.close()

"""Honest devices that come, are let in, and leave again: how long does the doctor take to let one in?

Law: a caller keeps to the protocol to the letter, with the real state machine and a key of its own; what it has no use for, an
inbox on a disk, it does not have. It counts a visit as failed where a real device would have to back off and try again.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence

from shared.crypto.signatures import Algorithm, fingerprint
from shared.crypto.suites import DEFAULT_SUITE
from shared.net.stream import Stream, clock
from shared.protocol.envelopes import Positions, Reader
from shared.protocol.events import Confirmed, Event, MessageReceived, RetryAsked
from shared.protocol.invitations import derived_id, from_text
from shared.protocol.patient_connection import PatientConnection
from shared.protocol.patient_handshake import Enrolment, Hello, Identity
from shared.wire.messages import Position
from shared.wire.opcodes import DisconnectReason

PATIENCE = 15.0  # seconds for one visit


class Caller:
    """One device.

    Args:
        invitation: by which it enrols at its first visit; one for a fleet.
        host, port: of the doctor.

    Attributes:
        asked_again: how often a RETRY was answered.
    """

    def __init__(self, invitation: str, host: str, port: int) -> None:
        suite, pinned = DEFAULT_SUITE, from_text(invitation)
        key = suite.signer.generate(secrets.token_bytes)
        name = fingerprint(key.algorithm, key.public)
        doctor_key, envelope_key = (
            pinned.doctor_key(algorithm) for algorithm in (key.algorithm, Algorithm.ECDSA_P256)
        )
        assert doctor_key is not None  # noqa: S101  an invitation has the keys of its doctor's suites
        assert envelope_key is not None  # noqa: S101  and this one always
        self._identity = Identity(
            derived_id(name),
            key,
            suite,
            pinned.doctor_id,
            doctor_key,
            Enrolment(pinned.invitation_id, pinned.secret),
        )
        self._reader = Reader(self._identity.patient_id, name, pinned.doctor_id, envelope_key)
        self._positions = Positions()
        self._address = (host, port)
        self.asked_again = 0
        self._stay: Visit | None = None

    async def visit(self) -> float | None:
        """Come and go; the seconds until the session was confirmed, or None where it was not."""
        seconds = await self.come()
        if self._stay is not None:
            await self._stay.leave()
        return seconds

    async def come(self) -> float | None:
        """Come and stay; the seconds until the session was confirmed, or None where it was not."""
        began, hello = time.monotonic(), None
        try:
            async with asyncio.timeout(PATIENCE):
                self._stay = await self._knock(None)
                hello = self._stay.retry
                if hello is not None:
                    self.asked_again += 1
                    self._stay = await self._knock(hello)
        except (OSError, TimeoutError):
            return None
        return time.monotonic() - began if self._stay.confirmed else None

    @property
    def inside(self) -> bool:
        """Whether it has a session now."""
        return self._stay is not None and self._stay.confirmed and not self._stay.over.is_set()

    async def leave(self) -> None:
        """End the session."""
        if self._stay is not None:
            await self._stay.leave()

    async def _knock(self, hello: Hello | None) -> Visit:
        visit = Visit()

        def stream() -> Stream[PatientConnection]:
            connection = PatientConnection(
                self._identity, self._reader, self._positions, clock(), secrets.token_bytes, hello=hello
            )
            return Stream(connection, visit.take, visit.end)

        _, visit.stream = await asyncio.get_running_loop().create_connection(stream, *self._address)
        await visit.settled.wait()
        return visit


class Visit:
    """One connection of a caller."""

    def __init__(self) -> None:
        self.stream: Stream[PatientConnection] | None = None
        self.confirmed = False
        self.retry: Hello | None = None
        self.settled = asyncio.Event()
        self.over = asyncio.Event()

    def take(self, events: Sequence[Event]) -> None:
        """Look for the events that matter here."""
        for event in events:
            if isinstance(event, RetryAsked):
                self.retry = event.hello
            elif isinstance(event, Confirmed):
                self.confirmed = True
                self.settled.set()
            elif isinstance(event, MessageReceived):
                self._acknowledge(event)

    def _acknowledge(self, message: MessageReceived) -> None:
        """As a device does; otherwise the doctor would send it again and again."""
        stream, envelope = self.stream, message.envelope
        if stream is not None and not stream.connection.ended:
            stream.connection.acknowledge([Position(envelope.stream, envelope.number, [])])
            asyncio.get_running_loop().call_soon(stream.flush)

    def end(self) -> None:
        """The connection is gone."""
        self.over.set()
        self.settled.set()

    async def leave(self) -> None:
        """Say goodbye, and wait until the doctor has heard it."""
        assert self.stream is not None  # noqa: S101  only a visit that began is left
        self.stream.connection.disconnect(DisconnectReason.CLOSING)
        self.stream.flush()
        await self.over.wait()

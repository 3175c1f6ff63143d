"""The stream on real loopback sockets: a whole session, slow readers, silence and the end. Waits are for events."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Generic, ParamSpec, TypeVar

import pytest
import uvloop

from shared.errors import LocalError
from shared.net import stream as stream_module
from shared.net.stream import WRITE_HIGH_WATER, Stream, clock
from shared.protocol.clock import Instant
from shared.protocol.connection import Connection
from shared.protocol.doctor_connection import DoctorConnection
from shared.protocol.events import (
    Alerted,
    Confirmed,
    Disconnected,
    EpochBegun,
    Event,
    Failed,
    MessageReceived,
    Positioned,
    Receipted,
    Verified,
)
from shared.protocol.patient_connection import PatientConnection
from shared.wire.checks import Check
from shared.wire.messages import Position
from shared.wire.opcodes import AlertCode, DisconnectReason
from tests.protocol_bench import EVERYONE, Clinic, Clock, events_of, only

C = TypeVar("C", bound=Connection)
P = ParamSpec("P")


def on_a_loop(test: Callable[P, Coroutine[None, None, None]]) -> Callable[P, None]:
    """Run an asynchronous test on a loop of its own: asyncio's, and uvloop's, which the programs use where they can."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        for factory in (asyncio.new_event_loop, uvloop.new_event_loop):
            with asyncio.Runner(loop_factory=factory) as runner:
                runner.run(test(*args, **kwargs))

    return run


class RealTime(Clock):
    """The bench's clock set to the stream's."""

    def __init__(self) -> None:
        self.now = clock()


class End(Generic[C]):
    """One side: a stream and the events it has told, with something to wait on."""

    def __init__(
        self, connection: C, react: Callable[[End[C], Event], None] = lambda end, event: None
    ) -> None:
        self.events: list[Event] = []
        self.closed = asyncio.Event()
        self.writable = asyncio.Event()
        self._react = react
        self._told = asyncio.Event()
        self.stream = Stream(connection, self._on_events, self._on_closed, self.writable.set)

    @property
    def connection(self) -> C:
        """The protocol's side."""
        return self.stream.connection

    def _on_events(self, events: list[Event]) -> None:
        for event in events:
            self.events.append(event)
            self._react(self, event)
        self._told.set()

    def _on_closed(self) -> None:
        self.closed.set()
        self._told.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until events have made the condition true."""
        while not condition():
            self._told.clear()
            await self._told.wait()

    async def told(self, kind: type[object]) -> None:
        """Wait for an event of a kind."""
        await self.until(lambda: bool(events_of(kind, self.events)))


def admit(end: End[DoctorConnection], event: Event) -> None:
    """What a doctor's program does: admit, then send the group key."""
    if isinstance(event, Verified):
        end.connection.admit(clock())
    elif isinstance(event, Positioned):
        end.connection.send_group_key(CLINIC_EPOCH, 0)


CLINIC_EPOCH = Clinic("stream epochs").epoch()


@asynccontextmanager
async def gateway(clinic: Clinic) -> AsyncIterator[tuple[int, list[End[DoctorConnection]]]]:
    """A doctor that listens on loopback: its port and, one by one, its ends."""
    ends: list[End[DoctorConnection]] = []

    def accept() -> Stream[DoctorConnection]:
        ends.append(End(clinic.doctor_connection(), admit))
        return ends[-1].stream

    server = await asyncio.get_running_loop().create_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], ends
    finally:
        server.close()
        for end in ends:
            end.stream.abort()
        await asyncio.gather(*(end.closed.wait() for end in ends))
        await server.wait_closed()


@asynccontextmanager
async def session() -> AsyncIterator[tuple[Clinic, End[PatientConnection], End[DoctorConnection]]]:
    """A patient and a doctor, established over a real socket."""
    clinic = Clinic(clock=RealTime())
    async with gateway(clinic) as (port, ends):
        patient = End(clinic.patient_connection(clinic.patient()))
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: patient.stream, "127.0.0.1", port)
        try:
            await patient.told(EpochBegun)
            yield clinic, patient, ends[0]
        finally:
            patient.stream.abort()
            await patient.closed.wait()


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """A connection over loopback: only TCP knows resets."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        theirs = socket.create_connection(server.getsockname())
        ours, _ = server.accept()
    ours.setblocking(False)
    return ours, theirs


@asynccontextmanager
async def mute_peer(
    clinic: Clinic, pair: Callable[[], tuple[socket.socket, socket.socket]] = socket.socketpair
) -> AsyncIterator[tuple[End[DoctorConnection], socket.socket]]:
    """A doctor's end whose peer is a bare socket that does only what a test does with it."""
    ours, theirs = pair()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    end = End(clinic.doctor_connection(), admit)
    await asyncio.get_running_loop().create_connection(lambda: end.stream, sock=ours)
    try:
        yield end, theirs
    finally:
        end.stream.abort()
        await end.closed.wait()
        theirs.close()


@on_a_loop
async def test_a_session_runs_over_a_socket() -> None:
    """Handshake, group key, broadcast, receipt, disconnect."""
    async with session() as (clinic, patient, doctor):
        doctor.stream.shared_write(CLINIC_EPOCH.seal(0, clinic.sign(7, 0, b"take two")))
        await patient.told(MessageReceived)
        patient.connection.acknowledge([Position(EVERYONE, 7, [])])
        patient.stream.flush()
        await doctor.told(Receipted)
        doctor.connection.disconnect(DisconnectReason.CLOSING)
        doctor.stream.flush()
        await patient.closed.wait()
        await doctor.closed.wait()

        assert events_of(Confirmed, patient.events) == [Confirmed()]
        assert only(MessageReceived, patient.events).body == b"take two"
        assert only(Receipted, doctor.events).positions == (Position(EVERYONE, 7, []),)
        assert only(Disconnected, patient.events).reason is DisconnectReason.CLOSING
        assert doctor.stream.peer.startswith("127.0.0.1:")
        assert not patient.stream.open
        assert patient.stream.buffered == 0


@on_a_loop
async def test_a_fault_reaches_the_peer_before_the_end() -> None:
    """The alert is written, then the transport is closed."""
    async with session() as (_, patient, doctor):
        doctor.connection.fail(Check.RECEIPT_ISSUED, "number 9 was never issued", clock())
        doctor.stream.flush()
        await patient.closed.wait()

        assert only(Failed, doctor.events).check is Check.RECEIPT_ISSUED
        assert only(Alerted, patient.events).code is AlertCode.REFUSED
        assert only(Alerted, patient.events).authentic


@on_a_loop
async def test_a_cut_inside_a_frame_is_noticed_when_the_peer_closes() -> None:
    """V-006 arrives through eof_received."""
    async with mute_peer(Clinic(clock=RealTime())) as (doctor, peer):
        peer.sendall(b"\x01\x0a\x00")
        peer.shutdown(socket.SHUT_WR)
        await doctor.closed.wait()

        assert only(Failed, doctor.events).check is Check.STREAM_COMPLETE


@on_a_loop
async def test_an_abort_ends_the_connection_too() -> None:
    """A cut transport leaves no connection that believes to be alive, and its events are still told."""
    async with mute_peer(Clinic(clock=RealTime())) as (doctor, _):
        doctor.stream.data_received(b"\x01\x0a\x00")
        doctor.stream.abort()
        await doctor.closed.wait()

        assert only(Failed, doctor.events).check is Check.STREAM_COMPLETE
        assert doctor.connection.ended


@on_a_loop
async def test_a_peer_that_takes_nothing_is_cut_after_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be written does not keep a closed connection's socket for ever."""
    monkeypatch.setattr(stream_module, "LINGER", 0.01)
    async with mute_peer(Clinic(clock=RealTime())) as (doctor, _):
        doctor.stream.shared_write(bytes(4 * WRITE_HIGH_WATER))
        assert doctor.stream.buffered
        doctor.connection.disconnect(DisconnectReason.CLOSING)
        doctor.stream.flush()

        await doctor.closed.wait()

        assert doctor.stream.buffered == 0


@on_a_loop
async def test_after_a_reset_the_kernel_keeps_nothing_for_the_peer() -> None:
    """An abort leaves it what it has taken already, with an end behind it; a reset does not."""
    loop = asyncio.get_running_loop()
    for reset in (False, True):
        async with mute_peer(Clinic(clock=RealTime()), tcp_pair) as (doctor, peer):
            peer.setblocking(False)
            doctor.stream.shared_write(bytes(8 * WRITE_HIGH_WATER))
            if reset:
                doctor.stream.reset()
            else:
                doctor.stream.abort()
            await doctor.closed.wait()
            cut = False
            try:
                while await loop.sock_recv(peer, 1 << 20):
                    pass
            except ConnectionResetError:
                cut = True

            assert cut is reset


@on_a_loop
async def test_a_peer_that_does_not_listen_is_not_read_from() -> None:
    """Answers never pile up: reading stops with writing, and both go on when the peer reads again."""
    loop = asyncio.get_running_loop()
    async with mute_peer(Clinic(clock=RealTime())) as (doctor, peer):
        size = 2 * WRITE_HIGH_WATER
        doctor.stream.shared_write(bytes(size))
        assert not doctor.stream.writable
        peer.sendall(b"\x02")  # a bad version, which would end the connection once it is read
        peer.setblocking(False)
        assert doctor.stream._transport is not None
        assert not doctor.stream._transport.is_reading()

        got = 0
        while got < size:
            got += len(await loop.sock_recv(peer, 1 << 16))
        await doctor.told(Failed)

        assert doctor.writable.is_set()
        assert only(Failed, doctor.events).check is Check.FRAME_VERSION


@on_a_loop
async def test_the_handshakes_deadline_rings() -> None:
    """A peer that says nothing is told so and cut."""
    clinic = Clinic(clock=RealTime())
    clinic.practice = replace(clinic.practice, handshake_deadline=20)
    async with mute_peer(clinic) as (doctor, _):
        await doctor.closed.wait()

        assert only(Failed, doctor.events).check is Check.HANDSHAKE_DEADLINE


@on_a_loop
async def test_an_earlier_deadline_moves_the_timer() -> None:
    """The one timer is set anew when the connection wants it sooner, and left alone when later."""
    async with mute_peer(Clinic(clock=RealTime())) as (doctor, _):
        connection = doctor.connection
        first = doctor.stream._timer
        connection._deadline = clock().elapsed + 3_600_000
        doctor.stream.flush()
        assert doctor.stream._timer is first

        connection._deadline = clock().elapsed
        doctor.stream.flush()
        await doctor.closed.wait()

        assert only(Failed, doctor.events).check is Check.HANDSHAKE_DEADLINE


@on_a_loop
async def test_a_timer_that_rings_while_the_transport_closes_is_not_set_again() -> None:
    """Nothing is left behind that would ring for a connection that is gone."""
    async with mute_peer(Clinic(clock=RealTime())) as (doctor, _):
        doctor.stream.abort()
        doctor.stream._ring()
        await doctor.closed.wait()

        assert doctor.stream._timer is None
        assert doctor.connection.ended


@on_a_loop
async def test_a_stream_without_a_transport_takes_everything_quietly() -> None:
    """Before the connection is made and after it is lost, nothing raises and nothing is sent."""
    end = End(Clinic().doctor_connection())

    end.stream.flush()
    end.stream.abort()
    end.stream.pause_writing()
    end.stream.resume_writing()

    assert not end.stream.open
    assert end.stream.buffered == 0
    assert end.stream.writable
    with pytest.raises(LocalError, match="shares nothing"):
        _ = end.stream.shared_write


def test_clock_reads_both_clocks_in_milliseconds() -> None:
    """The wall clock is after this was written, the other one never goes back."""
    first, second = clock(), clock()

    assert isinstance(first, Instant)
    assert first.wall > 1_700_000_000_000
    assert second.elapsed >= first.elapsed

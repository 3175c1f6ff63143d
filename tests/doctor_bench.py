"""A bench for the doctor: a running gateway on a free loopback port, and devices made of the real protocol and real sockets.

Nothing here sleeps. Everything that happens, an event at a device or a line in the doctor's log, rings one bell, and a
test waits until what it wants to see is true. The log runs in strict mode: a field that is not on the allow-list fails the test.
"""

from __future__ import annotations

import asyncio
import functools
import queue
import resource
import secrets
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import msgspec
import structlog
from structlog.typing import EventDict, WrappedLogger

from doctor import audit, enrolment, groups, receipts, roster, streams
from doctor.answers import BroadcastAnswer, MessageAnswer
from doctor.api.server import create_server
from doctor.audit import Verdict
from doctor.database import MIGRATIONS
from doctor.fanout import Fanout
from doctor.gateway import Gateway, open_gateway
from doctor.house import House
from doctor.idempotency import Origin
from doctor.keyring import load_or_create
from doctor.orders import BroadcastOrder, InviteOrder, MessageOrder
from doctor.outbox import Accepted, MessageRequest, Outbox
from doctor.receipts import Acknowledgement
from doctor.sessions import Session
from doctor.settings import DoctorSettings
from shared import logs
from shared.crypto.secret import Secret
from shared.crypto.signatures import SIGNERS, Algorithm, SigningKey, fingerprint
from shared.crypto.suites import DEFAULT_SUITE, Suite
from shared.net.stream import Stream, clock
from shared.protocol import invitations
from shared.protocol.doctor_handshake import Standing
from shared.protocol.envelopes import FormerKey, Positions, Reader
from shared.protocol.epochs import Epoch
from shared.protocol.events import (
    Alerted,
    Disconnected,
    EpochBegun,
    Event,
    KeysRotated,
    MessageReceived,
    RetryAsked,
    Verified,
)
from shared.protocol.invitations import DoctorKey, Invitation, derived_id
from shared.protocol.patient_connection import PatientConnection
from shared.protocol.patient_handshake import Enrolment, Hello, Identity
from shared.protocol.rotation import Successors
from shared.storage.sealed import Sealer
from shared.storage.sqlite import open_database, open_reader
from shared.storage.writer import Writer
from shared.wire.messages import Position, TargetKind
from shared.wire.messages import Stream as MessageStream
from shared.wire.opcodes import DisconnectReason, Opcode
from tests.crypto_tools import entropy
from tests.protocol_bench import DAY, WALL, events_of, split

T = TypeVar("T")
P = ParamSpec("P")

LIMIT_S = 20.0  # a test that waits longer waits for something that will not happen
ME = Origin("test")
EVERYONE = MessageStream(TargetKind.GROUP, "everyone")


class Bell:
    """Wakes whoever waits, each time that anything has happened."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    def ring(self) -> None:
        """Something has happened."""
        waiting, self._waiting = self._waiting, set()
        for future in waiting:
            if not future.done():
                future.get_loop().call_soon_threadsafe(_wake, future)

    async def until(self, holds: Callable[[], object], what: str = "the condition") -> None:
        """Wait until `holds()` is true."""
        try:
            async with asyncio.timeout(LIMIT_S):
                while not holds():
                    future = asyncio.get_running_loop().create_future()
                    self._waiting.add(future)
                    await future
        except TimeoutError as error:
            raise AssertionError(f"{what} did not come true; the doctor's log: {LOG.lines[-20:]}") from error


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


BELL = Bell()


class LogBook:
    """What the doctor has logged, as it passed the allow-list."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def open(self) -> None:
        """Log into this book from now on, strictly."""
        self.lines = []
        logs.configure("debug", "json", strict=True)
        processors = [*structlog.get_config()["processors"][:-1], self._keep]
        structlog.configure(processors=processors)

    def _keep(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        self.lines.append(dict(event))
        BELL.ring()
        raise structlog.DropEvent

    def find(self, event: str, **fields: object) -> list[dict[str, Any]]:
        """The lines with this event and these fields."""
        return [
            line
            for line in self.lines
            if line["event"] == event and all(line.get(name) == value for name, value in fields.items())
        ]

    async def until(self, event: str, count: int = 1, **fields: object) -> dict[str, Any]:
        """Wait for the `count`-th such line."""
        await BELL.until(lambda: len(self.find(event, **fields)) >= count, f"log line {event!r} {fields}")
        return self.find(event, **fields)[count - 1]


LOG = LogBook()


def on_a_loop(
    test: Callable[P, Coroutine[None, None, None]],
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> Callable[P, None]:
    """Run an asynchronous test on a loop of its own; what only the loop was told of fails the test too."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        troubles: list[dict[str, Any]] = []

        async def main() -> None:
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: troubles.append(context))
            async with asyncio.timeout(LIMIT_S):
                await test(*args, **kwargs)

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main())
        assert troubles == []

    return run


class TappedStream(Stream[PatientConnection]):
    """A stream that keeps a copy of what comes off the wire."""

    tapped = b""

    def data_received(self, data: bytes) -> None:
        """Copy, and pass on."""
        self.tapped += data
        super().data_received(data)


@dataclass
class Shown:
    """One message that a device has applied. `body` None: it came too late to be shown."""

    number: int
    body: bytes | None
    direct: bool


class Device:
    """A patient made of the real protocol: it applies messages, keeps its positions, and acknowledges.

    Args:
        invitation: what it pins, and by which it enrols.
        patient_id: None: the derived id of a fleet patient.
    """

    kind: type[PatientConnection] = PatientConnection

    def __init__(
        self,
        invitation: Invitation,
        patient_id: str | None = None,
        suite: Suite = DEFAULT_SUITE,
        key: SigningKey | None = None,
    ) -> None:
        self.invitation = invitation
        self.suite = suite
        self.key = key or suite.signer.generate(secrets.token_bytes)
        self.fingerprint = fingerprint(self.key.algorithm, self.key.public)
        self.patient_id = patient_id or invitation.patient_id or derived_id(self.fingerprint)
        self.positions = Positions()
        self.inbox: dict[MessageStream, list[Shown]] = {}
        self.events: list[Event] = []
        self.epochs: list[Epoch] = []  # every epoch whose secret this device ever held
        self.acknowledges = True
        self.hello: Hello | None = None  # with a cookie, after a RETRY
        self.sequence = 0  # of the rotation that brought its pins
        self.former: tuple[FormerKey, ...] = ()
        self.closed = 0
        self.stream: TappedStream | None = None

    def identity(self) -> Identity:
        """Who it is, as the handshake wants it."""
        pinned = self.invitation.doctor_key(self.suite.signer.algorithm)
        assert pinned is not None
        enrolment = Enrolment(self.invitation.invitation_id, self.invitation.secret)
        others = tuple(
            (each.algorithm, each.public)
            for each in self.invitation.doctor_keys
            if each.algorithm is not self.suite.signer.algorithm
        )
        return Identity(
            self.patient_id,
            self.key,
            self.suite,
            self.invitation.doctor_id,
            pinned,
            enrolment,
            45_000,
            others,
            self.sequence,
        )

    def connection(self) -> PatientConnection:
        """A new connection of this device."""
        envelope_key = self.invitation.doctor_key(Algorithm.ECDSA_P256)
        assert envelope_key is not None
        reader = Reader(
            self.patient_id,
            self.fingerprint,
            self.invitation.doctor_id,
            envelope_key,
            former=self.former,
        )
        return self.kind(
            self.identity(), reader, self.positions, clock(), secrets.token_bytes, hello=self.hello
        )

    async def connect(self, port: int) -> TappedStream:
        """Open a connection to the doctor; what comes of it, the events tell."""
        loop = asyncio.get_running_loop()
        _, self.stream = await loop.create_connection(self.open_stream, "127.0.0.1", port)
        return self.stream

    def open_stream(self) -> TappedStream:
        """A stream with a new connection on it, for whatever transport it is given."""
        stream = TappedStream(
            self.connection(), lambda events: self._on_events(stream, events), self._on_closed
        )
        return stream

    def _on_events(self, stream: TappedStream, events: list[Event]) -> None:
        self.events += events
        for event in events:
            if isinstance(event, EpochBegun):
                self.epochs.append(stream.connection._epochs._by_group[event.group])
            elif isinstance(event, MessageReceived):
                self._apply(stream, event)
            elif isinstance(event, RetryAsked):
                self.hello = event.hello
            elif isinstance(event, KeysRotated):
                self._pin(event.successors)
        BELL.ring()

    def _pin(self, new: Successors) -> None:
        before = self.invitation.doctor_key(Algorithm.ECDSA_P256)
        assert before is not None
        keys = [DoctorKey(algorithm, public) for algorithm, public in new.keys.items()]
        self.invitation = msgspec.structs.replace(self.invitation, doctor_keys=keys)
        self.former, self.sequence = (*self.former, FormerKey(before, new.time)), new.sequence

    def _apply(self, stream: TappedStream, event: MessageReceived) -> None:
        envelope = event.envelope
        shown = Shown(envelope.number, event.body, event.direct)
        self.inbox.setdefault(envelope.stream, []).append(shown)
        if self.acknowledges and not stream.connection.ended:
            self.acknowledge(envelope.stream, envelope.number, event.body is None)

    def acknowledge(self, of: MessageStream, number: int, expired: bool = False) -> None:
        """Send a receipt."""
        assert self.stream is not None
        self.stream.connection.acknowledge([Position(of, number, [number] if expired else [])])
        asyncio.get_running_loop().call_soon(self.stream.flush)

    def _on_closed(self) -> None:
        self.closed += 1
        BELL.ring()

    # What a test waits for and looks at

    async def until(self, holds: Callable[[Device], object], what: str = "what the device waits for") -> None:
        """Wait until something is true of this device."""
        await BELL.until(lambda: holds(self), f"{what} ({self.patient_id}, {self.events[-5:]})")

    async def gone(self) -> None:
        """Wait until its connection is closed."""
        before = self.stream
        await self.until(
            lambda _: before is None or (not before.open and before._transport is None), "the end"
        )

    def cut(self) -> None:
        """Cut the link without a word."""
        assert self.stream is not None
        self.stream.abort()

    def bodies(self, group: str = "everyone") -> list[bytes | None]:
        """The bodies it has applied, in order."""
        return [shown.body for shown in self.inbox.get(streams.of_group(group), [])]

    @property
    def own(self) -> MessageStream:
        """The stream of messages to this device alone."""
        return streams.of_patient(self.patient_id)

    @property
    def private(self) -> list[bytes | None]:
        """The bodies of the messages to it alone, in order."""
        return [shown.body for shown in self.inbox.get(self.own, [])]

    def count(self, kind: type[Any]) -> int:
        """How many events of a kind it has seen."""
        return len(events_of(kind, self.events))

    def epoch(self, group: str = "everyone") -> int:
        """The last epoch it was given."""
        numbers = [begun.epoch for begun in events_of(EpochBegun, self.events) if begun.group == group]
        return numbers[-1] if numbers else 0

    @property
    def broadcasts(self) -> list[bytes]:
        """The BROADCAST frames that came off the wire of its present connection."""
        assert self.stream is not None
        whole = self.stream.tapped
        return [frame for frame in split(whole) if frame[1] == Opcode.BROADCAST]

    @property
    def disconnects(self) -> list[DisconnectReason]:
        """Why the doctor has ended its sessions."""
        return [event.reason for event in events_of(Disconnected, self.events)]

    @property
    def alerts(self) -> list[Alerted]:
        """The alerts it was told."""
        return events_of(Alerted, self.events)


@dataclass
class Doctor:
    """A running gateway, and short ways to its inside."""

    gateway: Gateway
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    devices: list[Device] = field(default_factory=list)

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something on the doctor's loop, from another thread."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(LIMIT_S)

    @property
    def house(self) -> House:
        """What its visits share."""
        return self.gateway._house

    @property
    def fanout(self) -> Fanout:
        """Its groups and sessions."""
        return self.house.fanout

    @property
    def writer(self) -> Writer:
        """Its database's writer."""
        return self.house.writer

    @property
    def reader(self) -> sqlite3.Connection:
        """Its database, to look at."""
        return self.gateway.commands.reader

    def session(self, device: Device) -> Session:
        """The session that a device has now."""
        return self.fanout.sessions[device.patient_id]

    async def invite(self, patient: str | None, *groups: str, hours: float | None = None) -> Invitation:
        """An invitation, as the device reads it."""
        answer = await self.gateway.commands.invite(InviteOrder(patient, list(groups), hours), ME)
        return invitations.from_text(answer.invitation)

    async def device(self, patient: str, *groups: str, suite: Suite = DEFAULT_SUITE) -> Device:
        """A device that is established and holds its groups' keys."""
        device = Device(await self.invite(patient, *groups), suite=suite)
        await self.connect(device)
        await self.attached(device, "everyone", *groups)
        return device

    async def connect(self, device: Device) -> None:
        """Let a device connect; nothing is awaited but the socket."""
        self.devices.append(device)
        await device.connect(self.gateway.port)

    async def attached(self, device: Device, *groups: str) -> None:
        """Wait until a device's session stands in the log of each group and holds its present key."""

        def stands() -> bool:
            session = self.fanout.sessions.get(device.patient_id)
            return session is not None and all(
                (at := session.attachments.get(streams.of_group(name))) is not None
                and at.attached
                and at.held_epoch == self.fanout.groups[name].epoch_number == device.epoch(name)
                for name in groups or ("everyone",)
            )

        await BELL.until(stands, f"{device.patient_id} to be attached")

    async def reconnect(self, device: Device) -> None:
        """Let a device that is away come back, and wait until it is attached."""

        await self.connect(device)
        await self.attached(device)

    async def broadcast(
        self, text: str, group: str = "everyone", hours: float | None = None
    ) -> BroadcastAnswer:
        """Accept a message."""
        return await self.gateway.commands.broadcast(BroadcastOrder(text, group, hours), ME)

    async def send(self, patient: str, text: str, hours: float | None = None) -> MessageAnswer:
        """Accept a message to one patient."""
        return await self.gateway.commands.send(patient, MessageOrder(text, hours), ME)

    async def delivered(self, device: Device, number: int) -> None:
        """Wait until a receipt is committed."""
        await LOG.until("delivered", patient=device.patient_id, number=number)

    def states(self, message_id: str) -> dict[str, str]:
        """The receipts of a message."""
        return {row.patient: row.state for row in self.gateway.commands.receipts(message_id)}

    def audited(self, action: audit.Action) -> list[tuple[str, str]]:
        """Subject and detail of the audit entries of a kind."""
        rows = self.reader.execute(
            "SELECT object, detail FROM audit WHERE action = ? ORDER BY sequence", (action.value,)
        )
        return rows.fetchall()

    @asynccontextmanager
    async def refusing_disk(self) -> AsyncIterator[None]:
        """Every transaction inside the block is refused: another program holds the database."""
        await self.writer.submit(lambda db: db.execute("PRAGMA busy_timeout = 0").fetchone())
        (name,) = [row[2] for row in self.reader.execute("PRAGMA database_list") if row[1] == "main"]
        with closing(sqlite3.connect(name, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            yield
            other.execute("ROLLBACK")

    @asynccontextmanager
    async def disk_without_room(self) -> AsyncIterator[None]:
        """Transactions begin and end inside the block, as they do on a full disk; only what would be written is refused."""
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    @asynccontextmanager
    async def held_writer(self) -> AsyncIterator[None]:
        """No transaction is committed inside the block; what was submitted is, in its order, after it."""
        gate = threading.Event()
        held = self.writer.submit_nowait(lambda db: gate.wait(LIMIT_S))
        yield
        gate.set()
        await held

    async def settled(self) -> None:
        """Wait until everything that was submitted to the database is committed and has had its effect."""
        for _ in range(3):
            await self.writer.submit(lambda db: None)

    async def epochs_begun(self) -> None:
        """Wait until no group waits any more for others to join its next epoch, and the last one is on the disk."""
        groups = self.fanout.groups.values()
        await BELL.until(lambda: all(group.timer is None for group in groups), "every group's next epoch")
        await self.settled()

    async def a_millisecond_over(self) -> None:
        """Wait until what was given the shortest life has expired."""
        until = clock().wall + 2
        while clock().wall < until:
            await self.settled()


async def learn(doctor: Doctor, device: Device) -> None:
    """A device comes back: once to learn the new keys, once under them."""
    await device.gone()
    await doctor.connect(device)
    await device.gone()
    await doctor.connect(device)
    await doctor.attached(device, "everyone")


def settings_for(directory: Path, **changes: Any) -> DoctorSettings:
    """Settings for a doctor below a directory, on a free port."""
    values: dict[str, Any] = {
        "listen_port": 0,
        "state_dir": str(directory / "state"),
        "audit_dir": str(directory / "audit"),
        "half_open_limit": 512,
        "console_port": None,
    }
    return DoctorSettings(**{**values, **changes})


@asynccontextmanager
async def running(directory: Path, **changes: Any) -> AsyncIterator[Doctor]:
    """A doctor that runs; at the end its devices are hung up and the sockets are waited for."""
    async with open_gateway(settings_for(directory, **changes)) as gateway:
        doctor = Doctor(gateway)
        try:
            yield doctor
        finally:
            await doctor.settled()
    for device in doctor.devices:
        if device.stream is not None:
            device.stream.abort()
            await device.gone()


@contextmanager
def database(directory: Path) -> Iterator[sqlite3.Connection]:
    """An empty doctor's database, for the functions that run inside a transaction."""
    with closing(open_database(directory / "doctor.db", MIGRATIONS)) as db:
        yield db


def verify_audit(directory: Path) -> Verdict:
    """Judge the audit log of a doctor that has run below a directory."""
    keys = load_or_create(directory / "state", frozenset(), secrets.token_bytes)
    with closing(open_reader(directory / "state" / "doctor.db")) as db:
        return audit.verify(
            db, directory / "audit", keys.identity.public, keys.identity.algorithm, keys.former
        )


class Books:
    """The functions that run inside a transaction, on a database without a gateway; every call is a moment of its own."""

    def __init__(self, db: sqlite3.Connection, directory: Path) -> None:
        self.db = db
        self.random = entropy("books")
        self.keys = load_or_create(directory / "state", frozenset(), self.random)
        self.sealer = Sealer(self.keys.storage, self.random)
        self.outbox = Outbox("doctor", self.keys.signing, self.sealer, self.random)
        self.now = WALL
        groups.create(db, "everyone", WALL, "gateway")

    def later(self, milliseconds: int = 1) -> int:
        """Let time pass."""
        self.now += milliseconds
        return self.now

    def note(self, action: audit.Action, subject: str) -> None:
        """An audit entry."""
        audit.append(self.db, self.later(), "gateway", action, subject)

    def invite(self, patient_id: str | None, *names: str, uses: int = 1, lifetime: int = DAY) -> Invitation:
        """Make an invitation."""
        request = enrolment.InvitationRequest(patient_id, names, uses, lifetime)
        address = ("127.0.0.1:7700",)
        return enrolment.invite(
            self.db, "doctor", self.keys, address, self.sealer, request, self.now, "operator", self.random
        )

    def verified(
        self, patient_id: str | None, invitation: Invitation | None, key: SigningKey | None = None
    ) -> Verified:
        """What the handshake says of a patient that has proved itself. `patient_id` None: the derived id."""
        key = key or SIGNERS[Algorithm.ECDSA_P256].generate(self.random)
        name = patient_id or derived_id(fingerprint(key.algorithm, key.public))
        invitation_id = invitation.invitation_id if invitation else None
        secret, suite = Secret(self.random(32)), DEFAULT_SUITE.id
        return Verified(name, key.algorithm, key.public, suite, invitation_id, secret, self.now, self.now)

    def admit(self, verified: Verified) -> enrolment.Admission:
        """Let it in."""
        return enrolment.admit(self.db, verified, self.later(), "127.0.0.1:1")

    def enrol(self, patient_id: str, *names: str) -> Verified:
        """A patient that is in."""
        verified = self.verified(patient_id, self.invite(patient_id, *names))
        self.admit(verified)
        return verified

    def accept(self, text: str = "take two", group: str = "everyone", lifetime: int = DAY) -> Accepted:
        """Accept a message."""
        request = MessageRequest(streams.of_group(group), text.encode(), lifetime)
        return self.outbox.accept(self.db, request, self.later(), "operator")

    def acknowledge(self, patient_id: str, number: int, *expired: int, group: str = "everyone") -> None:
        """Commit a receipt."""
        stream = MessageStream(TargetKind.GROUP, group)
        receipts.commit(self.db, [Acknowledgement(stream, patient_id, number, expired)], self.now)

    def depart(self, patient_id: str, standing: Standing) -> roster.Departure:
        """Revoke or retire."""
        return roster.depart(self.db, patient_id, standing, self.later(), "operator")

    def intervals(self, patient_id: str, group: str = "everyone") -> list[tuple[int, int | None]]:
        """The memberships of a patient in a group."""
        rows = streams.memberships_of(self.db, patient_id)
        return [(row.start, row.until) for row in rows if row.stream == streams.of_group(group)]

    def states(self, accepted: Accepted, written: dict[str, int] | None = None) -> dict[str, str]:
        """The receipts of a message."""
        rows = receipts.list_receipts(self.db, accepted.stream, accepted.number, self.now, written or {})
        return {row.patient: row.state.value for row in rows}


@contextmanager
def serving_in_a_thread(directory: Path, **changes: Any) -> Iterator[Doctor]:
    """A doctor and its API on a socket, on a loop of their own: for what blocks, as the command line does."""
    started: queue.Queue[tuple[Doctor, asyncio.Event] | BaseException] = queue.Queue()

    async def serve() -> None:
        earlier = len(LOG.find("api ready"))
        async with running(directory, **changes) as doctor:
            server = create_server(doctor.gateway, str(directory / "state"))
            stop = asyncio.Event()
            serving = asyncio.create_task(server.serve())
            await LOG.until("api ready", earlier + 1)
            started.put((doctor, stop))
            await stop.wait()
            server.should_exit = True
            await serving

    def work() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            started.put(error)
            raise

    thread = threading.Thread(target=work)
    thread.start()
    begun = started.get(timeout=LIMIT_S)
    if isinstance(begun, BaseException):
        thread.join()
        raise begun
    doctor, stop = begun
    try:
        yield doctor
    finally:
        doctor.loop.call_soon_threadsafe(stop.set)
        thread.join()

"""The gateway: opens the stores, accepts devices, keeps time, and stops in good order. Wiring and life cycle, no rules."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

from doctor import answers, audit, enrolment, groups, keyring, outbox, slow_readers
from doctor.answers import Origin
from doctor.audit import Action, Head
from doctor.commands import Commands
from doctor.database import MIGRATIONS
from doctor.desk import Office
from doctor.door import Allowance, DoorKeeper
from doctor.fanout import Fanout
from doctor.house import House
from doctor.journal import Journal
from doctor.receipts import Acknowledgement, Receipts
from doctor.reports import Reports
from doctor.roster import Roster
from doctor.settings import DoctorSettings
from doctor.visits import Visit
from shared.crypto.suites import SuiteId, suite_by_name
from shared.errors import StorageError, UserError
from shared.logs import get_logger
from shared.net.stream import clock
from shared.protocol.clock import SECOND
from shared.protocol.cookies import CookieJar
from shared.protocol.doctor_handshake import Practice
from shared.protocol.prekeys import PrekeyRing
from shared.protocol.replay import ReplayCache
from shared.storage.keyfile import private_directory
from shared.storage.sealed import Sealer
from shared.storage.sqlite import Writer, open_reader
from shared.wire.opcodes import DisconnectReason

_log = get_logger("gateway")

HEAD_INTERVAL = 10.0


class Gateway:
    """One running doctor. Use `async with open_gateway(settings) as gateway`.

    Attributes:
        commands: what people and programs can order.
        port: the device port in use.
        timekeeper: runs the timers; it ends only with the doctor, or by a bug, which is then raised at the end.
    """

    def __init__(
        self, settings: DoctorSettings, house: House, commands: Commands, keys: keyring.Keyring
    ) -> None:
        self.commands = commands
        self.port = 0
        self._settings = settings
        self._house = house
        self._keys = keys
        self.timekeeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._server: asyncio.Server | None = None
        self._last_head: Head | None = None

    @property
    def ready(self) -> bool:
        """Whether devices are accepted."""
        return self._server is not None and self._server.is_serving()

    async def listen(self) -> None:
        """Accept devices from now on.

        Raises:
            UserError: the port cannot be taken; says so.
        """
        host, port = self._settings.listen_host, self._settings.listen_port
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(lambda: Visit(self._house).stream, host, port)
        except socket.gaierror as error:
            raise UserError(
                f"listen_host {host!r} is no address of this machine ({error.strerror})."
            ) from error
        except OSError as error:
            raise UserError(
                f"The device port {host}:{port} cannot be taken ({error.strerror}). Set listen_port to a free one."
            ) from error
        self.port = self._server.sockets[0].getsockname()[1]
        self.commands.port = self.port
        _log.info("listening", host=host, port=self.port)

    async def close(self) -> None:
        """Say goodbye to every device, let what was submitted take effect, and stop."""
        if self._server is not None:
            self._server.close()
        for stream in list(self._house.streams):
            stream.hang_up(DisconnectReason.CLOSING)
        await self.commands.storage_answers()
        # A join among it may have set a timer for an epoch, which could no longer be kept.
        self._house.fanout.close()

    async def keep_time(self) -> None:
        """Whatever has to happen now and then, until cancelled."""
        fanout, practice = self._house.fanout, self._house.practice
        epoch_interval = self._settings.epoch_interval_s * SECOND
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_every(1.0, lambda: practice.prekeys.erase_expired(clock())))
            tasks.create_task(_every(2.0, fanout.send_unreceipted_again))
            tasks.create_task(_every(2.0, fanout.forget_read))
            tasks.create_task(_every(2.0, lambda: slow_readers.cut(fanout, clock())))
            tasks.create_task(_every(2.0, self._house.receipts.write_waiting))
            tasks.create_task(_every(60.0, self.commands.complete_journal))
            tasks.create_task(_every(1.0, lambda: _roll_old_epochs(fanout, epoch_interval)))
            tasks.create_task(_every(60.0, self._erase_expired))
            tasks.create_task(_every(60.0, self._retire_unseen))
            tasks.create_task(_every(HEAD_INTERVAL, self._export_head))

    def _erase_expired(self) -> None:
        now = clock().wall
        self._submit(lambda db: enrolment.erase_expired(db, now), "expired invitations not erased")
        self._submit(lambda db: answers.forget_older(db, now - 7 * outbox.DAY), "old answers not erased")

    def _retire_unseen(self) -> None:
        days = self._settings.retire_after_days
        if not days:
            return
        limit = clock().wall - days * outbox.DAY
        for patient_id in self.commands.fleet_unseen_since(limit):
            retiring = asyncio.ensure_future(self.commands.retire(patient_id, Origin("timer")))
            retiring.add_done_callback(_report("patient not retired"))

    def _export_head(self) -> None:
        before = self._last_head
        self._last_head = audit.export_head(
            self.commands.reader,
            Path(self._settings.audit_dir),
            self._keys.identity,
            clock().wall,
            before,
        )
        if self._last_head is not None and self._last_head is not before:
            _log.debug("audit head exported", sequence=self._last_head.sequence)

    def _submit(self, job: Callable[..., None], failure: str) -> None:
        self._house.writer.submit_nowait(job).add_done_callback(_report(failure))


def _report(failure: str) -> Callable[[asyncio.Future[Any]], None]:
    def report(future: asyncio.Future[Any]) -> None:
        error = None if future.cancelled() else future.exception()
        if error is not None and not isinstance(error, StorageError | UserError):
            raise error
        if error is not None:
            _log.error(failure, cause=str(error))

    return report


async def _every(seconds: float, work: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(seconds)
        try:
            work()
        except (StorageError, sqlite3.Error) as error:
            # The disk's trouble is no reason to stop the other timers, nor this one.
            _log.error("timer failed", cause=str(error))


def _roll_old_epochs(fanout: Fanout, interval: float) -> None:
    now = clock().elapsed
    for group in fanout.groups.values():
        if now - group.began >= interval:
            fanout.next_epoch(group)


@contextlib.asynccontextmanager
async def open_gateway(settings: DoctorSettings) -> AsyncIterator[Gateway]:
    """Open everything, accept devices, and close it all in the end.

    Raises:
        UserError: a file mode, a port or another doctor is in the way; says what to do.
        StorageError: a store cannot be opened, or the clock is behind it.
    """
    state_dir, audit_dir = Path(settings.state_dir), Path(settings.audit_dir)
    for directory in (state_dir, audit_dir):
        directory.parent.mkdir(parents=True, exist_ok=True)
        private_directory(directory)
    with _only_doctor(state_dir):
        suites = frozenset(suite_by_name(name).id for name in settings.suites)
        keys = keyring.load_or_create(state_dir, suites, secrets.token_bytes)
        keyring.keep_name(state_dir, settings.doctor_id)
        path = state_dir / "doctor.db"
        async with Writer(path, MIGRATIONS) as writer:
            await writer.submit(_prepare)
            with contextlib.closing(open_reader(path)) as reader:
                journal = Journal(audit_dir)
                journal.reconcile(reader, clock().wall)
                gateway = _assemble(settings, suites, keys, writer, reader, journal)
                await gateway.listen()
                gateway.timekeeper = timekeeper = asyncio.create_task(gateway.keep_time())
                try:
                    await gateway.commands.provision_fleet_once()  # names the port, which listening has fixed
                    yield gateway
                finally:
                    timekeeper.cancel()
                    await asyncio.wait({timekeeper})
                    await gateway.close()
                if not timekeeper.cancelled():
                    timekeeper.result()


def _prepare(db: sqlite3.Connection) -> None:
    """What must be true before anything else: a clock that is not behind, and the group of everyone."""
    now = clock().wall
    outbox.require_clock(db, now)
    if not db.execute("SELECT 1 FROM groups WHERE name = ?", (groups.EVERYONE,)).fetchone():
        groups.create(db, groups.EVERYONE, now, "gateway")
    audit.append(db, now, "gateway", Action.STARTED, "doctor")


def _assemble(
    settings: DoctorSettings,
    suites: frozenset[SuiteId],
    keys: keyring.Keyring,
    writer: Writer,
    reader: sqlite3.Connection,
    journal: Journal,
) -> Gateway:
    random, doctor_id = secrets.token_bytes, settings.doctor_id
    sealer = Sealer(keys.storage, random)
    roster = Roster()
    roster.load(reader, sealer)
    messages = outbox.Outbox(doctor_id, keys.identity, sealer, random)

    def keep_epoch(group: str, number: int, members: int) -> None:
        _log.info("epoch begun", group=group, epoch=number, members=members)
        writer.submit_nowait(lambda db: _keep_epoch(db, group, number, members)).add_done_callback(
            _report("epoch not kept")
        )

    fanout = Fanout(doctor_id, messages, reader, random, keep_epoch)
    fanout.load()
    window = round(settings.clock_window_s * SECOND)
    door = DoorKeeper(settings.half_open_limit, settings.half_open_per_address)
    practice = Practice(
        doctor_id=doctor_id,
        signing_keys=keys.signing,
        suites=suites,
        directory=roster,
        prekeys=PrekeyRing(doctor_id, keys.signing, random),
        replays=ReplayCache(2 * window),
        random=random,
        clock_window=window,
        handshake_deadline=round(settings.handshake_deadline_s * SECOND),
        cookies=CookieJar(random, lambda: door.crowded),
    )

    def committed(batch: list[Acknowledgement]) -> None:
        for entry in batch:
            _log.debug("delivered", patient=entry.patient_id, stream=str(entry.stream), number=entry.last)

    reports = Reports(sealer, settings.reports_per_patient)
    allowance = Allowance(settings.reports_per_minute)
    receipts = Receipts(writer, committed)
    house = House(practice, roster, fanout, receipts, writer, door, reports, allowance)
    office = Office(settings, keys, sealer, roster, messages, fanout, writer, reader, journal, reports)
    commands = Commands(office)
    return Gateway(settings, house, commands, keys)


def _keep_epoch(db: sqlite3.Connection, group: str, number: int, members: int) -> None:
    db.execute("UPDATE groups SET epoch = ? WHERE name = ?", (number, group))
    audit.append(db, clock().wall, "gateway", Action.EPOCH_BEGUN, group, f"epoch {number}, {members} members")


@contextlib.contextmanager
def _only_doctor(state_dir: Path) -> Iterator[None]:
    """Two doctors on one state would give the same number twice."""
    descriptor = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"Another doctor is running on {state_dir}; stop it first.") from error
        yield
    finally:
        os.close(descriptor)

"""The gateway: opens the stores, accepts devices, keeps time, and stops in good order. Wiring and life cycle, no rules."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from doctor import audit, descriptors, enrolment, facts, idempotency, outbox, slow_readers
from doctor.audit import Action
from doctor.commands import Commands
from doctor.desk import Office
from doctor.door import Allowance, DoorKeeper
from doctor.fanout import Fanout
from doctor.feed import Feed, Topic
from doctor.house import House
from doctor.idempotency import Origin
from doctor.ledger import Ledger
from doctor.receipts import Acknowledgement, Receipts
from doctor.reports import Reports
from doctor.retention import Retention
from doctor.roster import Roster
from doctor.settings import DoctorSettings
from doctor.stores import DATABASE_FILE, Stores, open_stores
from doctor.uptime import Ran, Uptime
from doctor.visits import Visit
from doctor.witness import Witness
from shared.errors import StorageError, UserError
from shared.logs import get_logger
from shared.net.stream import clock
from shared.protocol.clock import SECOND
from shared.protocol.cookies import CookieJar
from shared.protocol.doctor_handshake import Practice
from shared.protocol.prekeys import PrekeyRing
from shared.protocol.replay import ReplayCache
from shared.wire.opcodes import DisconnectReason

_log = get_logger("gateway")

BACKLOG = 1024  # connections that the kernel keeps while the loop is busy; the 101st of a ward must not wait for its next SYN


class Gateway:
    """One running doctor. Use `async with open_gateway(settings) as gateway`.

    Attributes:
        commands: what people and programs can order.
        port: the device port in use.
        witness: signs the end of the audit log.
        timekeeper: runs the timers; it ends only with the doctor, or by a bug, which is then raised at the end.
    """

    def __init__(self, settings: DoctorSettings, house: House, commands: Commands, stores: Stores) -> None:
        self.commands = commands
        self.port = 0
        self._settings = settings
        self._house = house
        self._stores = stores
        self.timekeeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._server: asyncio.Server | None = None
        self.witness = Witness(stores, commands, Path(settings.audit_dir))
        before = facts.read(stores.reader, stores.sealer, Ran)
        self._uptime = Uptime(before, settings.retire_after_days * outbox.DAY, clock())

    @property
    def house(self) -> House:
        """What all visits share."""
        return self._house

    @property
    def database(self) -> Path:
        """The database's file."""
        return Path(self._settings.state_dir) / DATABASE_FILE

    @property
    def ready(self) -> bool:
        """Whether devices are accepted."""
        listening = self._server is not None and self._server.is_serving()
        return listening and self._stores.restoration.pending is None

    async def listen(self) -> None:
        """Accept devices from now on.

        Raises:
            UserError: the port cannot be taken; says so.
        """
        host, port = self._settings.listen_host, self._settings.listen_port
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: Visit(self._house).stream, host, port, backlog=BACKLOG
            )
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
        self._house.feed.close()
        for stream in list(self._house.streams):
            stream.hang_up(DisconnectReason.CLOSING)
        await self._house.ledger.close()
        await self.commands.storage_answers()
        with contextlib.suppress(StorageError, sqlite3.Error):  # then the next start signs it
            self.witness.sign()
        # A join among it may have set a timer for an epoch, which could no longer be kept.
        self._house.fanout.close()
        self._house.noise.close()

    async def keep_time(self) -> None:
        """Whatever has to happen now and then, until cancelled."""
        fanout, practice = self._house.fanout, self._house.practice
        epoch_interval = self._settings.epoch_interval_s * SECOND
        patience = round(self._settings.stalled_reader_s * SECOND)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_every(1.0, lambda: practice.prekeys.erase_expired(clock())))
            tasks.create_task(_every(2.0, fanout.send_unreceipted_again))
            tasks.create_task(_every(2.0, fanout.forget_read))
            tasks.create_task(_every(1.0, lambda: slow_readers.cut(fanout, clock(), patience)))
            tasks.create_task(_every(2.0, self._house.receipts.write_waiting))
            tasks.create_task(_every(2.0, lambda: self._house.noise.sum_up(clock().elapsed)))
            tasks.create_task(_every(2.0, self._house.ledger.write_waiting))
            tasks.create_task(_every(2.0, self._complete_journal))
            tasks.create_task(_every(1.0, lambda: _roll_old_epochs(fanout, epoch_interval)))
            tasks.create_task(_every(60.0, self._erase_expired))
            tasks.create_task(self._retain())
            tasks.create_task(_every(60.0, self._retire_unseen))
            tasks.create_task(self.witness.keep_signing())

    def _erase_expired(self) -> None:
        now = clock().wall
        self._submit(lambda db: enrolment.erase_expired(db, now), "expired invitations not erased")
        self._submit(lambda db: idempotency.forget_older(db, now - 7 * outbox.DAY), "old answers not erased")

    async def _retain(self) -> None:
        """Once a minute: what takes longer than a turn of the loop."""
        keep = round(self._settings.retention_hours * enrolment.HOUR)
        database = Path(self._settings.state_dir) / DATABASE_FILE
        keep_reports = self._settings.report_retention_days * outbox.DAY
        keep_vitals = self._settings.vitals_retention_days * outbox.DAY
        retention = Retention(self._house.writer, database, keep, keep_reports, keep_vitals)
        while True:
            await asyncio.sleep(60.0)
            await self.commands.publish_waiting()
            if self._stores.restoration.pending is None:
                try:
                    await retention.apply(clock().wall)
                except StorageError as error:
                    _log.error("bodies not erased", cause=str(error))

    def _complete_journal(self) -> None:
        """Write what the journal's disk refused before; any commit does it."""
        if self._stores.journal.behind:
            self._submit(lambda db: None, "journal not completed")

    def _retire_unseen(self) -> None:
        restored = self._stores.restoration
        if not self._settings.retire_after_days or restored.pending is not None:
            return
        now, sealer = clock(), self._stores.sealer
        if (ran := self._uptime.note(now)) is not None:
            self._submit(lambda db: facts.write(db, sealer, ran), "time of running not noted")
        limit = self._uptime.unseen_before(now)
        if restored.confirmed_at > limit:
            return  # a restored database does not know who was seen since
        for patient_id in self.commands.fleet_unseen_since(limit):
            retiring = asyncio.ensure_future(self.commands.retire(patient_id, Origin("timer")))
            retiring.add_done_callback(_report("patient not retired"))

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
    async with open_stores(settings) as stores:
        gateway = _assemble(settings, stores)
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


def _assemble(settings: DoctorSettings, stores: Stores) -> Gateway:
    random, doctor_id = secrets.token_bytes, settings.doctor_id
    keys, sealer, writer, reader = stores.keys, stores.sealer, stores.writer, stores.reader
    roster = Roster()
    roster.load(reader, sealer)
    messages = outbox.Outbox(doctor_id, keys.signing, sealer, random)

    feed = Feed()
    ledger = Ledger(writer, lambda: feed.tell(Topic.EVENTS))

    def keep_epoch(group: str, number: int, members: int) -> None:
        feed.tell(Topic.PATIENTS)
        _log.info("epoch begun", group=group, epoch=number, members=members)
        now = clock().wall
        ledger.carry_out(lambda db: _keep_epoch(db, now, group, number, members))

    fanout = Fanout(doctor_id, messages, reader, random, keep_epoch, stores.floor, feed)
    fanout.load()
    limit, per_address = descriptors.places_at_the_door(settings, descriptors.take_all())
    door = DoorKeeper(limit, per_address, settings.failing_per_second, settings.failing_per_address)

    def committed(batch: list[Acknowledgement]) -> None:
        feed.tell(Topic.MESSAGES)
        for entry in batch if _log.debugging else ():
            _log.debug("delivered", patient=entry.patient_id, stream=str(entry.stream), number=entry.last)

    reports = Reports(sealer, settings.reports_per_patient)
    allowance, logins = Allowance(settings.reports_per_minute), Allowance(settings.logins_per_minute)
    receipts = Receipts(writer, committed)
    house = House(
        _practice(settings, stores, roster, door),
        keys,
        roster,
        fanout,
        receipts,
        ledger,
        writer,
        reader,
        door,
        reports,
        allowance,
        logins,
        feed,
    )
    office = Office(
        settings,
        keys,
        sealer,
        roster,
        messages,
        fanout,
        writer,
        reader,
        stores.journal,
        reports,
        stores.restoration,
        feed,
    )
    return Gateway(settings, house, Commands(office), stores)


def _practice(settings: DoctorSettings, stores: Stores, roster: Roster, door: DoorKeeper) -> Practice:
    """What a handshake is judged by."""
    random, keys, window = secrets.token_bytes, stores.keys, round(settings.clock_window_s * SECOND)
    return Practice(
        doctor_id=settings.doctor_id,
        signing_keys=keys.signing,
        suites=stores.suites,
        directory=roster,
        prekeys=PrekeyRing(settings.doctor_id, keys.signing, random),
        replays=ReplayCache(2 * window),
        random=random,
        clock_window=window,
        handshake_deadline=round(settings.handshake_deadline_s * SECOND),
        cookies=CookieJar(random, lambda: door.crowded(clock().elapsed)),
        admits=lambda: stores.restoration.pending is None,
        rotation=keys.announcement,
    )


def _keep_epoch(db: sqlite3.Connection, now: int, group: str, number: int, members: int) -> None:
    db.execute("UPDATE groups SET epoch = ? WHERE name = ?", (number, group))
    audit.append(db, now, "gateway", Action.EPOCH_BEGUN, group, f"epoch {number}, {members} members")

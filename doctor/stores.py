"""The doctor's stores at the start: one process alone, its own keys, its own database, and whether that is the newest state.

Law: nothing is written to a database before it is known whose it is and whether it is an older state of itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import sqlite3
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

from doctor import audit, clock_check, facts, groups, keyring, restoration, rotations
from doctor.audit import Action
from doctor.database import MIGRATIONS
from doctor.facts import Confirmed, Fact, Owner, Restored
from doctor.journal import Journal
from doctor.keyring import Keyring
from doctor.restoration import Lost, Restoration
from doctor.settings import DoctorSettings
from shared.crypto.suites import SuiteId, suite_by_name
from shared.errors import UserError
from shared.net.stream import clock
from shared.storage.keyfile import private_directory
from shared.storage.sealed import Sealer
from shared.storage.sqlite import open_reader
from shared.storage.writer import Writer

DATABASE_FILE = "doctor.db"
UNFINISHED = (
    ".unfinished-"  # how copies begin that are being made; one that a killed doctor has left is of no use
)


@dataclass(frozen=True, slots=True)
class Stores:
    """What is open while a doctor runs."""

    suites: frozenset[SuiteId]
    keys: Keyring
    sealer: Sealer
    writer: Writer
    reader: sqlite3.Connection
    journal: Journal
    restoration: Restoration
    floor: int


def directories(settings: DoctorSettings) -> tuple[Path, Path]:
    """The state and the audit directory, made private.

    Raises:
        UserError: others have access to one of them; says what to run. StorageError: one cannot be created.
    """
    state_dir, audit_dir = Path(settings.state_dir), Path(settings.audit_dir)
    for directory in (state_dir, audit_dir):
        directory.parent.mkdir(parents=True, exist_ok=True)
        private_directory(directory)
    return state_dir, audit_dir


@contextlib.contextmanager
def only_doctor(state_dir: Path) -> Iterator[None]:
    """Two doctors on one state would give the same number twice.

    Raises:
        UserError: another one runs.
    """
    descriptor = os.open(state_dir / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"Another doctor is running on {state_dir}; stop it first.") from error
        yield
    finally:
        os.close(descriptor)


@contextlib.asynccontextmanager
async def open_stores(settings: DoctorSettings, accept_clock: bool = False) -> AsyncIterator[Stores]:
    """Open everything that rests on a disk. `accept_clock`: the operator's word that the clock is right, though it is behind.

    Raises:
        UserError: a file mode or another doctor is in the way, or a key or the database is another doctor's; says what to do.
        StorageError: a store cannot be opened or is damaged, or the clock is behind it.
    """
    state_dir, audit_dir = directories(settings)
    with only_doctor(state_dir):
        for left in state_dir.glob(f"{UNFINISHED}*"):
            left.unlink(missing_ok=True)
        suites = frozenset(suite_by_name(name).id for name in settings.suites)
        path = state_dir / DATABASE_FILE
        if path.exists():
            keyring.require_all(state_dir)
        keys = keyring.load_or_create(state_dir, suites, secrets.token_bytes)
        keyring.keep_name(state_dir, settings.doctor_id)
        sealer = Sealer(keys.storage, secrets.token_bytes)
        journal = Journal(audit_dir, keys.storage)
        async with Writer(path, MIGRATIONS, journal.complete) as writer:
            with contextlib.closing(open_reader(path)) as reader:
                now = clock().wall
                owner = facts.require_owner(reader, sealer, settings.doctor_id, keys)
                schema = facts.require_schema(reader, sealer)
                lines = journal.compare(reader)
                _require_newest_keys(state_dir, keys, journal)
                mark, lost = restoration.look(reader, sealer, lines, journal.voided, audit_dir, keys, now)
                mark = await writer.submit(
                    lambda db: _prepare(db, sealer, keys, (owner, schema), mark, lost, now, accept_clock)
                )
                if rotations.unconfirmed(reader):
                    keys.complete = keys.sequence - 1
                confirmed = facts.read(reader, sealer, Confirmed)
                yield Stores(
                    suites,
                    keys,
                    sealer,
                    writer,
                    reader,
                    journal,
                    Restoration(mark, lost, confirmed.time if confirmed else 0),
                    confirmed.floor if confirmed else 0,
                )


def _require_newest_keys(state_dir: Path, keys: Keyring, journal: Journal) -> None:
    """Refuse keys that were rotated away, which an old copy of `keys/` has brought back; let go of those that are out of use.

    Raises:
        UserError: says which files are needed.
    """
    if keys.sequence < journal.rotation:
        raise UserError(
            f"The keys in {state_dir / 'keys'} are from before rotation {journal.rotation}, of which the journal knows: patients"
            " have pinned newer ones. Put the newest copy of keys/ there, rotations.json included."
        )
    keyring.erase_former(state_dir, keys)


def _prepare(
    db: sqlite3.Connection,
    sealer: Sealer,
    keys: Keyring,
    known: tuple[Owner, Fact],
    mark: Restored | None,
    lost: Lost,
    now: int,
    accept_clock: bool,
) -> Restored | None:
    """What must be true before anything else: a clock that is not behind, an owner, the group of everyone."""
    if accept_clock:
        clock_check.accept(db, sealer, now, "operator")
    clock_check.require(db, sealer, now)
    if not rotations.is_noted(db, sealer, keys):  # a crash came in between, or the database is from before
        rotations.note(db, sealer, known[0].doctor_id, keys, now, "gateway")
    for fact in known:
        if facts.read(db, sealer, type(fact)) != fact:
            facts.write(db, sealer, fact)
    if not db.execute("SELECT 1 FROM groups WHERE name = ?", (groups.EVERYONE,)).fetchone():
        groups.create(db, groups.EVERYONE, now, "gateway")
    if mark is not None:
        mark = restoration.enter(db, sealer, mark, lost, now)
    audit.append(db, now, "gateway", Action.STARTED, "doctor")
    return mark

"""Puts a backup in the place of the database of a doctor that is stopped.

Law: nothing is changed before the backup has passed every check: it is whole, of a schema that this program knows, this doctor's,
and sealed under the storage key that stands beside it. The former database is kept. The step from the old to the new one is one
rename; until then the old one is what a doctor would start on. The new one is marked: a doctor on it waits for its operator's word.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from doctor import audit, facts, heads, keyring, restoration
from doctor.answers import RestoredAnswer
from doctor.database import MIGRATIONS
from doctor.facts import Owner, Restored
from doctor.keyring import Keyring
from doctor.settings import DoctorSettings
from doctor.stores import DATABASE_FILE, UNFINISHED, directories, only_doctor
from shared.errors import StorageError, UserError
from shared.net.stream import clock
from shared.storage import sqlite
from shared.storage.keyfile import sync_directory
from shared.storage.sealed import Sealer


def restore(settings: DoctorSettings, source: BinaryIO, name: str) -> RestoredAnswer:
    """Put the backup that `source` gives in place. `name` is what people call it.

    Raises:
        UserError: the doctor runs, a key is missing, or this is no backup of this doctor; says which and what to do.
        StorageError: the backup is damaged or of a newer schema, or the disk refused. The database is what it was.
    """
    state_dir, _ = directories(settings)
    with only_doctor(state_dir):
        keys = keyring.load(state_dir)
        path = state_dir / f"{UNFINISHED}{secrets.token_hex(8)}"
        try:
            _copy(source, path, name)
            mark = _check_and_mark(path, settings.doctor_id, keys, name)
            aside = _set_aside(state_dir / DATABASE_FILE)
            os.replace(path, state_dir / DATABASE_FILE)
            sync_directory(state_dir)
        except OSError as error:
            raise StorageError(
                f"{name} was not restored: {error.strerror}; the database is what it was"
            ) from error
        finally:
            for left in state_dir.glob(f"{path.name}*"):
                left.unlink(missing_ok=True)
    return RestoredAnswer(name, str(aside) if aside else None, mark.base, mark.base_time)


def _copy(source: BinaryIO, path: Path, name: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        shutil.copyfileobj(source, file)
        if not file.tell():
            raise UserError(f"{name} is empty; it is no backup.")


def _check_and_mark(path: Path, doctor_id: str, keys: Keyring, name: str) -> Restored:
    """Every check, and the mark; what migrations the backup lacks are made on the copy."""
    try:
        db = sqlite.open_database(path, MIGRATIONS)
    except StorageError as error:
        raise StorageError(str(error).replace(str(path), name)) from error
    with contextlib.closing(db):
        sealer = Sealer(keys.storage, secrets.token_bytes)
        facts.require_owner(db, sealer, doctor_id, keys)
        if facts.read(db, sealer, Owner) is None:
            raise UserError(
                f"{name} does not say whose database it is; make backups with `telemed-doctor backup`."
            )
        facts.require_schema(db, sealer)
        verdict = audit.verify_chain(db)
        if verdict is not None:
            raise StorageError(f"the audit log in {name} does not verify: {verdict}")
        entry = heads.last_entry(db)
        cause = f"restored from {name} by the operator"
        mark = restoration.mark_at(db, entry.sequence if entry else 0, clock().wall, cause)
        facts.write(db, sealer, mark)
        db.execute("PRAGMA journal_mode=DELETE")  # one file, which a rename puts in place as a whole
    return mark


def _set_aside(database: Path) -> Path | None:
    """Keep the present database under another name as well, its log included; returns the name."""
    if not database.exists():
        return None
    log = database.with_name(f"{database.name}-wal")
    moment = datetime.fromtimestamp(clock().wall / 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
    aside = database.with_name(f"{database.name}.replaced-{moment}-{secrets.token_hex(2)}")
    os.link(database, aside)
    with contextlib.suppress(FileNotFoundError):
        os.link(log, f"{aside}-wal")
    sync_directory(database.parent)
    with contextlib.suppress(StorageError):  # a damaged one is kept as it is, with its log
        sqlite.checkpoint(database)
    for path in (log, database.with_name(f"{database.name}-shm")):
        path.unlink(missing_ok=True)  # beside the new database it would be taken for its own
    sync_directory(database.parent)
    return aside

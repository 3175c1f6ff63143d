"""A backup of the running doctor's database: made beside the devices' traffic, checked, and handed over as bytes.

Law: a backup is one SQLite file. It holds no key: bodies and secrets in it stay sealed under the storage key, which is not
in it, so whoever restores it needs `keys/` as well. The file has no name any more when its bytes are handed over, so none is left behind.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from doctor import audit, heads
from doctor.audit import Action
from doctor.desk import Desk
from doctor.idempotency import Origin
from doctor.stores import DATABASE_FILE, UNFINISHED
from shared.errors import StorageError
from shared.net.stream import clock
from shared.storage import sqlite

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that is made. `entry` is the last audit entry in it; `file` is to be read once, and closed."""

    file: BinaryIO
    size: int
    digest: str
    entry: int

    async def chunks(self) -> AsyncIterator[bytes]:
        """Its bytes; closes the file."""
        with self.file as file:
            while chunk := await asyncio.to_thread(file.read, _CHUNK):
                yield chunk


class BackingUp(Desk):
    """Makes backups."""

    async def back_up(self, origin: Origin) -> Backup:
        """Make one; the audit log says so, behind the last entry that is in it.

        Raises:
            StorageError: there is no room for it, or the database is damaged; then there is no backup.
        """
        backup = await asyncio.to_thread(_make, Path(self._office.settings.state_dir))
        now = clock().wall
        detail = f"up to entry {backup.entry}, SHA-256 {backup.digest}"

        def note(db: sqlite3.Connection) -> None:
            audit.append(db, now, origin.actor, Action.BACKUP_MADE, "database", detail)

        try:
            await self._office.writer.submit(note)
        except BaseException:
            backup.file.close()
            raise
        return backup


def _make(state_dir: Path) -> Backup:
    path = state_dir / f"{UNFINISHED}{secrets.token_hex(8)}"
    sqlite.back_up(state_dir / DATABASE_FILE, path)
    try:
        entry = _last_entry(path)
        file = path.open("rb")
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}") from error
    finally:
        path.unlink(missing_ok=True)
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    size = file.tell()
    file.seek(0)
    return Backup(file, size, digest, entry)


def _last_entry(path: Path) -> int:
    db = sqlite.open_reader(path)
    try:
        entry = heads.last_entry(db)
    finally:
        db.close()
    return entry.sequence if entry is not None else 0

"""The operator's word that the clock is right, given to a doctor that is stopped because it does not start with it.

Law: the database is opened as for a start, so nothing is said of one that is another doctor's, and of one that is an older state
it is noted before.
"""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path

from doctor import clock_check, facts, keyring
from doctor.answers import ClockAnswer
from doctor.settings import DoctorSettings
from doctor.stores import DATABASE_FILE, open_stores
from shared.errors import UserError
from shared.net.stream import clock
from shared.storage.sealed import Sealer
from shared.storage.sqlite import open_reader


def look(settings: DoctorSettings) -> ClockAnswer:
    """By how much the clock is behind. Changes nothing.

    Raises:
        UserError: it is not behind, there is no database, or it is another doctor's. StorageError: it cannot be read.
    """
    state_dir = Path(settings.state_dir)
    path, now = state_dir / DATABASE_FILE, clock().wall
    if not path.exists():
        raise UserError(f"There is no database {path}: no clock is behind it.")
    keys = keyring.load(state_dir)
    sealer = Sealer(keys.storage, secrets.token_bytes)
    with contextlib.closing(open_reader(path)) as db:
        facts.require_owner(db, sealer, settings.doctor_id, keys)
        by = clock_check.behind(db, sealer, now)
        if not by:
            raise UserError(
                "This machine's clock is not behind anything in the database: just start the doctor."
            )
        return ClockAnswer(now, clock_check.newest(db) // 1000, by)


async def accept(settings: DoctorSettings) -> None:
    """Note that the clock is right all the same.

    Raises:
        UserError: the doctor runs, or another file is in the way. StorageError: the disk refused; nothing was noted.
    """
    async with open_stores(settings, accept_clock=True):
        pass

"""Signs the end of the audit log now and then, outside the database, and keeps the file of these heads bounded."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

from doctor import heads, thinning
from doctor.commands import Commands
from doctor.heads import Head
from doctor.stores import Stores
from shared.errors import StorageError
from shared.logs import get_logger
from shared.net.stream import clock

INTERVAL = 10.0  # seconds

_log = get_logger("gateway")


class Witness:
    """The only one that signs heads while a doctor runs, but for the line of a confirmed restore.

    Args:
        stores: the log and the key.
        commands: whoever signs that line.
        directory: where the heads are.
    """

    def __init__(self, stores: Stores, commands: Commands, directory: Path) -> None:
        self._stores = stores
        self._commands = commands
        self._directory = directory
        self._last: Head | None = None

    async def keep_signing(self) -> None:
        """Sign, and thin the file where that is due, until cancelled. The disk's trouble is logged and passes."""
        keys = self._stores.keys
        while True:
            await asyncio.sleep(INTERVAL)
            try:
                self.sign()
                if self._last is not None and thinning.is_due(self._last):
                    self._last = await asyncio.to_thread(
                        thinning.thin,
                        self._directory,
                        keys.identity,
                        clock().wall,
                        former=keys.former,
                    )
                    _log.info("audit heads thinned", sequence=self._last.sequence)
            except (StorageError, sqlite3.Error) as error:
                _log.error("timer failed", cause=str(error))

    def sign(self) -> None:
        """Sign the end of the log, unless it is signed already, or the log is not confirmed to be the one that goes on.

        Raises:
            StorageError: the file cannot be written.
        """
        stores, before = self._stores, self._last
        if stores.restoration.pending is not None:
            return
        self._commands.sign_confirmation()
        self._last = heads.export(stores.reader, self._directory, stores.keys.identity, clock().wall, before)
        if self._last is not None and self._last is not before:
            _log.debug("audit head exported", sequence=self._last.sequence)

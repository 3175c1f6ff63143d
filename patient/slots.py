"""Which directory a process uses: one device, one directory, one process, by a lock that the kernel drops when it ends.

Replicas share a directory of numbered slots and take the lowest free one that has an identity, so that the same devices come
back after a restart or a change of scale. A new slot is made only when, for three seconds, none became free: a
replica that is being replaced needs a moment to let go.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import TracebackType

from patient.identity import DeviceHome
from shared.errors import StorageError, UserError
from shared.storage.keyfile import private_directory, sync_directory

PATIENCE_S = 3.0
POLL_S = 0.1

_NUMBER = re.compile(r"[0-9]{4,}")


class DeviceLock:
    """The exclusive use of a device's directory, until `release` or the end of the process."""

    def __init__(self, home: DeviceHome, descriptor: int) -> None:
        self.home = home
        self._descriptor = descriptor

    @classmethod
    def try_acquire(cls, home: DeviceHome) -> DeviceLock | None:
        """Lock the directory; None where another process holds it.

        Raises:
            StorageError: the lock file cannot be opened.
        """
        path = home.path / "lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StorageError(f"{path} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return cls(home, descriptor)

    @classmethod
    def acquire(cls, home: DeviceHome) -> DeviceLock:
        """Lock the directory.

        Raises:
            UserError: another process uses this device.
        """
        lock = cls.try_acquire(home)
        if lock is None:
            raise UserError(f"Another program uses the device in {home.path}; end it first.")
        return lock

    def release(self) -> None:
        """Let go; may be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> DeviceLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


async def claim(root: Path, pause: Callable[[float], Awaitable[object]] = asyncio.sleep) -> DeviceLock:
    """Lock a slot in `root`: the lowest free one with an identity, or, if none becomes free in time, a new one.

    Raises:
        UserError, StorageError: the directory or a slot in it cannot be used.
    """
    private_directory(root)
    for _ in range(round(PATIENCE_S / POLL_S)):
        homes = [home for home in slots(root) if home.has_identity and not home.revoked]
        if not homes:
            break
        lock = _first_free(iter(homes))
        if lock is not None:
            return lock
        await pause(POLL_S)
    return _first_free(home for home in slots(root) if not home.has_identity) or _make(root)


def slots(root: Path) -> list[DeviceHome]:
    """The numbered slots in `root`, lowest first; none where there is no such directory."""
    if not root.is_dir():
        return []
    numbered = [path for path in root.iterdir() if _NUMBER.fullmatch(path.name)]
    return [DeviceHome(path) for path in sorted(numbered, key=lambda path: int(path.name))]


def _first_free(homes: Iterator[DeviceHome]) -> DeviceLock | None:
    for home in homes:
        lock = DeviceLock.try_acquire(home)
        # The holder before us may have been told of its revocation since we looked.
        if lock is not None and not home.revoked:
            return lock
        if lock is not None:
            lock.release()
    return None


def _make(root: Path) -> DeviceLock:
    number = max((int(home.path.name) for home in slots(root)), default=0)
    while True:
        number += 1
        home = DeviceHome(root / f"{number:04}")
        try:
            home.path.mkdir(mode=0o700)
            sync_directory(root)  # the identity that comes into it is worth nothing without it
        except FileExistsError:  # another replica was faster
            continue
        except OSError as error:
            raise StorageError(f"slot {home.path} cannot be made: {error.strerror}") from error
        lock = DeviceLock.try_acquire(home)
        if lock is not None:
            return lock  # else another replica took it for an abandoned one, between mkdir and lock

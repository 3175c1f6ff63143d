"""Every key that a device inside this process ever holds, taken down from outside: for the checker, which tries them all.

Law: the product has no key log and gets none. What is replaced, for the length of a block, is the class of which a device makes its
connections, by one that behaves the same and takes notes. A device of another program is watched by running it under the same block.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from patient import device
from shared.protocol.epochs import Epoch, HeldEpochs
from shared.protocol.key_schedule import SessionKeys
from shared.protocol.patient_connection import PatientConnection
from shared.protocol.patient_handshake import Hello


class SessionKey(msgspec.Struct, frozen=True, tag_field="kind", tag="session"):
    """Both record keys of one session. `connection` is the digest of its KEY_EXCHANGE, by which a capture knows it."""

    holder: str
    connection: str
    time: float
    to_doctor: bytes
    to_patient: bytes

    def __repr__(self) -> str:
        return f"SessionKey({self.holder})"


class EpochKey(msgspec.Struct, frozen=True, tag_field="kind", tag="epoch"):
    """One epoch's secret."""

    holder: str
    group: str
    number: int
    time: float
    secret: bytes

    def __repr__(self) -> str:
        return f"EpochKey({self.holder}, {self.group}, {self.number})"


def connection_digest(key_exchange: bytes) -> str:
    """The name of a connection: the hash of the first frame on it, which has a fresh nonce."""
    return hashlib.sha256(key_exchange).hexdigest()


class KeyRing:
    """What was taken down.

    Args:
        path: also appended there, a line each, at once: its program may be killed. None: only kept in memory.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.sessions: list[SessionKey] = []
        self.epochs: list[EpochKey] = []
        self._path = path

    def add(self, key: SessionKey | EpochKey) -> None:
        """Take down one key."""
        if isinstance(key, SessionKey):
            self.sessions.append(key)
        else:
            self.epochs.append(key)
        if self._path is not None:
            with self._path.open("ab") as file:
                file.write(msgspec.json.encode(key) + b"\n")

    def read(self, path: Path) -> None:
        """Add what another program has taken down; a line that its death has torn is left out."""
        for line in path.read_bytes().split(b"\n")[:-1]:
            self.add(msgspec.json.decode(line, type=SessionKey | EpochKey))


class _WatchedEpochs(HeldEpochs):
    __slots__ = ("_holder", "_ring")

    def __init__(self, ring: KeyRing, holder: str) -> None:
        super().__init__()
        self._ring = ring
        self._holder = holder

    def hold(self, epoch: Epoch) -> None:
        self._ring.add(
            EpochKey(self._holder, epoch.group, epoch.number, time.monotonic(), epoch.secret.reveal())
        )
        super().hold(epoch)


def watched(ring: KeyRing) -> type[PatientConnection]:
    """A patient's connection that takes down its keys in `ring`, and is otherwise what it was."""

    class WatchedConnection(PatientConnection):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            assert isinstance(self._phase, Hello)  # noqa: S101  it has just been made
            self._name = connection_digest(self._phase.m1)
            self._epochs = _WatchedEpochs(ring, self._identity.patient_id)

        def _start_records(self, keys: SessionKeys) -> None:
            ring.add(
                SessionKey(
                    self._identity.patient_id,
                    self._name,
                    time.monotonic(),
                    keys.to_doctor,
                    keys.to_patient,
                )
            )
            super()._start_records(keys)

    return WatchedConnection


@contextmanager
def recorded(ring: KeyRing) -> Iterator[KeyRing]:
    """Take down the keys of every device of this process inside the block."""
    name = PatientConnection.__name__
    original = getattr(device, name)
    setattr(device, name, watched(ring))
    try:
        yield ring
    finally:
        setattr(device, name, original)

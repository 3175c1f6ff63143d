"""Fuzzing of what rests in files: keys, identities, the journal, the signed heads. A flaw in them must be named, never shown as a traceback."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from doctor import heads, keyring
from doctor.heads import HEADS_FILE, Head
from doctor.journal import JOURNAL_FILE, Journal, Line
from lab.faults.fuzzing.cast import PATIENT, SUITE
from lab.faults.fuzzing.subject import Subject
from patient import identity
from patient.identity import DeviceHome
from shared.crypto.signatures import SIGNERS, Algorithm
from shared.crypto.suites import SUITES
from shared.errors import StorageError, UserError
from shared.protocol import invitations
from shared.protocol.invitations import CHECKSUM_SIZE, DoctorKey, Invitation
from shared.storage.keyfile import private_directory, write_private


@dataclass(frozen=True, slots=True)
class _Place:
    """One file, what an honest program has written there, and who reads it."""

    path: Path
    honest: bytes
    read: Callable[[], object]


@contextmanager
def opened() -> Iterator[Subject]:
    """Every file that a program reads back; the first byte of an input chooses."""
    with tempfile.TemporaryDirectory(prefix="telemed-fuzz-") as name:
        places = _places(Path(name))
        yield Subject(
            lambda data: _attempt(places, data),
            [bytes([index]) + place.honest for index, place in enumerate(places)],
            lambda: _all_read(places),
        )


def with_checksum(data: bytes) -> str:
    """The text of an invitation of any content, whole as far as its checksum tells."""
    whole = data + hashlib.sha256(data).digest()[:CHECKSUM_SIZE]
    return invitations.PREFIX + base64.urlsafe_b64encode(whole).rstrip(b"=").decode()


def _attempt(places: Sequence[_Place], data: bytes) -> None:
    if not data:
        return
    place = places[data[0] % len(places)]
    place.path.write_bytes(data[1:])
    with contextlib.suppress(StorageError, UserError):
        place.read()


def _all_read(places: Sequence[_Place]) -> bool:
    for place in places:
        place.path.write_bytes(place.honest)
    for place in places:
        place.read()
    return True


def _places(root: Path) -> list[_Place]:
    state, volume = private_directory(root / "doctor"), private_directory(root / "audit")
    keys = keyring.load_or_create(state, frozenset(SUITES), os.urandom)
    keyring.rotate(state, keys, "doctor", 1, os.urandom)
    keyring.keep_name(state, "doctor")
    home = DeviceHome(private_directory(root / PATIENT))
    home.save(_identity(keys))
    journal = volume / JOURNAL_FILE
    write_private(
        journal, Journal(volume, keys.storage).text(Line(1, "00" * 32, 1, "revoked", PATIENT)) + b"\n"
    )
    head = Head(1, "00" * 32, 1, "00" * 64)
    write_private(volume / HEADS_FILE, msgspec.json.encode(head) + b"\n")

    def load_keys() -> object:
        return keyring.load_or_create(state, frozenset(SUITES), os.urandom)

    def read_journal() -> object:
        return Journal(volume, keys.storage).read()

    def read_heads() -> object:
        return heads.read(volume), heads.newest(volume)

    readers: list[tuple[Path, Callable[[], object]]] = [
        (path, load_keys) for path in sorted((state / "keys").iterdir())
    ]
    readers += [
        (state / "doctor-id", lambda: keyring.keep_name(state, "doctor")),
        (home.identity_file, lambda: _use_identity(home)),
        (journal, read_journal),
        (volume / HEADS_FILE, read_heads),
    ]
    return [_Place(path, path.read_bytes(), read) for path, read in readers]


def _identity(keys: keyring.Keyring) -> identity.DeviceIdentity:
    doctor_keys = [DoctorKey(key.algorithm, key.public) for key in keys.public]
    invited = Invitation("doctor", doctor_keys, ["127.0.0.1:1"], [], bytes(16), bytes(32), 0, 1, PATIENT)
    return identity.create(invited, SUITE, None, os.urandom)


def _use_identity(home: DeviceHome) -> object:
    """What a device does with its identity before it connects."""
    found = home.load()
    suite = found.suite_for(SUITE.name)
    return found.for_handshake(suite, 45.0), found.reader(45.0), SIGNERS[Algorithm.ECDSA_P256], repr(found)

"""The doctor's long-term keys: made at the first start, read from 0600 files ever after, never logged.

`rotations.json` says how often they were rotated, and so which files hold the present ones: the step from the former keys to the new
ones is the one in which that file is replaced. It holds no secret; it is what proves to patients that the new keys are this doctor's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from shared.crypto.signatures import SIGNERS, Algorithm, SigningKey, fingerprint
from shared.crypto.suites import SUITES, SuiteId
from shared.errors import InvalidElement, StorageError, UserError
from shared.protocol import rotation
from shared.protocol.envelopes import FormerKey
from shared.protocol.invitations import DoctorKey
from shared.protocol.rotation import Pins
from shared.storage.keyfile import private_directory, read_private, write_private
from shared.wire import messages
from shared.wire.checks import Checklist, PeerError
from shared.wire.messages import Rotation, RotationStatement

STORAGE_KEY_SIZE = 32

_FILES = {Algorithm.ECDSA_P256: "ecdsa-p256", Algorithm.SCHNORR_FFDHE3072: "schnorr-ffdhe3072"}
_NAME_FILE = "doctor-id"
_STORAGE_FILE = "storage.key"
_ROTATIONS_FILE = "rotations.json"


class Rotated(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rotation: its statement, when the new keys began, in milliseconds, and the public keys that it took out of use."""

    sequence: int
    time: int
    former: dict[Algorithm, bytes]
    rotation: Rotation


@dataclass(slots=True)
class Keyring:
    """Signature keys by algorithm, and the key under which message bodies rest.

    A rotation changes it in place, so that whatever signs takes its key from here when it signs, and keeps none. It does so on the
    writer's thread while handshakes go on: first it is among `rotations`, then each key is replaced. Only the event loop sets `complete`.

    Attributes:
        rotations: all there were, oldest first.
        complete: the sequence up to which every patient has the keys of all rotations.
    """

    signing: dict[Algorithm, SigningKey]
    storage: bytes = field(repr=False)
    rotations: list[Rotated] = field(default_factory=list)
    complete: int = 0

    @property
    def identity(self) -> SigningKey:
        """The P-256 key: signs envelopes and audit heads whatever the suite."""
        return self.signing[Algorithm.ECDSA_P256]

    @property
    def public(self) -> list[DoctorKey]:
        """What patients pin."""
        return [DoctorKey(algorithm, key.public) for algorithm, key in self.signing.items()]

    @property
    def sequence(self) -> int:
        """How often the keys were rotated."""
        return _sequence(self.rotations)

    @property
    def former(self) -> tuple[FormerKey, ...]:
        """The P-256 keys that were in use before this one, oldest first."""
        return tuple(FormerKey(each.former[Algorithm.ECDSA_P256], each.time) for each in self.rotations)

    def fingerprints(self) -> dict[int, str]:
        """Those of the present keys, by algorithm."""
        return {int(key.algorithm): fingerprint(key.algorithm, key.public) for key in self.signing.values()}

    def signed_as(self, public: bytes) -> bool:
        """Whether this is the public half of a present key."""
        return any(key.public == public for key in self.signing.values())

    def was(self, algorithm: Algorithm, name: str) -> bool:
        """Whether a key of that fingerprint was in use before a rotation."""
        former = (each.former.get(algorithm) for each in self.rotations)
        return any(public is not None and fingerprint(algorithm, public) == name for public in former)

    @property
    def announced(self) -> Rotated | None:
        """The last rotation, while a patient may lack its keys."""
        last = self.rotations[-1] if self.rotations else None
        return last if last is not None and last.sequence > self.complete else None

    def announcement(self, signer: bytes) -> Rotation | None:
        """What to show a patient of the keys that it may lack, beside a prekey that this public key verifies.

        Beside one that a former key has signed it would prove what the prekey then contradicts.
        """
        announced = self.announced
        return None if announced is None or signer in announced.former.values() else announced.rotation

    def all_confirmed(self, sequence: int) -> None:
        """Every patient has the keys of this rotation."""
        self.complete = max(self.complete, sequence)


def load_or_create(state_dir: Path, suites: frozenset[SuiteId], random: Callable[[int], bytes]) -> Keyring:
    """Read the keys below `state_dir`, making those that are missing.

    A P-256 key always exists; a Schnorr key where a suite needs it.

    Raises:
        UserError: a file's mode or owner is too loose; says what to run.
        StorageError: a file cannot be read or written, or is damaged.
    """
    directory = private_directory(state_dir / "keys")
    algorithms = {Algorithm.ECDSA_P256} | {SUITES[suite].signer.algorithm for suite in suites}
    rotations = _load_rotations(directory)
    signing = {}
    for algorithm in sorted(algorithms):
        signer, path = SIGNERS[algorithm], _path(directory, algorithm, _sequence(rotations))
        if not path.exists():
            write_private(path, signer.export(signer.generate(random)))
        signing[algorithm] = _load_signing_key(directory, algorithm, rotations)
    path = directory / _STORAGE_FILE
    if not path.exists():
        write_private(path, random(STORAGE_KEY_SIZE))
    return Keyring(signing, _load_storage_key(path), rotations, _sequence(rotations))


def load(state_dir: Path) -> Keyring:
    """Read the keys of a doctor that has run before; never makes one.

    Raises:
        UserError: a file's mode or owner is too loose, or a key is missing; says what to do.
        StorageError: a file cannot be read, or is damaged.
    """
    require_all(state_dir)
    directory = private_directory(state_dir / "keys")
    rotations = _load_rotations(directory)
    signing = _load_existing(directory, rotations)
    return Keyring(signing, _load_storage_key(directory / _STORAGE_FILE), rotations, _sequence(rotations))


def require_all(state_dir: Path) -> None:
    """Refuse a state directory that lacks a key which cannot be made anew: a database rests under it, or patients have pinned it.

    Raises:
        UserError: names the missing files.
    """
    directory = state_dir / "keys"
    sequence = _sequence(_load_rotations(directory))
    needed = [directory / _STORAGE_FILE, _path(directory, Algorithm.ECDSA_P256, sequence)]
    if missing := [str(path) for path in needed if not path.exists()]:
        raise UserError(
            f"{' and '.join(missing)} missing: the database cannot be used without. Put back what belongs to it, with mode"
            " 0600, from where you keep the doctor's keys; no backup of the database holds them."
        )


def _load_storage_key(path: Path) -> bytes:
    storage = read_private(path)
    if len(storage) != STORAGE_KEY_SIZE:
        raise _damaged(path, f"it has {len(storage)} bytes instead of {STORAGE_KEY_SIZE}")
    return storage


def keep_name(state_dir: Path, doctor_id: str) -> None:
    """Refuse another name than the one that this doctor began with: its patients have pinned it with the keys.

    Raises:
        UserError: says what the name is. StorageError: the file cannot be read or written.
    """
    path = state_dir / _NAME_FILE  # no key, so not among them
    if not path.exists():
        write_private(path, doctor_id.encode())
    name = read_private(path).decode(errors="replace")
    if name != doctor_id:
        raise UserError(
            f"doctor_id: the doctor on {state_dir} is called {name!r}, and its patients have pinned that name;"
            f" set it back, or give {doctor_id!r} a state_dir of its own."
        )


def load_signing_key(state_dir: Path, algorithm: Algorithm) -> SigningKey:
    """Read one signature key; never makes one.

    Raises:
        UserError: as `load_or_create`. StorageError: it does not exist, or is damaged.
    """
    directory = state_dir / "keys"
    return _load_signing_key(directory, algorithm, _load_rotations(directory))


def rotate(
    state_dir: Path, keys: Keyring, doctor_id: str, time: int, random: Callable[[int], bytes]
) -> Rotated:
    """Make new keys for every algorithm that has one, and put them to use, on the disk and in `keys`; returns the proof.

    The new keys are in files of their own before `rotations.json` names them. A crash before that leaves files that the next
    rotation writes anew; one after it leaves the former keys' files, which `erase_former` takes away.

    Args:
        time: from which on nothing is signed with the former keys, in milliseconds since the Unix epoch.

    Raises:
        StorageError: a file cannot be read or written; the keys are what they were.
    """
    directory, sequence = state_dir / "keys", keys.sequence + 1
    # Also of a suite that is not allowed any more: it may be again.
    former = _load_existing(directory, keys.rotations)
    new = {algorithm: SIGNERS[algorithm].generate(random) for algorithm in former}
    for algorithm, key in new.items():
        write_private(_path(directory, algorithm, sequence), SIGNERS[algorithm].export(key))
    publics = {algorithm: key.public for algorithm, key in former.items()}
    rotated = Rotated(sequence, time, publics, rotation.state(doctor_id, sequence, time, former, new))
    durable = _commit(directory, [*keys.rotations, rotated])
    keys.rotations.append(rotated)  # first: a new key is never without its proof
    keys.signing.update((algorithm, key) for algorithm, key in new.items() if algorithm in keys.signing)
    if durable:
        erase_former(state_dir, keys)
    return rotated


def _commit(directory: Path, rotations: list[Rotated]) -> bool:
    """Replace the file that decides; whether a power loss cannot take that back any more. Raises StorageError: it is what it was."""
    try:
        write_private(directory / _ROTATIONS_FILE, msgspec.json.encode(rotations))
    except StorageError:
        if _load_rotations(directory) != rotations:
            raise
        return False  # it has its name, and only the directory was not synced: the former keys are left for the next start
    return True


def erase_former(state_dir: Path, keys: Keyring) -> None:
    """Take away the private keys that are out of use; what the disk refuses is tried again at the next start."""
    directory = state_dir / "keys"
    for algorithm, stem in _FILES.items():
        present = _path(directory, algorithm, keys.sequence)
        for path in directory.glob(f"{stem}.*key"):
            if path != present:
                with contextlib.suppress(OSError):
                    path.unlink()


def _path(directory: Path, algorithm: Algorithm, sequence: int) -> Path:
    """Where the key is that this rotation has brought; 0: the first start."""
    return directory / f"{_FILES[algorithm]}.{f'{sequence}.' if sequence else ''}key"


def _sequence(rotations: list[Rotated]) -> int:
    return rotations[-1].sequence if rotations else 0


def _load_existing(directory: Path, rotations: list[Rotated]) -> dict[Algorithm, SigningKey]:
    paths = {algorithm: _path(directory, algorithm, _sequence(rotations)) for algorithm in _FILES}
    return {
        algorithm: _load_signing_key(directory, algorithm, rotations)
        for algorithm, path in paths.items()
        if path.exists()
    }


def _load_rotations(directory: Path) -> list[Rotated]:
    path = directory / _ROTATIONS_FILE
    if not path.exists():
        return []
    try:
        rotations = msgspec.json.decode(read_private(path), type=list[Rotated])
        for number, each in enumerate(rotations, start=1):
            _require_proof(each, number)
    except (msgspec.DecodeError, UnicodeDecodeError, PeerError, InvalidElement) as error:
        raise _damaged(path, str(error)) from error
    return rotations


def _require_proof(rotated: Rotated, number: int) -> None:
    """Patients would refuse what does not prove the new keys: that is better found here."""
    statement = messages.decode(RotationStatement, rotated.rotation.statement)
    pins = Pins(statement.doctor_id, rotated.former, number - 1)
    proved = rotation.judge(rotated.rotation, pins, Checklist())
    told = (number, rotated.time)
    if proved is None or told != (proved.sequence, proved.time) or rotated.sequence != number:
        raise InvalidElement(f"rotation {number} is not what was signed")
    if Algorithm.ECDSA_P256 not in rotated.former:
        raise InvalidElement(f"rotation {number} lacks a key")


def _load_signing_key(directory: Path, algorithm: Algorithm, rotations: list[Rotated]) -> SigningKey:
    path = _path(directory, algorithm, _sequence(rotations))
    try:
        key = SIGNERS[algorithm].load(read_private(path))
        if rotations:
            statement = messages.decode(RotationStatement, rotations[-1].rotation.statement)
            named = {each.algorithm: each.public for each in statement.keys}
            if named.get(algorithm, key.public) != key.public:
                raise InvalidElement(f"it is not the key of rotation {statement.sequence}")
    except InvalidElement as error:
        raise _damaged(path, str(error)) from error
    return key


def _damaged(path: Path, cause: str) -> StorageError:
    # Never replaced by a new key: the patients have pinned the old one, and what is stored is sealed under it.
    return StorageError(f"{path} is damaged ({cause}); put it back from a backup")

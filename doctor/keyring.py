"""The doctor's long-term keys: made at the first start, read from 0600 files ever after, never logged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from shared.crypto.signatures import SIGNERS, Algorithm, SigningKey
from shared.crypto.suites import SUITES, SuiteId
from shared.errors import InvalidElement, StorageError, UserError
from shared.protocol.invitations import DoctorKey
from shared.storage.keyfile import private_directory, read_private, write_private

STORAGE_KEY_SIZE = 32

_FILES = {Algorithm.ECDSA_P256: "ecdsa-p256.key", Algorithm.SCHNORR_FFDHE3072: "schnorr-ffdhe3072.key"}
_NAME_FILE = "doctor-id"
_STORAGE_FILE = "storage.key"


@dataclass(frozen=True, slots=True)
class Keyring:
    """Signature keys by algorithm, and the key under which message bodies rest."""

    signing: Mapping[Algorithm, SigningKey]
    storage: bytes = field(repr=False)

    @property
    def identity(self) -> SigningKey:
        """The P-256 key: signs envelopes and audit heads whatever the suite."""
        return self.signing[Algorithm.ECDSA_P256]

    @property
    def public(self) -> list[DoctorKey]:
        """What patients pin."""
        return [DoctorKey(algorithm, key.public) for algorithm, key in self.signing.items()]


def load_or_create(state_dir: Path, suites: frozenset[SuiteId], random: Callable[[int], bytes]) -> Keyring:
    """Read the keys below `state_dir`, making those that are missing.

    A P-256 key always exists; a Schnorr key where a suite needs it.

    Raises:
        UserError: a file's mode or owner is too loose; says what to run.
        StorageError: a file cannot be read or written, or is damaged.
    """
    directory = private_directory(state_dir / "keys")
    algorithms = {Algorithm.ECDSA_P256} | {SUITES[suite].signer.algorithm for suite in suites}
    signing = {}
    for algorithm in sorted(algorithms):
        signer, path = SIGNERS[algorithm], directory / _FILES[algorithm]
        if not path.exists():
            write_private(path, signer.export(signer.generate(random)))
        signing[algorithm] = load_signing_key(state_dir, algorithm)
    path = directory / _STORAGE_FILE
    if not path.exists():
        write_private(path, random(STORAGE_KEY_SIZE))
    return Keyring(signing, _load_storage_key(path))


def load(state_dir: Path) -> Keyring:
    """Read the keys of a doctor that has run before; never makes one.

    Raises:
        UserError: a file's mode or owner is too loose, or a key is missing; says what to do.
        StorageError: a file cannot be read, or is damaged.
    """
    require_all(state_dir)
    directory = private_directory(state_dir / "keys")
    signing = {
        algorithm: load_signing_key(state_dir, algorithm)
        for algorithm, name in _FILES.items()
        if (directory / name).exists()
    }
    return Keyring(signing, _load_storage_key(directory / _STORAGE_FILE))


def require_all(state_dir: Path) -> None:
    """Refuse a state directory that lacks a key which cannot be made anew: a database rests under it, or patients have pinned it.

    Raises:
        UserError: names the missing files.
    """
    needed = [state_dir / "keys" / name for name in (_STORAGE_FILE, _FILES[Algorithm.ECDSA_P256])]
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
    path = state_dir / "keys" / _FILES[algorithm]
    try:
        return SIGNERS[algorithm].load(read_private(path))
    except InvalidElement as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, cause: str) -> StorageError:
    # Never replaced by a new key: the patients have pinned the old one, and what is stored is sealed under it.
    return StorageError(f"{path} is damaged ({cause}); put it back from a backup")

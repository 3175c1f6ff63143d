"""Who this device is: its key, the doctor it pinned, and the invitation until that has done its work.

Law: the only place that reads and writes `identity.json`. One directory is one device: identity, inbox and lock stand
in it, whether it is named after the patient or a numbered slot. The file holds private keys, so its mode is 0600, it
is replaced whole, and no repr shows it.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from shared.config import SuiteName
from shared.crypto.secret import Random
from shared.crypto.signatures import SIGNERS, Algorithm, SigningKey, fingerprint
from shared.crypto.suites import SUITES, Suite, suite_by_name
from shared.errors import CryptoError, InvalidElement, UserError
from shared.protocol import patient_handshake
from shared.protocol.clock import SECOND
from shared.protocol.envelopes import FormerKey, Reader
from shared.protocol.invitations import Invitation, derived_id
from shared.protocol.rotation import Successors
from shared.storage.keyfile import read_private, write_private
from shared.wire.messages import Name

STORAGE_KEY_SIZE = 32
CHECKSUM_DIGITS = 16
UNKNOWN_TIME = 2**63 - 1  # of a rotation; above the time of every message


class PinnedKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One of the doctor's public keys, as the invitation brought it."""

    algorithm: Algorithm
    public: bytes


class OutdatedKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A P-256 key that was pinned before, and when its successor began, in milliseconds since the Unix epoch.

    UNKNOWN_TIME: an invitation has replaced it, which does not say; a rotation does.
    """

    public: bytes
    until: int


class PinnedDoctor(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The one doctor that this device believes, and where it may be found.

    `sequence`: of the rotation that brought these keys, 0: the invitation did. `former`: for messages from before these keys.
    """

    doctor_id: Name
    keys: tuple[PinnedKey, ...]
    addresses: tuple[str, ...]
    sequence: int = 0
    former: tuple[OutdatedKey, ...] = ()

    def key(self, algorithm: Algorithm) -> bytes:
        """The public key of that algorithm.

        Raises:
            UserError: the invitation had none; the message lists the suites that can be used with it.
        """
        for key in self.keys:
            if key.algorithm is algorithm:
                return key.public
        have = {key.algorithm for key in self.keys}
        usable = [
            suite.name for suite in SUITES.values() if {suite.signer.algorithm, Algorithm.ECDSA_P256} <= have
        ]
        raise UserError(
            f"The doctor {self.doctor_id!r} did not allow this suite when it made the invitation. "
            f"Set suite to one of {', '.join(usable) or 'none'}, or ask for a new invitation once the doctor allows it."
        )

    def rotated(self, successors: Successors) -> PinnedDoctor:
        """The same doctor with its new keys."""
        outdated = OutdatedKey(self.key(Algorithm.ECDSA_P256), successors.time)
        return msgspec.structs.replace(
            self,
            keys=tuple(PinnedKey(each.algorithm, successors.keys[each.algorithm]) for each in self.keys),
            sequence=successors.sequence,
            former=(*self.former, outdated),
        )

    def invited_again(self, invited: PinnedDoctor) -> PinnedDoctor:
        """What to pin of the doctor whom another invitation names.

        The device may have been admitted without knowing it: what the same doctor has signed with the pinned key stays readable. And
        no invitation brings a key back that the doctor has rotated away: it is older than what is pinned.
        """
        if invited.doctor_id != self.doctor_id:
            return invited
        ours, theirs = self.key(Algorithm.ECDSA_P256), invited.key(Algorithm.ECDSA_P256)
        if theirs == ours:
            return msgspec.structs.replace(invited, sequence=self.sequence, former=self.former)
        if any(each.public == theirs and each.until != UNKNOWN_TIME for each in self.former):
            return self
        others = (each for each in self.former if each.public != theirs)
        return msgspec.structs.replace(invited, former=(*others, OutdatedKey(ours, UNKNOWN_TIME)))

    def fingerprints(self) -> tuple[str, ...]:
        """The fingerprints of all keys, for a person to compare."""
        return tuple(fingerprint(key.algorithm, key.public) for key in self.keys)


class PendingEnrolment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What proves to the doctor that this device was invited; erased after the first admission."""

    invitation_id: bytes
    secret: bytes

    def __repr__(self) -> str:
        return f"PendingEnrolment({self.invitation_id.hex()})"


class DeviceIdentity(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The content of `identity.json`. `storage_key` (32 bytes) seals the bodies in the inbox."""

    version: Literal[1] = 1
    patient_id: Name
    algorithm: Algorithm
    private_key: bytes
    storage_key: Annotated[bytes, Meta(min_length=STORAGE_KEY_SIZE, max_length=STORAGE_KEY_SIZE)]
    suite: SuiteName
    doctor: PinnedDoctor
    enrolment: PendingEnrolment | None
    checksum: str | None = None  # of all the others, in the file alone

    def __repr__(self) -> str:
        return f"DeviceIdentity({self.patient_id!r}, doctor={self.doctor.doctor_id!r})"

    @property
    def signing_key(self) -> SigningKey:
        """The device's key pair. Raises InvalidElement if the file was changed."""
        return SIGNERS[self.algorithm].load(self.private_key)

    def suite_for(self, wanted: str) -> Suite:
        """The suite to ask for: the configured one if this device's key fits it, else that of the enrolment."""
        suite = suite_by_name(wanted)
        return suite if suite.signer.algorithm is self.algorithm else suite_by_name(self.suite)

    def for_handshake(self, suite: Suite, clock_window_s: float) -> patient_handshake.Identity:
        """What the protocol core needs to know."""
        pending = self.enrolment
        return patient_handshake.Identity(
            patient_id=self.patient_id,
            key=self.signing_key,
            suite=suite,
            doctor_id=self.doctor.doctor_id,
            doctor_key=self.doctor.key(suite.signer.algorithm),
            enrolment=patient_handshake.Enrolment(pending.invitation_id, pending.secret) if pending else None,
            clock_window=round(clock_window_s * SECOND),
            other_keys=tuple(
                (each.algorithm, each.public)
                for each in self.doctor.keys
                if each.algorithm is not suite.signer.algorithm
            ),
            sequence=self.doctor.sequence,
        )

    def reader(self, clock_window_s: float) -> Reader:
        """What judges the doctor's messages; those are signed with its ECDSA key whatever the suite."""
        key = self.signing_key
        return Reader(
            self.patient_id,
            fingerprint(key.algorithm, key.public),
            self.doctor.doctor_id,
            self.doctor.key(Algorithm.ECDSA_P256),
            round(clock_window_s * SECOND),
            tuple(FormerKey(each.public, each.until) for each in self.doctor.former),
        )

    def rotated(self, successors: Successors) -> DeviceIdentity:
        """The same device with its doctor's new keys."""
        return msgspec.structs.replace(self, doctor=self.doctor.rotated(successors))

    def admitted(self) -> DeviceIdentity:
        """The same device after its admission: the invitation's secret is gone."""
        return msgspec.structs.replace(self, enrolment=None)

    def invited_by(self, invitation: Invitation) -> DeviceIdentity:
        """The same key with another invitation, for a device that does not know of its admission.

        Raises:
            UserError: the invitation is for another id, or its doctor has no key for this device's.
        """
        return msgspec.structs.replace(
            self,
            patient_id=admitted_id(invitation, self.signing_key, self.patient_id),
            doctor=self.doctor.invited_again(pinned_doctor(invitation, self.algorithm)),
            enrolment=PendingEnrolment(invitation.invitation_id, invitation.secret),
        )


def _checksum(identity: DeviceIdentity) -> str:
    """Tells a disk's damage, not a forger: who can write the file holds the key in it."""
    return hashlib.sha256(msgspec.json.encode(identity)).hexdigest()[:CHECKSUM_DIGITS]


def create(invitation: Invitation, suite: Suite, patient_id: str | None, random: Random) -> DeviceIdentity:
    """Make the identity of a device that is about to enrol.

    Args:
        patient_id: the id that was asked for; None takes the invitation's, or the one derived from the key.
        random: entropy for the keys.

    Raises:
        UserError: the invitation admits another id, or cannot be used with this suite.
    """
    doctor = pinned_doctor(invitation, suite.signer.algorithm)
    key = suite.signer.generate(random)
    return DeviceIdentity(
        patient_id=admitted_id(invitation, key, patient_id),
        algorithm=key.algorithm,
        private_key=suite.signer.export(key),
        storage_key=random(STORAGE_KEY_SIZE),
        suite=msgspec.convert(suite.name, SuiteName),
        doctor=doctor,
        enrolment=PendingEnrolment(invitation.invitation_id, invitation.secret),
    )


def pinned_doctor(invitation: Invitation, algorithm: Algorithm) -> PinnedDoctor:
    """The doctor of the invitation. Raises UserError unless it has the keys that a device of `algorithm` needs."""
    keys = tuple(PinnedKey(key.algorithm, key.public) for key in invitation.doctor_keys)
    doctor = PinnedDoctor(invitation.doctor_id, keys, tuple(invitation.addresses))
    for needed in (algorithm, Algorithm.ECDSA_P256):
        doctor.key(needed)
    return doctor


def admitted_id(invitation: Invitation, key: SigningKey, wanted: str | None) -> str:
    """The id that the invitation admits for this key. Raises UserError where another one is wanted."""
    if invitation.patient_id is not None:
        if wanted not in (None, invitation.patient_id):
            raise UserError(
                f"The invitation is for {invitation.patient_id!r}, not for {wanted!r}; "
                "use that id or ask the doctor for an invitation of your own."
            )
        return invitation.patient_id
    derived = derived_id(fingerprint(key.algorithm, key.public))
    if wanted not in (None, derived):
        raise UserError(
            f"This invitation admits only ids that are derived from a device's key, not {wanted!r}; "
            "leave the id out, or ask the doctor for an invitation that names it."
        )
    return derived


@dataclass(frozen=True, slots=True)
class DeviceHome:
    """The directory of one device, mode 0700."""

    path: Path

    @property
    def identity_file(self) -> Path:
        """The keys."""
        return self.path / "identity.json"

    @property
    def inbox_file(self) -> Path:
        """The database of received messages."""
        return self.path / "inbox.db"

    @property
    def outbox_file(self) -> Path:
        """The database of reports."""
        return self.path / "outbox.db"

    @property
    def has_identity(self) -> bool:
        """Whether there is an identity."""
        return self.identity_file.exists()

    @property
    def revoked(self) -> bool:
        """Whether the doctor has revoked this device, told under its session or its sealed alert."""
        return self._revoked_file.exists()

    def mark_revoked(self) -> None:
        """Remember it, so that a replica never takes this identity again. Raises StorageError."""
        write_private(self._revoked_file, b"")

    def load(self) -> DeviceIdentity:
        """Read the identity.

        Raises:
            StorageError: there is none, or it cannot be read.
            UserError: it may have been seen by others, or it is damaged.
        """
        content = read_private(self.identity_file)
        try:
            stored = msgspec.json.decode(content, type=DeviceIdentity)
            identity = msgspec.structs.replace(stored, checksum=None)
            identity.signing_key  # noqa: B018  a key that does not load is better found now
            # A damaged key of the doctor's would make a stranger of it. A file of an earlier version has no checksum.
            if stored.checksum not in (None, _checksum(identity)):
                raise InvalidElement("its checksum is wrong")
        except (msgspec.DecodeError, UnicodeDecodeError, CryptoError) as error:
            raise UserError(
                f"{self.identity_file} is damaged; put back a copy of it, or remove {self.path} and enrol anew"
            ) from error
        return identity

    def save(self, identity: DeviceIdentity) -> None:
        """Write the identity, durably. The directory must exist, and be this program's alone. Raises StorageError."""
        for left in self.path.glob(f".{self.identity_file.name}.*"):
            with contextlib.suppress(
                OSError
            ):  # keys that a program left which was killed while it wrote them
                left.unlink()
        stored = msgspec.structs.replace(identity, checksum=_checksum(identity))
        write_private(self.identity_file, msgspec.json.format(msgspec.json.encode(stored)) + b"\n")

    @property
    def _revoked_file(self) -> Path:
        return self.path / "revoked"

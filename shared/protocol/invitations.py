"""Invitations: one copyable string that tells a device which doctor to trust and proves to the doctor who sent it.

Text form: `telemed1-` and base64url, without padding, of the encoded struct and the first 4 bytes of its SHA-256, which
catch a string that was cut when it was copied. Whoever holds the string can use it: it is handed over by hand.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Annotated

from msgspec import Meta

from shared.crypto.signatures import Algorithm
from shared.errors import UserError
from shared.wire import messages
from shared.wire.checks import PeerError
from shared.wire.messages import InvitationId, Key32, Name, Number, Time, Wire

PREFIX = "telemed1-"
FLEET_ID_PREFIX = "patient-"
FLEET_ID_LENGTH = 16
CHECKSUM_SIZE = 4


class DoctorKey(Wire, frozen=True):
    """A public key that the doctor signs with."""

    algorithm: Algorithm
    public: Annotated[bytes, Meta(min_length=65, max_length=384)]


class Invitation(Wire, frozen=True):
    """What a patient pins, and the secret that admits it.

    `expires` 0 means never (a fleet invitation that lasts until it is rotated). `patient_id` None means that only derived ids
    are admitted: `patient-` and 16 characters of the key's fingerprint.
    """

    doctor_id: Name
    doctor_keys: Annotated[list[DoctorKey], Meta(min_length=1, max_length=4)]
    addresses: Annotated[list[Annotated[str, Meta(max_length=255)]], Meta(min_length=1, max_length=8)]
    groups: Annotated[list[Name], Meta(max_length=64)]
    invitation_id: InvitationId
    secret: Key32
    expires: Time
    uses: Number
    patient_id: Name | None

    def __repr__(self) -> str:
        return f"Invitation(doctor_id={self.doctor_id!r}, invitation_id={self.invitation_id.hex()})"

    def doctor_key(self, algorithm: Algorithm) -> bytes | None:
        """The doctor's public key of that algorithm, if it has one."""
        return next((key.public for key in self.doctor_keys if key.algorithm is algorithm), None)


def derived_id(key_fingerprint: str) -> str:
    """The id of a patient that came by a fleet invitation."""
    return FLEET_ID_PREFIX + key_fingerprint[:FLEET_ID_LENGTH]


def to_text(invitation: Invitation) -> str:
    """The string that is handed over."""
    data = messages.encode(invitation)
    checksum = hashlib.sha256(data).digest()[:CHECKSUM_SIZE]
    return PREFIX + base64.urlsafe_b64encode(data + checksum).rstrip(b"=").decode()


def from_text(text: str) -> Invitation:
    """Read an invitation.

    Raises:
        UserError: the text is not a whole invitation.
    """
    text = "".join(text.split())
    if not text.startswith(PREFIX):
        raise UserError(
            f"This is not an invitation: it does not start with {PREFIX!r}. Copy the whole string."
        )
    encoded = text[len(PREFIX) :]
    try:
        data = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        data = b""
    body, checksum = data[:-CHECKSUM_SIZE], data[-CHECKSUM_SIZE:]
    if hashlib.sha256(body).digest()[:CHECKSUM_SIZE] != checksum:
        raise UserError("The invitation is damaged: its checksum is wrong. Copy the whole string again.")
    try:
        return messages.decode(Invitation, body)
    except PeerError as error:
        raise UserError(
            "The invitation was made by a version of the doctor that this program cannot read."
        ) from error

"""SPEC section 11: the string that is handed over."""

from __future__ import annotations

import base64
import hashlib
from typing import NamedTuple

from lab.evil.peer.equations import Surprise
from lab.evil.peer.wire import decode

PREFIX = "telemed1-"


class DoctorKey(NamedTuple):
    """A key that the doctor signs with."""

    algorithm: int
    public: bytes


class Invitation(NamedTuple):
    """What a patient pins, and the secret that admits it."""

    doctor_id: str
    doctor_keys: list[DoctorKey]
    addresses: list[str]
    groups: list[str]
    invitation_id: bytes
    secret: bytes
    expires: int
    uses: int
    patient_id: str | None

    def key(self, algorithm: int) -> bytes:
        """The doctor's key of an algorithm. Raises Surprise where it has none."""
        for key in self.doctor_keys:
            if key.algorithm == algorithm:
                return key.public
        raise Surprise(f"an invitation without a key of algorithm {algorithm}")


def read_invitation(text: str) -> Invitation:
    """An invitation. Raises Surprise where the string is none."""
    stripped = "".join(text.split())
    if not stripped.startswith(PREFIX):
        raise Surprise("no invitation")
    encoded = stripped[len(PREFIX) :]
    data = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    body, checksum = data[:-4], data[-4:]
    if hashlib.sha256(body).digest()[:4] != checksum:
        raise Surprise("a damaged invitation")
    return decode(Invitation, body)

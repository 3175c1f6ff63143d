"""Labels, hashes, MACs and key derivation: SHA-256, HMAC-SHA-256 and HKDF-SHA-256.

Law of this module: only this file names labels. Every hash, MAC, signature and derived key has a label of its own, so that
a value made for one purpose can never be read as another. (The fixed strings of RFC 9180 stand in `kem`, where that RFC is
followed; they start with "HPKE-v1", whereas everything framed here starts with a zero byte of a length.)

Everything that is joined is framed: each part has a 4-byte big-endian length in front, the label is the first part. Two
different lists of parts therefore never give the same bytes.
"""

from __future__ import annotations

import hashlib
import hmac
from enum import Enum
from struct import Struct

from shared.errors import InvalidSignature, LocalError

DIGEST_SIZE = 32
"""Bytes of a SHA-256 digest, an HMAC-SHA-256 tag and a derived key."""

_length = Struct(">I").pack


def frame(*parts: bytes) -> bytes:
    """Join `parts`, each with its length in front (4 bytes, big-endian)."""
    return b"".join([_length(len(part)) + part for part in parts])


class Label(Enum):
    """What a hash, a MAC, a signature or a key is for. Values are unique and none is a prefix of another.

    Attributes:
        framed: the label as the first of framed parts.
        hashed: SHA-256 with the framed label taken in; only copies of it go on. A copy costs a third less than to begin anew.
    """

    # Signatures
    PREKEY_SIGNATURE = b"telemed-v1 signature prekey"
    AUTH_SIGNATURE = b"telemed-v1 signature auth-request"
    RESPONSE_SIGNATURE = b"telemed-v1 signature auth-response"
    ENVELOPE_SIGNATURE = b"telemed-v1 signature envelope"
    ROTATION_SIGNATURE = b"telemed-v1 signature rotation"
    SCHNORR_CHALLENGE = b"telemed-v1 schnorr challenge"
    SCHNORR_NONCE = b"telemed-v1 schnorr nonce"
    # MACs
    ENROLMENT_MAC = b"telemed-v1 mac enrolment"
    CONFIRM_DOCTOR = b"telemed-v1 mac confirm-doctor"
    CONFIRM_PATIENT = b"telemed-v1 mac confirm-patient"
    COOKIE_MAC = b"telemed-v1 mac cookie"
    # Hashes
    TRANSCRIPT_1 = b"telemed-v1 transcript 1"
    TRANSCRIPT_2 = b"telemed-v1 transcript 2"
    TRANSCRIPT_3 = b"telemed-v1 transcript 3"
    AUTH_HASH = b"telemed-v1 hash auth-request"
    RESPONSE_HASH = b"telemed-v1 hash auth-response"
    ROSTER_HASH = b"telemed-v1 hash roster"
    BODY_HASH = b"telemed-v1 hash body"
    FINGERPRINT = b"telemed-v1 hash public-key"
    AUDIT_ENTRY = b"telemed-v1 audit entry"
    AUDIT_HEAD = b"telemed-v1 audit head"
    AUDIT_RESTORED = b"telemed-v1 audit restored"
    AUDIT_THINNED = b"telemed-v1 audit thinned"
    AUDIT_KEPT = b"telemed-v1 audit kept"
    # The doctor's journal
    JOURNAL_KEY = b"telemed-v1 journal key"
    JOURNAL_LINE = b"telemed-v1 journal line"
    # Keys of the handshake
    HYBRID_KEM = b"telemed-v1 kem p256-mlkem768"
    FF_KEM = b"telemed-v1 kem ffdhe3072"
    KEY_1 = b"telemed-v1 key 1"
    KEY_2 = b"telemed-v1 key 2"
    KEY_3 = b"telemed-v1 key 3"
    MASTER = b"telemed-v1 key master"
    KEY_CONFIRM_DOCTOR = b"telemed-v1 key confirm-doctor"
    KEY_CONFIRM_PATIENT = b"telemed-v1 key confirm-patient"
    ALERT_KEY = b"telemed-v1 key alert"
    # Keys of an established session and of a group
    RECORD_TO_DOCTOR = b"telemed-v1 key record-to-doctor"
    RECORD_TO_PATIENT = b"telemed-v1 key record-to-patient"
    RATCHET = b"telemed-v1 key ratchet"
    CONTRIBUTION = b"telemed-v1 key contribution"
    EPOCH_SECRET = b"telemed-v1 epoch secret"
    EPOCH_KEY = b"telemed-v1 epoch key"
    EPOCH_KEY_ID = b"telemed-v1 epoch id-of-key"

    def __init__(self, text: bytes) -> None:
        self.framed = frame(text)
        self.hashed = hashlib.sha256(self.framed)


def framed(label: Label, *parts: bytes) -> bytes:
    """Return the framed label and parts: what a signature covers."""
    return label.framed + frame(*parts)


def digest(label: Label, part: bytes, *more: bytes) -> bytes:
    """Return SHA-256 of the framed label and parts: 32 bytes."""
    hashed = label.hashed.copy()
    hashed.update(_length(len(part)) + part)
    if more:
        hashed.update(frame(*more))
    return hashed.digest()


def hkdf_extract(salt: bytes, ikm: bytes) -> bytes:
    """HKDF-Extract of RFC 5869 section 2.2 with SHA-256: 32 bytes. An empty salt means 32 zero bytes."""
    # HMAC fills a short key with zeros, which makes the empty key and the RFC's 32 zero bytes the same key.
    return hmac.digest(salt, ikm, "sha256")


def hkdf_expand(prk: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand of RFC 5869 section 2.3 with SHA-256.

    Raises LocalError if `length` is not between 1 and 8160 bytes (255 blocks).
    """
    if not 0 < length <= 255 * DIGEST_SIZE:
        raise LocalError(f"HKDF-SHA-256 gives 1 to {255 * DIGEST_SIZE} bytes, {length} were asked for")
    block = hmac.digest(prk, info + b"\x01", "sha256")
    if length <= DIGEST_SIZE:
        return block[:length]
    blocks = [block]
    for counter in range(2, -(-length // DIGEST_SIZE) + 1):
        block = hmac.digest(prk, block + info + bytes([counter]), "sha256")
        blocks.append(block)
    return b"".join(blocks)[:length]


def derive(
    label: Label,
    ikm: tuple[bytes, ...],
    info: tuple[bytes, ...] = (),
    *,
    salt: bytes = b"",
    length: int = 32,
) -> bytes:
    """Derive `length` bytes by HKDF-SHA-256 (RFC 5869).

    `ikm` is the secret input, framed; the HKDF info is the framed label and `info`. Raises LocalError for a length that HKDF
    cannot give.
    """
    return expand(label, extract(ikm, salt), info, length=length)


def extract(ikm: tuple[bytes, ...], salt: bytes = b"") -> bytes:
    """Return HKDF's pseudo-random key of a secret input, framed: 32 bytes. From one, `expand` makes a key for each label."""
    return hkdf_extract(salt, frame(*ikm))


def expand(label: Label, prk: bytes, info: tuple[bytes, ...] = (), *, length: int = 32) -> bytes:
    """Return `length` bytes of what `extract` gave; see `derive`."""
    return hkdf_expand(prk, framed(label, *info), length)


def mac(label: Label, key: bytes, *parts: bytes) -> bytes:
    """Return HMAC-SHA-256 under `key` of the framed label and parts: 32 bytes."""
    return hmac.digest(key, framed(label, *parts), "sha256")


def verify_mac(label: Label, key: bytes, tag: bytes, *parts: bytes) -> None:
    """Check `tag` in time that does not depend on where it differs. Raises InvalidSignature if it does not match."""
    if not hmac.compare_digest(mac(label, key, *parts), tag):
        raise InvalidSignature(f"the MAC does not match ({label.name})")

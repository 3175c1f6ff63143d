"""SPEC section 1 and the labels of section 13: hashes, MACs, keys, seals, padding."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b32encode

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

PREKEY_SIGNATURE = "telemed-v1 signature prekey"
AUTH_SIGNATURE = "telemed-v1 signature auth-request"
RESPONSE_SIGNATURE = "telemed-v1 signature auth-response"
ENVELOPE_SIGNATURE = "telemed-v1 signature envelope"
ROTATION_SIGNATURE = "telemed-v1 signature rotation"
SCHNORR_CHALLENGE = "telemed-v1 schnorr challenge"
SCHNORR_NONCE = "telemed-v1 schnorr nonce"
ENROLMENT_MAC = "telemed-v1 mac enrolment"
CONFIRM_DOCTOR = "telemed-v1 mac confirm-doctor"
CONFIRM_PATIENT = "telemed-v1 mac confirm-patient"
TRANSCRIPT_1 = "telemed-v1 transcript 1"
TRANSCRIPT_2 = "telemed-v1 transcript 2"
TRANSCRIPT_3 = "telemed-v1 transcript 3"
AUTH_HASH = "telemed-v1 hash auth-request"
RESPONSE_HASH = "telemed-v1 hash auth-response"
ROSTER_HASH = "telemed-v1 hash roster"
BODY_HASH = "telemed-v1 hash body"
FINGERPRINT = "telemed-v1 hash public-key"
HYBRID_KEM = "telemed-v1 kem p256-mlkem768"
FF_KEM = "telemed-v1 kem ffdhe3072"
KEY_1 = "telemed-v1 key 1"
KEY_2 = "telemed-v1 key 2"
KEY_3 = "telemed-v1 key 3"
MASTER = "telemed-v1 key master"
KEY_CONFIRM_DOCTOR = "telemed-v1 key confirm-doctor"
KEY_CONFIRM_PATIENT = "telemed-v1 key confirm-patient"
ALERT_KEY = "telemed-v1 key alert"
RECORD_TO_DOCTOR = "telemed-v1 key record-to-doctor"
RECORD_TO_PATIENT = "telemed-v1 key record-to-patient"
RATCHET = "telemed-v1 key ratchet"
CONTRIBUTION = "telemed-v1 key contribution"
EPOCH_SECRET = "telemed-v1 epoch secret"  # noqa: S105  a label
EPOCH_KEY = "telemed-v1 epoch key"
EPOCH_KEY_ID = "telemed-v1 epoch id-of-key"


class Surprise(Exception):
    """The other side did what the specification does not let it do, or not now.

    In an experiment this is an error of the experiment or a defect of the other side, never a lie that was refused.
    """


def frame(*parts: bytes) -> bytes:
    """Each part behind its length in four bytes."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def digest(label: str, *parts: bytes) -> bytes:
    """H[L](a, b, …)."""
    return hashlib.sha256(frame(label.encode("ascii"), *parts)).digest()


def mac(label: str, key: bytes, *parts: bytes) -> bytes:
    """MAC[L](key; a, b, …)."""
    return hmac.new(key, frame(label.encode("ascii"), *parts), hashlib.sha256).digest()


def kdf(
    label: str, secrets: tuple[bytes, ...], info: tuple[bytes, ...] = (), *, salt: bytes = b"", size: int = 32
) -> bytes:
    """KDF[L](secrets; info; salt, size)."""
    expanded = frame(label.encode("ascii"), *info)
    return HKDF(SHA256(), size, salt, expanded).derive(frame(*secrets))


def nonce(counter: int) -> bytes:
    """A counter in twelve bytes."""
    return counter.to_bytes(12, "big")


def seal(key: bytes, counter: int, data: bytes, associated: bytes) -> bytes:
    """AEAD[key](counter; data; associated)."""
    return AESGCM(key).encrypt(nonce(counter), data, associated)


def open_seal(key: bytes, counter: int, sealed: bytes, associated: bytes) -> bytes:
    """What `seal` hid. Raises Surprise where it does not open."""
    try:
        return AESGCM(key).decrypt(nonce(counter), sealed, associated)
    except InvalidTag:
        raise Surprise(f"{len(sealed)} sealed bytes do not open") from None


def fingerprint(algorithm: int, public: bytes) -> str:
    """The name of a key."""
    return b32encode(digest(FINGERPRINT, bytes([algorithm]), public)[:20]).decode("ascii").lower()


def pad(data: bytes, size: int) -> bytes:
    """Length, data, zeros: `size` bytes in all."""
    return (len(data).to_bytes(4, "big") + data).ljust(size, b"\0")


def unpad(padded: bytes) -> bytes:
    """What `pad` wrapped. Raises Surprise for a length that does not fit and for a fill that is not zeros."""
    size = int.from_bytes(padded[:4], "big")
    data, fill = padded[4 : 4 + size], padded[4 + size :]
    if len(padded) < 4 or len(data) != size or any(fill):
        raise Surprise("a padded text that nobody may make")
    return data


def padme(size: int) -> int:
    """Padmé of `size` bytes, the prefix included, at least 256."""
    size = max(size, 256)
    exponent = size.bit_length() - 1
    step = 1 << (exponent - exponent.bit_length())
    return -(-size // step) * step


def pad_padme(data: bytes) -> bytes:
    """`data` padded as records and broadcasts are."""
    return pad(data, padme(len(data) + 4))

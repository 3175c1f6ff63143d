"""What the length of a handshake message says: which suite it belongs to, and how long each of its fields is.

No trace holds a field, so the lengths are worked out from the frame's when somebody looks. All lengths are public: a listener sees them.
"""

from __future__ import annotations

from collections.abc import Sequence

from shared.crypto.suites import SUITES, Suite
from shared.protocol.events import Traced
from shared.wire import messages
from shared.wire.framing import HEADER_SIZE
from shared.wire.messages import KeyExchange, KeyExchangeReply, Wire

COOKIE = 40
FIXED = {
    "suite": "1 number",
    "nonce": "32 bytes",
    "patient_nonce": "32 bytes",
    "valid_until": "a time",
    "timestamp": "a time",
    "algorithm": "1 number",
    "session_key": "32 bytes",
    "key_share": "32 bytes",
    "invitation_id": "16 bytes or none",
    "enrolment_mac": "32 bytes or none",
    "confirmation": "32 bytes",
    "doctor_id": "a name",
    "patient_id": "a name",
    "cookie": "40 bytes",
    "claims": "the fields below",
    "rotation": "proof of new keys, or none",
}
"""Of fields that are as long in every suite."""


def suite_of(traced: Sequence[Traced], doctor_id: str) -> Suite | None:
    """The suite of a handshake: by the length of the doctor's reply, before there is one by that of the key that came."""
    for message, sizes in (("KEY_EXCHANGE_REPLY", _reply_sizes), ("KEY_EXCHANGE", _greeting_sizes)):
        for step in traced:
            for suite in SUITES.values():
                if step.message == message and step.size in sizes(suite, doctor_id):
                    return suite
    return None


def of_fields(message: str, size: int, suite: Suite | None) -> dict[str, str]:
    """How long each field is, for people. `size`: the frame's in bytes."""
    if suite is None:
        return dict(FIXED)
    kem, signer = suite.kem, suite.signer
    found = FIXED | {
        "kem_public": written(kem.public_size),
        "kem_ciphertext": written(kem.ciphertext_size),
        "signature": written(signer.signature_size),
        "public_key": written(signer.public_size),
    }
    if message == "KEY_EXCHANGE":
        found["cookie"] = written(COOKIE) if size > _greeting_sizes(suite, "")[0] else "empty"
    if message in ("AUTH_REQUEST", "AUTH_RESPONSE"):
        rest = size - HEADER_SIZE - 1 - _encoded(kem.ciphertext_size)
        found["sealed"] = written(rest - (2 if rest < 258 else 3))
    return found


def shows_rotation(size: int, suite: Suite | None, doctor_id: str) -> bool:
    """Whether a KEY_EXCHANGE_REPLY of this size has more in it than a reply has that shows no new keys."""
    return suite is not None and size > max(_reply_sizes(suite, doctor_id))


def written(count: int) -> str:
    """A number of bytes."""
    return f"{count:,} bytes"


def _greeting_sizes(suite: Suite, _: str) -> tuple[int, int]:
    bare = _framed(KeyExchange(suite.id, bytes(32), bytes(suite.kem.public_size), b""))
    return bare, bare + COOKIE


def _reply_sizes(suite: Suite, doctor_id: str) -> tuple[int, ...]:
    signature = bytes(suite.signer.signature_size)
    return (_framed(KeyExchangeReply(doctor_id, bytes(32), bytes(suite.kem.public_size), 2**40, signature)),)


def _framed(message: Wire) -> int:
    return HEADER_SIZE + len(messages.encode(message))


def _encoded(count: int) -> int:
    """So many bytes as MessagePack has them."""
    return count + (2 if count < 256 else 3)

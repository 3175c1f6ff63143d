"""The handshake's messages for people who have never read the protocol: what each of them proves, what is in it, who checks what.

Law: names and numbers come from the code that applies them; only the sentences are written here. What a test compares with the
protocol cannot lie: every field of every struct is here, and the checks stand in the order in which they are applied.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.wire.checks import Check
from shared.wire.messages import (
    AuthClaims,
    AuthProof,
    AuthRequest,
    AuthResponse,
    KeyExchange,
    KeyExchangeReply,
    ResponseClaims,
    ResponseProof,
    Retry,
    SessionVerifier,
    Wire,
)

FRAME = (
    Check.FRAME_VERSION,
    Check.FRAME_OPCODE,
    Check.FRAME_LENGTH,
    Check.PAYLOAD_CANONICAL,
    Check.OPCODE_IN_STATE,
    Check.STREAM_COMPLETE,
    Check.INPUT_BOUNDED,
    Check.HANDSHAKE_DEADLINE,
)
"""What every message has to pass before anybody looks into it."""
NEWCOMERS = frozenset(
    {
        Check.ENROLMENT_MAC,
        Check.INVITATION_VALID,
        Check.INVITATION_UNUSED,
        Check.INVITATION_ID,
        Check.KEY_UNCLAIMED,
    }
)
"""What is asked only of a device that enrols."""
ROTATED = frozenset(
    {Check.ROTATION_DOCTOR, Check.ROTATION_HIGHER, Check.ROTATION_PINNED, Check.ROTATION_SIGNED}
)
"""What is asked only where the doctor shows that it has new keys."""


@dataclass(frozen=True, slots=True)
class Lesson:
    """One message.

    Attributes:
        name, opcode: as the protocol has them.
        proves: one sentence.
        by_patient: the patient sends it.
        seal: who can read it.
        outer: the struct on the wire; None where all of it is sealed.
        inner: the structs that are sealed in it.
        checks: what its receiver applies, in this order.
    """

    name: str
    opcode: int
    proves: str
    by_patient: bool
    seal: str
    outer: type[Wire] | None
    inner: tuple[type[Wire], ...] = ()
    checks: tuple[Check, ...] = field(default=())


LESSONS = {
    lesson.name: lesson
    for lesson in (
        Lesson(
            "KEY_EXCHANGE",
            10,
            "Proves nothing yet, anybody may send it: the device names one suite and brings a fresh key for this session alone.",
            True,
            "readable by anybody on the way",
            KeyExchange,
            checks=(Check.SUITE_ALLOWED, Check.DOCTOR_ADMITS),
        ),
        Lesson(
            "RETRY",
            12,
            "The doctor is busy: the device has to show with this cookie that it receives what is sent to its address, before it costs anything.",
            False,
            "readable by anybody on the way",
            Retry,
        ),
        Lesson(
            "KEY_EXCHANGE_REPLY",
            11,
            "Proves to the patient that this is the doctor it was invited by: a fresh key, signed with the doctor's own.",
            False,
            "readable by anybody on the way",
            KeyExchangeReply,
            checks=(
                Check.DOCTOR_PINNED,
                Check.ROTATION_DOCTOR,
                Check.ROTATION_HIGHER,
                Check.ROTATION_PINNED,
                Check.ROTATION_SIGNED,
                Check.PREKEY_SIGNATURE,
                Check.PREKEY_FRESH,
                Check.PREKEY_ELEMENT,
            ),
        ),
        Lesson(
            "AUTH_REQUEST",
            10,
            "Proves to the doctor who asks: signed with the patient's own key over all that was said, and sealed, so a listener does not learn the name.",
            True,
            "sealed: the doctor alone can open it",
            AuthRequest,
            (AuthProof, AuthClaims),
            (
                Check.PREKEY_HELD,
                Check.REQUEST_OPENS,
                Check.REQUEST_DOCTOR,
                Check.REQUEST_ALGORITHM,
                Check.ENROLMENT_MAC,
                Check.ROSTER_KEY,
                Check.REQUEST_SIGNATURE,
                Check.NOT_REVOKED,
                Check.REQUEST_CLOCK,
                Check.REQUEST_FRESH,
                Check.INVITATION_VALID,
                Check.INVITATION_UNUSED,
                Check.INVITATION_ID,
                Check.KEY_UNCLAIMED,
                Check.PATIENT_ELEMENT,
            ),
        ),
        Lesson(
            "AUTH_RESPONSE",
            20,
            "Proves to the patient that the doctor has opened its request and holds the same session key, to which it adds a share of its own.",
            False,
            "sealed: this patient alone can open it",
            AuthResponse,
            (ResponseProof, ResponseClaims),
            (
                Check.RESPONSE_OPENS,
                Check.RESPONSE_PATIENT,
                Check.RESPONSE_NONCE,
                Check.RESPONSE_CONFIRMS,
                Check.RESPONSE_SIGNATURE,
                Check.RESPONSE_CLOCK,
            ),
        ),
        Lesson(
            "SESSION_VERIFIER",
            30,
            "Proves to the doctor that the patient holds the session key too, here and now: nobody plays an old conversation again.",
            True,
            "sealed under the new session's key",
            None,
            (SessionVerifier,),
            (Check.VERIFIER_OPENS, Check.VERIFIER_CONFIRMS, Check.VERIFIER_CLOCK),
        ),
    )
}
ADMISSION = (Check.NOT_PAUSED, Check.ADMISSION)
"""What the doctor itself decides when all is proved, before the session begins."""
EXPECTED = {
    None: "KEY_EXCHANGE",
    "KEY_EXCHANGE": "KEY_EXCHANGE",
    "KEY_EXCHANGE_REPLY": "AUTH_REQUEST",
    "AUTH_REQUEST": "AUTH_REQUEST",
    "AUTH_RESPONSE": "SESSION_VERIFIER",
}
"""What the doctor waits for after each message."""
MEANINGS = {
    "suite": "which algorithms",
    "nonce": "random, so that no two handshakes are alike",
    "patient_nonce": "the patient's nonce, given back",
    "kem_public": "a key for this session alone, its public half",
    "cookie": "shows that its sender receives at its address",
    "doctor_id": "which doctor",
    "patient_id": "which patient",
    "valid_until": "until when the key is offered",
    "signature": "by the sender's own key",
    "rotation": "the former keys' word for the new ones, while a device may not have them",
    "kem_ciphertext": "agrees on a key that only the two can compute",
    "sealed": "encrypted and authenticated, padded to one length",
    "claims": "what the signature covers",
    "timestamp": "the sender's clock",
    "algorithm": "of the patient's key",
    "public_key": "the patient's own, its public half",
    "session_key": "the patient's share of the session key",
    "key_share": "the doctor's share of the session key",
    "invitation_id": "which invitation, of a device that enrols",
    "enrolment_mac": "proves the invitation's secret, of a device that enrols",
    "confirmation": "proves that the session key is held",
}
SECRET = frozenset({"session_key", "key_share"})

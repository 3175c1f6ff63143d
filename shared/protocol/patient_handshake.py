"""The patient's side of the handshake, as functions from one phase to the next.

Every function verifies a whole message before it returns the next phase; a phase is immutable, so a message that is refused
leaves nothing behind. `shared.protocol.patient_connection` keeps the current phase.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from shared.crypto import kdf
from shared.crypto.aead import TAG_SIZE, Aead
from shared.crypto.kdf import Label
from shared.crypto.kem import KemKey
from shared.crypto.padding import pad, unpad
from shared.crypto.signatures import Algorithm, SigningKey
from shared.crypto.suites import Suite
from shared.protocol import key_schedule, rotation
from shared.protocol.clock import SECOND, Instant
from shared.protocol.key_schedule import SessionKeys
from shared.protocol.prekeys import prekey_statement
from shared.protocol.rotation import Pins, Successors
from shared.wire import framing, messages
from shared.wire.checks import Check, Checklist
from shared.wire.framing import Frame
from shared.wire.messages import (
    KEY_SIZE,
    NONCE_SIZE,
    AuthClaims,
    AuthProof,
    AuthRequest,
    AuthResponse,
    KeyExchange,
    KeyExchangeReply,
    ResponseClaims,
    ResponseProof,
    SessionVerifier,
)
from shared.wire.opcodes import Opcode

PREKEY_WINDOW = 45 * SECOND


@dataclass(frozen=True, slots=True)
class Enrolment:
    """What a patient that is not on the roster yet proves: the invitation it holds."""

    invitation_id: bytes
    secret: bytes

    def __repr__(self) -> str:
        return f"Enrolment({self.invitation_id.hex()})"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who this patient is and whom it trusts.

    `doctor_key` is the pinned public key of the suite's signature algorithm. `clock_window` is in milliseconds.
    `other_keys`: the doctor's pinned keys of other algorithms. `sequence`: of the rotation that brought the pinned keys; 0: none.
    """

    patient_id: str
    key: SigningKey
    suite: Suite
    doctor_id: str
    doctor_key: bytes
    enrolment: Enrolment | None = None
    clock_window: int = PREKEY_WINDOW
    other_keys: tuple[tuple[Algorithm, bytes], ...] = ()
    sequence: int = 0

    @property
    def pins(self) -> Pins:
        """What a rotation is held against."""
        keys = {self.suite.signer.algorithm: self.doctor_key, **dict(self.other_keys)}
        return Pins(self.doctor_id, keys, self.sequence)


@dataclass(frozen=True, slots=True)
class Hello:
    """KEY_EXCHANGE is on its way."""

    m1: bytes
    kem_key: KemKey
    message: KeyExchange


@dataclass(frozen=True, slots=True)
class Request:
    """AUTH_REQUEST is on its way."""

    hello: Hello
    m2: bytes
    m3: bytes
    ss_d: bytes
    nonce: bytes
    session_key: bytes
    alert_key: bytes

    def __repr__(self) -> str:
        return "Request(…)"


def frame_of(opcode: Opcode, payload: bytes) -> bytes:
    """A finished frame."""
    return framing.header(opcode, len(payload)) + payload


def seal_once(
    opcode: Opcode, kind: type[AuthRequest | AuthResponse], ciphertext: bytes, key: bytes, plaintext: bytes
) -> bytes:
    """The frame of a handshake message that carries a KEM ciphertext and one sealed part of fixed size.

    Nonce 0 is safe: `key` depends on the fresh KEM secret and on this very ciphertext, and it seals nothing else.
    """
    unsealed = kind(ciphertext, bytes(len(plaintext) + TAG_SIZE))
    head = framing.header(opcode, len(messages.encode(unsealed)))
    sealed = Aead(key).seal(0, plaintext, head)
    return head + messages.encode(kind(ciphertext, sealed))


def start(identity: Identity, random: Callable[[int], bytes]) -> Hello:
    """Make KEY_EXCHANGE: the suite, a nonce and an ephemeral key."""
    kem_key = identity.suite.kem.generate(random)
    message = KeyExchange(identity.suite.id, random(NONCE_SIZE), kem_key.public, b"")
    return _hello(message, kem_key)


def start_again(hello: Hello, cookie: bytes) -> Hello:
    """Make the same KEY_EXCHANGE with the cookie of a RETRY: the cookie is good for just this message."""
    return _hello(msgspec.structs.replace(hello.message, cookie=cookie), hello.kem_key)


def _hello(message: KeyExchange, kem_key: KemKey) -> Hello:
    return Hello(frame_of(Opcode.KEY_EXCHANGE, messages.encode(message)), kem_key, message)


def answer_reply(
    identity: Identity,
    hello: Hello,
    frame: Frame,
    now: Instant,
    checks: Checklist,
    random: Callable[[int], bytes],
) -> Request | Successors:
    """Verify KEY_EXCHANGE_REPLY and make AUTH_REQUEST; or, where the doctor proves that it has new keys, say which.

    Nothing is sent to a doctor whose keys are not pinned: the patient stores the new ones first, and greets anew.

    Raises:
        PeerError: V-004, V-020, V-024 to V-027, V-021 to V-023.
    """
    reply = messages.decode(KeyExchangeReply, frame.payload)
    suite = identity.suite
    checks.require(
        reply.doctor_id == identity.doctor_id, Check.DOCTOR_PINNED, f"reply of {reply.doctor_id}"
    )  # V-020
    successors = reply.rotation and rotation.judge(reply.rotation, identity.pins, checks)
    doctor_key = successors.keys[suite.signer.algorithm] if successors else identity.doctor_key
    with checks.guard(Check.PREKEY_SIGNATURE, "prekey"):  # V-021
        statement = prekey_statement(reply.doctor_id, suite.id, reply.kem_public, reply.valid_until)
        suite.signer.verify(doctor_key, Label.PREKEY_SIGNATURE, reply.signature, *statement)
    window, until = identity.clock_window, reply.valid_until
    checks.require_clock(Check.PREKEY_FRESH, until, now.wall, window, "the prekey is valid until")  # V-022
    if successors:
        return successors
    with checks.guard(Check.PREKEY_ELEMENT, "prekey"):  # V-023
        ciphertext, ss_d = suite.kem.encapsulate(reply.kem_public, random)
    return _make_request(identity, hello, frame.data, now, ciphertext, ss_d, random)


def _make_request(
    identity: Identity,
    hello: Hello,
    m2: bytes,
    now: Instant,
    ct_d: bytes,
    ss_d: bytes,
    random: Callable[[int], bytes],
) -> Request:
    enrolment = identity.enrolment
    nonce, session_key = random(NONCE_SIZE), random(KEY_SIZE)
    claims = messages.encode(
        AuthClaims(
            timestamp=now.wall,
            nonce=nonce,
            doctor_id=identity.doctor_id,
            patient_id=identity.patient_id,
            algorithm=identity.key.algorithm,
            public_key=identity.key.public,
            session_key=session_key,
            invitation_id=enrolment.invitation_id if enrolment else None,
        )
    )
    th_1 = key_schedule.transcript_1(hello.m1, m2)
    covered = key_schedule.auth_hash(th_1, ct_d, claims)
    proof = AuthProof(
        claims,
        identity.suite.signer.sign(identity.key, Label.AUTH_SIGNATURE, covered),
        kdf.mac(Label.ENROLMENT_MAC, enrolment.secret, covered) if enrolment else None,
    )
    plaintext = pad(messages.encode(proof), identity.suite.handshake_padding)
    k1 = key_schedule.key_1(ss_d, th_1, ct_d)
    m3 = seal_once(Opcode.AUTH_REQUEST, AuthRequest, ct_d, k1, plaintext)
    return Request(hello, m2, m3, ss_d, nonce, session_key, key_schedule.alert_key(ss_d, th_1, ct_d))


def answer_response(
    identity: Identity, request: Request, frame: Frame, now: Instant, checks: Checklist
) -> tuple[SessionKeys, bytes]:
    """Verify AUTH_RESPONSE; return the session's keys and the finished SESSION_VERIFIER.

    Raises:
        PeerError: V-004, V-050 to V-055.
    """
    response = messages.decode(AuthResponse, frame.payload)
    hello, ct_p = request.hello, response.kem_ciphertext
    th_2 = key_schedule.transcript_2(hello.m1, request.m2, request.m3, ct_p)
    with checks.guard(Check.RESPONSE_OPENS, "response"):  # V-050
        ss_p = identity.suite.kem.decapsulate(hello.kem_key, ct_p)
        k2 = key_schedule.key_2(request.ss_d, ss_p, th_2)
        plaintext = unpad(Aead(k2).open(0, response.sealed, frame.header))
    proof = messages.decode(ResponseProof, plaintext)
    claims = messages.decode(ResponseClaims, proof.claims)
    keys = key_schedule.session_keys(request.ss_d, ss_p, request.session_key, claims.key_share, th_2)
    _judge_response(identity, request, claims, proof, keys, th_2, now, checks)
    th_3 = key_schedule.transcript_3(hello.m1, request.m2, request.m3, frame.data)
    covered = key_schedule.verifier_parts(now.wall, th_3)
    verifier = SessionVerifier(now.wall, kdf.mac(Label.CONFIRM_PATIENT, keys.confirm_patient, *covered))
    padded = pad(messages.encode(verifier), identity.suite.handshake_padding)
    head = framing.header(Opcode.SESSION_VERIFIER, len(padded) + TAG_SIZE)
    # k3 seals this one message; see seal_once for the nonce.
    return keys, head + Aead(keys.k3).seal(0, padded, head)


def _judge_response(
    identity: Identity,
    request: Request,
    claims: ResponseClaims,
    proof: ResponseProof,
    keys: SessionKeys,
    th_2: bytes,
    now: Instant,
    checks: Checklist,
) -> None:
    checks.require(
        claims.patient_id == identity.patient_id, Check.RESPONSE_PATIENT, f"response for {claims.patient_id}"
    )  # V-051
    checks.require(
        claims.patient_nonce == request.nonce, Check.RESPONSE_NONCE, "response to another request"
    )  # V-052
    covered = key_schedule.response_hash(th_2, proof.claims)
    with checks.guard(Check.RESPONSE_CONFIRMS, "key confirmation"):  # V-053
        kdf.verify_mac(Label.CONFIRM_DOCTOR, keys.confirm_doctor, proof.confirmation, covered)
    with checks.guard(Check.RESPONSE_SIGNATURE, "response"):  # V-054
        signer = identity.suite.signer
        signer.verify(identity.doctor_key, Label.RESPONSE_SIGNATURE, proof.signature, covered)
    window = identity.clock_window
    checks.require_clock(
        Check.RESPONSE_CLOCK, claims.timestamp, now.wall, window, "the doctor's clock shows"
    )  # V-055

"""Ways to make a frame that opens, of any plaintext, and claims that verify, of any content: the peer's keys in the fuzzer's hand."""

from __future__ import annotations

import struct
from collections.abc import Callable

from lab.faults.fuzzing.cast import SUITE, Cast
from shared.crypto import kdf
from shared.crypto.aead import TAG_SIZE, Aead
from shared.crypto.kdf import Label
from shared.crypto.padding import PREFIX_SIZE, pad, padme_length
from shared.protocol import key_schedule
from shared.protocol.epochs import Epoch
from shared.protocol.patient_handshake import Request, frame_of, seal_once
from shared.protocol.records import RecordSealer
from shared.wire import framing, messages
from shared.wire.checks import PeerError
from shared.wire.framing import AUTHENTICATED_LIMIT, HEADER_SIZE
from shared.wire.messages import (
    Alert,
    AuthProof,
    AuthRequest,
    AuthResponse,
    Direct,
    KeyExchange,
    ResponseProof,
)
from shared.wire.opcodes import AlertCode, Opcode

Seal = Callable[[bytes], bytes]
"""Takes any plaintext, gives the frame that a peer with the right keys would have made of it."""


def of_request(request: Request) -> Seal:
    ct_d = messages.decode(AuthRequest, request.m3[HEADER_SIZE:]).kem_ciphertext
    th_1 = key_schedule.transcript_1(request.hello.m1, request.m2)
    k1 = key_schedule.key_1(request.ss_d, th_1, ct_d)
    return lambda text: seal_once(Opcode.AUTH_REQUEST, AuthRequest, ct_d, k1, _padded(text))


def signed_claims(cast: Cast, request: Request, claims: bytes) -> bytes:
    ct_d = messages.decode(AuthRequest, request.m3[HEADER_SIZE:]).kem_ciphertext
    th_1 = key_schedule.transcript_1(request.hello.m1, request.m2)
    covered = key_schedule.auth_hash(th_1, ct_d, claims)
    enrolment = cast.identity.enrolment
    proof = AuthProof(
        claims,
        SUITE.signer.sign(cast.patient_key, Label.AUTH_SIGNATURE, covered),
        kdf.mac(Label.ENROLMENT_MAC, enrolment.secret, covered) if enrolment else None,
    )
    return of_request(request)(messages.encode(proof))


def _response_keys(cast: Cast, request: Request) -> tuple[bytes, bytes, bytes, bytes]:
    """ct_p, ss_p, th_2 and k2 of a doctor that answers this request."""
    kem_public = messages.decode(KeyExchange, request.hello.m1[HEADER_SIZE:]).kem_public
    ct_p, ss_p = SUITE.kem.encapsulate(kem_public, cast.random)
    th_2 = key_schedule.transcript_2(request.hello.m1, request.m2, request.m3, ct_p)
    return ct_p, ss_p, th_2, key_schedule.key_2(request.ss_d, ss_p, th_2)


def of_response(cast: Cast, request: Request) -> Seal:
    ct_p, _, _, k2 = _response_keys(cast, request)
    return lambda text: seal_once(Opcode.AUTH_RESPONSE, AuthResponse, ct_p, k2, _padded(text))


def signed_response(cast: Cast, request: Request, claims: bytes) -> bytes:
    ct_p, ss_p, th_2, k2 = _response_keys(cast, request)
    try:
        share = messages.decode(messages.ResponseClaims, claims).key_share
    except PeerError:
        share = bytes(32)
    keys = key_schedule.session_keys(request.ss_d, ss_p, request.session_key, share, th_2)
    covered = key_schedule.response_hash(th_2, claims)
    key = cast.doctor_keys[SUITE.signer.algorithm]
    proof = ResponseProof(
        claims,
        kdf.mac(Label.CONFIRM_DOCTOR, keys.confirm_doctor, covered),
        SUITE.signer.sign(key, Label.RESPONSE_SIGNATURE, covered),
    )
    padded = _padded(messages.encode(proof))
    return seal_once(Opcode.AUTH_RESPONSE, AuthResponse, ct_p, k2, padded)


def sealed_alert(alert_key: bytes, text: bytes) -> bytes:
    sealed = Aead(alert_key).seal(0, text[:96], bytes([Opcode.ALERT]))
    return frame_of(Opcode.ALERT, messages.encode(Alert(AlertCode.SEALED, 0, sealed)))


def of_records(key: bytes, count: int, opcodes: tuple[int, ...]) -> dict[int, tuple[Seal, ...]]:
    def seal_as(opcode: Opcode) -> Seal:
        def seal(text: bytes) -> bytes:
            sealer = RecordSealer(key)
            sealer.count = count
            return sealer.seal(opcode, text[: AUTHENTICATED_LIMIT - 8192])

        return seal

    return {opcode: (seal_as(Opcode(opcode)),) for opcode in opcodes}


def of_patient_records(cast: Cast, key: bytes, count: int) -> dict[int, tuple[Seal, ...]]:
    records = of_records(key, count, (31, 41, 51, 60, 70, 80, 81))
    direct = records[41][0]

    def signed(text: bytes) -> bytes:
        return direct(messages.encode(Direct(0, cast.signed_envelope(text, b"take two"))))

    return {**records, 41: (direct, signed)}


def sealed_broadcast(epoch: Epoch, text: bytes) -> bytes:
    plaintext = text[: AUTHENTICATED_LIMIT - 8192]
    padded = pad(plaintext, padme_length(len(plaintext) + PREFIX_SIZE))
    prefix = epoch.key_id + struct.pack(">Q", 7)
    head = framing.header(Opcode.BROADCAST, len(prefix) + len(padded) + TAG_SIZE)
    key = kdf.derive(Label.EPOCH_KEY, (epoch.secret.reveal(),))
    return head + prefix + Aead(key).seal(7, padded, head + prefix)


def sealed_once(opcode: Opcode, key: bytes, text: bytes) -> bytes:
    padded = _padded(text)
    head = framing.header(opcode, len(padded) + TAG_SIZE)
    return head + Aead(key).seal(0, padded, head)


def _padded(text: bytes) -> bytes:
    return pad(text, max(SUITE.handshake_padding, len(text) + PREFIX_SIZE))

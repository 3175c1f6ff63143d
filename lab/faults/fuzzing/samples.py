"""One honest message of each kind, from which a fuzzer starts."""

from __future__ import annotations

from lab.faults.fuzzing.cast import DAY, DOCTOR, GROUP, NOW, PATIENT, STREAM
from shared.crypto.signatures import Algorithm
from shared.protocol.invitations import DoctorKey, Invitation
from shared.wire import messages
from shared.wire.messages import (
    Alert,
    AuthClaims,
    AuthProof,
    AuthRequest,
    AuthResponse,
    Direct,
    Disconnect,
    Envelope,
    GroupKey,
    KeyExchange,
    KeyExchangeReply,
    KeySuccession,
    Ping,
    Pong,
    Position,
    Receipt,
    Report,
    ReportKind,
    ReportReceipt,
    ResendRequest,
    ResponseClaims,
    ResponseProof,
    Retry,
    Rotation,
    RotationStatement,
    SessionVerifier,
    SignedMessage,
    Wire,
)
from shared.wire.opcodes import AlertCode, DisconnectReason

_N = bytes(range(32))
_POINT = b"\4" + bytes(64)
_NAME = "a" * 32
_CLAIMS = AuthClaims(NOW.wall, _N, DOCTOR, PATIENT, Algorithm.ECDSA_P256, _POINT, _N, None)
_RESPONSE = ResponseClaims(NOW.wall, _N, _N, PATIENT, _N)
_ENVELOPE = Envelope(DOCTOR, _NAME, STREAM, "", 1, 0, NOW.wall, NOW.wall + DAY, 1, _N)
_SIGNED = SignedMessage(messages.encode(_ENVELOPE), bytes(64), bytes(16), b"take two")
_STATEMENT = RotationStatement(DOCTOR, 1, NOW.wall, [KeySuccession(1, _NAME, _POINT)])
_ROTATION = Rotation(messages.encode(_STATEMENT), [bytes(64)])
_POSITIONS = [Position(STREAM, 0, [])]

SAMPLES: tuple[Wire, ...] = (
    KeyExchange(2, _N, _POINT, b""),
    KeyExchangeReply(DOCTOR, _N, _POINT, NOW.wall, bytes(64)),
    KeyExchangeReply(DOCTOR, _N, _POINT, NOW.wall, bytes(64), _ROTATION),
    _STATEMENT,
    Retry(bytes(40)),
    AuthRequest(_POINT, bytes(528)),
    _CLAIMS,
    AuthProof(messages.encode(_CLAIMS), bytes(64), None),
    AuthResponse(_POINT, bytes(528)),
    _RESPONSE,
    ResponseProof(messages.encode(_RESPONSE), _N, bytes(64)),
    SessionVerifier(NOW.wall, _N),
    GroupKey(GROUP, 2, _N, _N, 0),
    _ENVELOPE,
    _SIGNED,
    Direct(0, _SIGNED),
    Receipt(_POSITIONS),
    ResendRequest(b"", _POSITIONS),
    Report(bytes(16), ReportKind.REPLY, NOW.wall, b"better"),
    ReportReceipt([bytes(16)]),
    Disconnect(DisconnectReason.CLOSING),
    Alert(AlertCode.BUSY, 0, b""),
    Ping(bytes(8)),
    Pong(bytes(8)),
    Invitation(
        DOCTOR,
        [DoctorKey(Algorithm.ECDSA_P256, _POINT)],
        ["127.0.0.1:7700"],
        [GROUP],
        bytes(16),
        _N,
        NOW.wall + DAY,
        1,
        PATIENT,
    ),
)

_OPCODES: dict[int, tuple[type[Wire], ...]] = {
    10: (AuthProof, AuthClaims),
    20: (ResponseProof, ResponseClaims),
    30: (SessionVerifier,),
    31: (GroupKey,),
    40: (SignedMessage, Envelope),
    41: (Direct, Envelope),
    42: (Receipt,),
    43: (ResendRequest,),
    50: (Report,),
    51: (ReportReceipt,),
    60: (Disconnect,),
    70: (Alert,),
    80: (Ping,),
    81: (Pong,),
}
BY_OPCODE: dict[int, tuple[bytes, ...]] = {
    opcode: tuple(messages.encode(sample) for sample in SAMPLES if isinstance(sample, kinds))
    for opcode, kinds in _OPCODES.items()
}
"""The plaintexts that an honest peer might seal under an opcode."""

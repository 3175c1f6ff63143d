"""SPEC sections 6 to 8: the key schedule of a handshake, records, alerts."""

from __future__ import annotations

from dataclasses import dataclass

from lab.evil.peer import equations as eq
from lab.evil.peer import wire
from lab.evil.peer.equations import Surprise, digest, kdf, open_seal, pad_padme, seal, unpad

RATCHET_INTERVAL = 65536


def prekey_statement(doctor_id: str, suite: int, kem_public: bytes, valid_until: int) -> tuple[bytes, ...]:
    """What the doctor signs of a prekey."""
    return (b"\x01", doctor_id.encode(), bytes([suite]), kem_public, valid_until.to_bytes(8, "big"))


@dataclass(frozen=True, slots=True, repr=False)
class FirstKeys:
    """What follows from M1, M2 and the secret that was encapsulated to the prekey."""

    th_1: bytes
    k1: bytes
    alert_key: bytes

    @classmethod
    def derive(cls, m1: bytes, m2: bytes, ct_d: bytes, ss_d: bytes) -> FirstKeys:
        """The equations of `th_1`, `k1` and the alert key."""
        th_1 = digest(eq.TRANSCRIPT_1, m1, m2)
        return cls(th_1, kdf(eq.KEY_1, (ss_d,), (th_1, ct_d)), kdf(eq.ALERT_KEY, (ss_d,), (th_1, ct_d)))

    def covered(self, ct_d: bytes, claims: bytes) -> bytes:
        """h_a: what Sig_P and the enrolment MAC cover."""
        return digest(eq.AUTH_HASH, self.th_1, ct_d, claims)


def transcript_2(m1: bytes, m2: bytes, m3: bytes, ct_p: bytes) -> bytes:
    """th_2."""
    return digest(eq.TRANSCRIPT_2, m1, m2, m3, ct_p)


def key_2(ss_d: bytes, ss_p: bytes, th_2: bytes) -> bytes:
    """k2."""
    return kdf(eq.KEY_2, (ss_d, ss_p), (th_2,))


@dataclass(frozen=True, slots=True, repr=False)
class SessionKeys:
    """What follows from the master secret."""

    k3: bytes
    confirm_doctor: bytes
    confirm_patient: bytes
    to_doctor: bytes
    to_patient: bytes
    contribution: bytes

    @classmethod
    def derive(cls, ss_d: bytes, ss_p: bytes, k_i: bytes, k_d: bytes, th_2: bytes) -> SessionKeys:
        """The equation of `master` and those below it."""
        master = (kdf(eq.MASTER, (ss_d, ss_p, k_i, k_d), (th_2,)),)
        labels = (
            eq.KEY_3,
            eq.KEY_CONFIRM_DOCTOR,
            eq.KEY_CONFIRM_PATIENT,
            eq.RECORD_TO_DOCTOR,
            eq.RECORD_TO_PATIENT,
            eq.CONTRIBUTION,
        )
        return cls(*(kdf(label, master) for label in labels))

    def doctor_confirms(self, th_2: bytes, claims: bytes) -> tuple[bytes, bytes]:
        """h_b and MAC_D."""
        h_b = digest(eq.RESPONSE_HASH, th_2, claims)
        return h_b, eq.mac(eq.CONFIRM_DOCTOR, self.confirm_doctor, h_b)

    def patient_confirms(self, timestamp: int, th_3: bytes) -> bytes:
        """MAC_P."""
        return eq.mac(eq.CONFIRM_PATIENT, self.confirm_patient, timestamp.to_bytes(8, "big"), th_3)


def transcript_3(m1: bytes, m2: bytes, m3: bytes, m4: bytes) -> bytes:
    """th_3."""
    return digest(eq.TRANSCRIPT_3, m1, m2, m3, m4)


def sealed_frame(opcode: int, ciphertext: bytes, key: bytes, plaintext: bytes) -> bytes:
    """M3 or M4: a ciphertext beside a plaintext that `key` seals."""
    size = len(wire.encode(wire.Sealed(ciphertext, bytes(len(plaintext) + 16))))
    sealed = seal(key, 0, plaintext, wire.header(opcode, size))
    return wire.build(opcode, wire.encode(wire.Sealed(ciphertext, sealed)))


class Records:
    """One direction of records. Attributes may be set by whoever lies: the key, and the number of the next record."""

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.count = 0

    def seal(self, opcode: int, message: object) -> bytes:
        """The frame of the next record."""
        return self.seal_bytes(opcode, wire.encode(message))

    def seal_bytes(self, opcode: int, plaintext: bytes, *, header_opcode: int | None = None) -> bytes:
        """The frame of the next record, of any bytes."""
        padded = pad_padme(plaintext)
        size = len(padded) + 16
        head = wire.header(opcode if header_opcode is None else header_opcode, size)
        sealed = seal(self.key, self.count, padded, head)
        self._advance()
        return wire.build(opcode, sealed)

    def open(self, frame: bytes) -> bytes:
        """The plaintext of the next record. Raises Surprise."""
        plaintext = unpad(open_seal(self.key, self.count, frame[wire.HEADER :], frame[: wire.HEADER]))
        self._advance()
        return plaintext

    def read(self, kind: type[wire.M], frame: bytes, opcode: int) -> wire.M:
        """The message of the next record, which must be of that opcode. Raises Surprise."""
        wire.payload(frame, opcode)
        return wire.decode(kind, self.open(frame))

    def _advance(self) -> None:
        self.count += 1
        if self.count % RATCHET_INTERVAL == 0:
            self.key = kdf(eq.RATCHET, (self.key,))


@dataclass(frozen=True, slots=True)
class Told:
    """What an alert says, and in which of the three forms."""

    code: int
    form: str


CLEAR, UNDER_ALERT_KEY, AS_RECORD = "clear", "sealed", "record"


def read_alert(frame: bytes, alert_key: bytes | None, records: Records | None) -> Told:
    """Read an alert in the form in which it came; which one is right, section 7 says. Raises Surprise."""
    body = wire.payload(frame, wire.ALERT)
    try:
        alert = wire.decode(wire.Alert, body)
    except Surprise:
        if records is None:
            raise
        alert = wire.decode(wire.Alert, records.open(frame))
        return Told(alert.code, AS_RECORD)
    if alert.code != wire.SEALED_ALERT:
        if alert.time or alert.sealed:
            raise Surprise("a clear alert that says more than its code")
        return Told(alert.code, CLEAR)
    if alert_key is None:
        return Told(alert.code, UNDER_ALERT_KEY)
    inner = wire.decode(wire.Alert, open_seal(alert_key, 0, alert.sealed, bytes([wire.ALERT])))
    return Told(inner.code, UNDER_ALERT_KEY)


def sealed_alert(code: int, time: int, alert_key: bytes) -> bytes:
    """The frame of an alert under the alert key."""
    inner = wire.encode(wire.Alert(code, time, b""))
    outer = wire.Alert(wire.SEALED_ALERT, 0, seal(alert_key, 0, inner, bytes([wire.ALERT])))
    return wire.build(wire.ALERT, wire.encode(outer))


def clear_alert(code: int) -> bytes:
    """The frame of an alert that anybody can send."""
    return wire.build(wire.ALERT, wire.encode(wire.Alert(code, 0, b"")))

"""A patient written from SPEC sections 6 to 10, which says the truth unless it is given lies.

Each step of the handshake takes the doctor's frame and gives the patient's next one. A lie is a function that changes one thing
on its way: what is made after it (a signature, a seal) is made of the changed thing, so that every check before the lie passes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from lab.evil.peer import equations as eq
from lab.evil.peer import wire
from lab.evil.peer.equations import Surprise, open_seal, pad, unpad
from lab.evil.peer.sessions import (
    FirstKeys,
    Records,
    SessionKeys,
    key_2,
    prekey_statement,
    sealed_frame,
    transcript_2,
    transcript_3,
)
from lab.evil.peer.suites import Random, SigningPair, Suite, verify

T = TypeVar("T")
WINDOW = 45_000


def same(value: T) -> T:
    """No lie."""
    return value


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who a patient is, and whom it trusts. `invitation` is its id and secret, of a patient that enrols."""

    patient_id: str
    suite: Suite
    key: SigningPair
    doctor_id: str
    doctor_key: bytes
    envelope_key: bytes
    invitation: tuple[bytes, bytes] | None = None

    @property
    def fingerprint(self) -> str:
        """The name of its key."""
        return eq.fingerprint(self.key.algorithm, self.key.public)


@dataclass(frozen=True, slots=True)
class PatientLies:
    """What a patient changes, in the order in which it is made.

    Args:
        hello, hello_payload, hello_frame: M1 as a message, as its encoding, as a frame.
        prekey: the doctor's key to which it encapsulates.
        claims, claims_bytes: A as a message and as its encoding, before they are signed.
        signer: who signs, and `label`: under which label.
        covered: h_a, before it is signed; `mac_covered`: h_a, before the enrolment MAC.
        proof, proof_bytes: the plaintext of M3 after it was signed, and its encoding.
        request_padding: the padded plaintext.
        request_seal: k1. `request_frame`: M3 as a frame.
        timestamp: of the verifier, before its MAC; `th_3`: what the MAC covers.
        confirm_label: the MAC's label, `confirm_key`: the doctor's in place of its own.
        verifier, verifier_bytes: the plaintext of 30 after its MAC; `verifier_seal`: k3; `verifier_frame`: the frame.
    """

    hello: Callable[[wire.KeyExchange], wire.KeyExchange] = same
    hello_payload: Callable[[bytes], bytes] = same
    hello_frame: Callable[[bytes], bytes] = same
    prekey: Callable[[bytes], bytes] = same
    claims: Callable[[wire.AuthClaims], wire.AuthClaims] = same
    claims_bytes: Callable[[bytes], bytes] = same
    signer: SigningPair | None = None
    label: str = eq.AUTH_SIGNATURE
    covered: Callable[[bytes], bytes] = same
    mac_covered: Callable[[bytes], bytes] = same
    proof: Callable[[wire.AuthProof], wire.AuthProof] = same
    proof_bytes: Callable[[bytes], bytes] = same
    request_padding: Callable[[bytes], bytes] = same
    request_seal: Callable[[bytes], bytes] = same
    request_frame: Callable[[bytes], bytes] = same
    timestamp: Callable[[int], int] = same
    th_3: Callable[[bytes], bytes] = same
    confirm_label: str = eq.CONFIRM_PATIENT
    confirm_key: Callable[[SessionKeys], bytes] = lambda keys: keys.confirm_patient
    verifier: Callable[[wire.SessionVerifier], wire.SessionVerifier] = same
    verifier_bytes: Callable[[bytes], bytes] = same
    verifier_seal: Callable[[bytes], bytes] = same
    verifier_frame: Callable[[bytes], bytes] = same


TRUTH = PatientLies()


class Patient:
    """One handshake and session of a patient.

    Attributes:
        to_doctor, to_patient: the records of each direction, from `verifier` on.
    """

    def __init__(self, who: Credentials, random: Random, lies: PatientLies = TRUTH) -> None:
        self.who = who
        self.lies = lies
        self.random = random
        self.nonce, self.session_key = random(32), random(32)
        self.kem = who.suite.generate(random)
        self.greeting = wire.KeyExchange(who.suite.number, random(32), self.kem.public, b"")
        self.m1 = self.m2 = self.m3 = self.ss_d = b""
        self.alert_key: bytes | None = None
        self.keys: SessionKeys | None = None
        self.to_doctor, self.to_patient = Records(bytes(32)), Records(bytes(32))

    def hello(self, cookie: bytes = b"") -> bytes:
        """M1; with the cookie of a RETRY, the same once more."""
        message = self.lies.hello(self.greeting._replace(cookie=cookie))
        frame = wire.build(wire.KEY_EXCHANGE, self.lies.hello_payload(wire.encode(message)))
        self.m1 = self.lies.hello_frame(frame)
        return self.m1

    def request(self, m2: bytes, now: int) -> bytes:
        """M3, where M2 is what the pinned doctor says. Raises Surprise where it is not."""
        who, lies = self.who, self.lies
        reply = wire.read(wire.KeyExchangeReply, m2, wire.KEY_EXCHANGE_REPLY)
        self._judge_reply(reply, now)
        ct_d, self.ss_d = who.suite.encapsulate(lies.prekey(reply.kem_public), self.random)
        first = FirstKeys.derive(self.m1, m2, ct_d, self.ss_d)
        self.alert_key = first.alert_key
        claims = wire.AuthClaims(
            now,
            self.nonce,
            who.doctor_id,
            who.patient_id,
            who.key.algorithm,
            who.key.public,
            self.session_key,
            who.invitation[0] if who.invitation else None,
        )
        a = lies.claims_bytes(wire.encode(lies.claims(claims)))
        h_a = first.covered(ct_d, a)
        signature = (lies.signer or who.key).sign(lies.label, lies.covered(h_a))
        mac = None
        if who.invitation:
            mac = eq.mac(eq.ENROLMENT_MAC, who.invitation[1], lies.mac_covered(h_a))
        proof = lies.proof_bytes(wire.encode(lies.proof(wire.AuthProof(a, signature, mac))))
        plaintext = lies.request_padding(pad(proof, who.suite.padded_to))
        frame = sealed_frame(wire.AUTH_REQUEST, ct_d, lies.request_seal(first.k1), plaintext)
        self.m2, self.m3 = m2, lies.request_frame(frame)
        return self.m3

    def _judge_reply(self, reply: wire.KeyExchangeReply, now: int) -> None:
        who = self.who
        if reply.doctor_id != who.doctor_id:
            raise Surprise(f"a reply of {reply.doctor_id}")
        if abs(reply.valid_until - now) > WINDOW:
            raise Surprise("a prekey of another time")
        statement = prekey_statement(reply.doctor_id, who.suite.number, reply.kem_public, reply.valid_until)
        verify(who.suite.algorithm, who.doctor_key, eq.PREKEY_SIGNATURE, reply.signature, *statement)

    def verifier(self, m4: bytes, now: int) -> bytes:
        """SESSION_VERIFIER, where M4 is the pinned doctor's answer. Raises Surprise where it is not."""
        lies = self.lies
        response = wire.read(wire.Sealed, m4, wire.AUTH_RESPONSE)
        th_2 = transcript_2(self.m1, self.m2, self.m3, response.kem_ciphertext)
        ss_p = self.kem.decapsulate(response.kem_ciphertext)
        opened = open_seal(key_2(self.ss_d, ss_p, th_2), 0, response.sealed, m4[: wire.HEADER])
        if len(opened) != self.who.suite.padded_to:
            raise Surprise(f"a response padded to {len(opened)} bytes")
        proof = wire.decode(wire.ResponseProof, unpad(opened))
        b = wire.decode(wire.ResponseClaims, proof.claims)
        keys = self.keys = SessionKeys.derive(self.ss_d, ss_p, self.session_key, b.key_share, th_2)
        self._judge_response(b, proof, keys, th_2, now)
        self.to_doctor, self.to_patient = Records(keys.to_doctor), Records(keys.to_patient)
        timestamp, th_3 = lies.timestamp(now), lies.th_3(transcript_3(self.m1, self.m2, self.m3, m4))
        covered = (timestamp.to_bytes(8, "big"), th_3)
        mac = eq.mac(lies.confirm_label, lies.confirm_key(keys), *covered)
        message = lies.verifier_bytes(wire.encode(lies.verifier(wire.SessionVerifier(timestamp, mac))))
        padded = pad(message, self.who.suite.padded_to)
        head = wire.header(wire.SESSION_VERIFIER, len(padded) + 16)
        return lies.verifier_frame(head + eq.seal(lies.verifier_seal(keys.k3), 0, padded, head))

    def _judge_response(
        self, b: wire.ResponseClaims, proof: wire.ResponseProof, keys: SessionKeys, th_2: bytes, now: int
    ) -> None:
        h_b, confirmation = keys.doctor_confirms(th_2, proof.claims)
        if (b.patient_id, b.patient_nonce) != (self.who.patient_id, self.nonce):
            raise Surprise("a response to another request")
        if proof.confirmation != confirmation:
            raise Surprise("a response without the session key")
        if abs(b.timestamp - now) > WINDOW:
            raise Surprise("a response of another time")
        suite = self.who.suite
        verify(suite.algorithm, self.who.doctor_key, eq.RESPONSE_SIGNATURE, proof.signature, h_b)

    def record(self, opcode: int, message: object) -> bytes:
        """The next record to the doctor."""
        return self.to_doctor.seal(opcode, message)

    def receipt(self, *positions: wire.Position) -> bytes:
        """RECEIPT."""
        return self.record(wire.RECEIPT, wire.Receipt(list(positions)))

    def read(self, kind: type[T], frame: bytes, opcode: int) -> T:
        """The doctor's next record. Raises Surprise."""
        return self.to_patient.read(kind, frame, opcode)

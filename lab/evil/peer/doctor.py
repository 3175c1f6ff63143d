"""A doctor written from SPEC sections 6 to 10, which says the truth unless it is given lies; see `patient` for what a lie is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from lab.evil.peer import equations as eq
from lab.evil.peer import wire
from lab.evil.peer.equations import Surprise, open_seal, pad, unpad
from lab.evil.peer.patient import same
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
from lab.evil.peer.suites import KemPair, Random, SigningPair, Suite, verify

T = TypeVar("T")
PREKEY_VALID = 15_000
WINDOW = 30_000


@dataclass(frozen=True, slots=True)
class Practice:
    """Who a doctor is: its name, the key of the suite, and the key that signs envelopes."""

    doctor_id: str
    suite: Suite
    key: SigningPair
    envelope_key: SigningPair


@dataclass(frozen=True, slots=True)
class DoctorLies:
    """What a doctor changes, in the order in which it is made.

    Args:
        statement: (doctor id, KEM key, valid until) before the prekey is signed; `signed_suite`: the suite in it.
        prekey_signer, prekey_label: who signs it, under which label.
        reply: M2 after it was signed; `reply_frame`: as a frame.
        element: the patient's key to which it encapsulates.
        claims: B before MAC and signature; `session_key`: K_i as the doctor knows it.
        signer, label: who signs B, under which label; `covered`: h_b before that.
        proof, proof_bytes: the plaintext of M4 afterwards, and its encoding.
        response_seal: k2; `response_frame`: M4 as a frame.
    """

    statement: Callable[[wire.KeyExchangeReply], wire.KeyExchangeReply] = same
    signed_suite: Callable[[int], int] = same
    prekey_signer: SigningPair | None = None
    prekey_label: str = eq.PREKEY_SIGNATURE
    reply: Callable[[wire.KeyExchangeReply], wire.KeyExchangeReply] = same
    reply_frame: Callable[[bytes], bytes] = same
    claims: Callable[[wire.ResponseClaims], wire.ResponseClaims] = same
    session_key: Callable[[bytes], bytes] = same
    signer: SigningPair | None = None
    label: str = eq.RESPONSE_SIGNATURE
    covered: Callable[[bytes], bytes] = same
    proof: Callable[[wire.ResponseProof], wire.ResponseProof] = same
    proof_bytes: Callable[[bytes], bytes] = same
    response_seal: Callable[[bytes], bytes] = same
    response_frame: Callable[[bytes], bytes] = same


TRUTH = DoctorLies()


class Doctor:
    """One handshake and session of a doctor.

    Attributes:
        claims, proof: what M3 said, once `open_request` has read it.
        to_doctor, to_patient: the records of each direction, from `response` on.
    """

    def __init__(self, practice: Practice, random: Random, lies: DoctorLies = TRUTH) -> None:
        self.practice = practice
        self.random = random
        self.lies = lies
        self.prekey: KemPair = practice.suite.generate(random)
        self.m1 = self.m2 = self.m3 = self.m4 = b""
        self.greeting: wire.KeyExchange | None = None
        self.claims: wire.AuthClaims | None = None
        self.proof: wire.AuthProof | None = None
        self.first: FirstKeys | None = None
        self.ss_d = b""
        self.keys: SessionKeys | None = None
        self.to_doctor, self.to_patient = Records(bytes(32)), Records(bytes(32))

    def reply(self, m1: bytes, now: int) -> bytes:
        """M2. Raises Surprise where M1 is no KEY_EXCHANGE of the practice's suite."""
        practice, lies = self.practice, self.lies
        self.greeting = wire.read(wire.KeyExchange, m1, wire.KEY_EXCHANGE)
        if self.greeting.suite != practice.suite.number:
            raise Surprise(f"suite {self.greeting.suite}")
        message = lies.statement(
            wire.KeyExchangeReply(
                practice.doctor_id, self.random(32), self.prekey.public, now + PREKEY_VALID, b""
            )
        )
        statement = prekey_statement(
            message.doctor_id,
            lies.signed_suite(practice.suite.number),
            message.kem_public,
            message.valid_until,
        )
        signature = (lies.prekey_signer or practice.key).sign(lies.prekey_label, *statement)
        message = lies.reply(message._replace(signature=signature))
        self.m1 = m1
        self.m2 = lies.reply_frame(wire.build(wire.KEY_EXCHANGE_REPLY, wire.encode(message)))
        return self.m2

    def open_request(self, m3: bytes) -> wire.AuthClaims:
        """A, from M3. Raises Surprise where it does not open."""
        request = wire.read(wire.Sealed, m3, wire.AUTH_REQUEST)
        self.ss_d = self.prekey.decapsulate(request.kem_ciphertext)
        self.first = FirstKeys.derive(self.m1, self.m2, request.kem_ciphertext, self.ss_d)
        opened = open_seal(self.first.k1, 0, request.sealed, m3[: wire.HEADER])
        if len(opened) != self.practice.suite.padded_to:
            raise Surprise(f"a request padded to {len(opened)} bytes")
        self.m3 = m3
        self.proof = wire.decode(wire.AuthProof, unpad(opened))
        self.claims = wire.decode(wire.AuthClaims, self.proof.claims)
        return self.claims

    def judge_request(self, public: bytes, secret: bytes | None, now: int) -> None:
        """Whether M3 is of the patient with that key, and holds that invitation's secret. Raises Surprise."""
        if self.claims is None or self.proof is None or self.first is None:
            raise Surprise("no request was opened")
        a, proof = self.claims, self.proof
        ct_d = wire.read(wire.Sealed, self.m3, wire.AUTH_REQUEST).kem_ciphertext
        h_a = self.first.covered(ct_d, proof.claims)
        if (a.doctor_id, a.algorithm) != (self.practice.doctor_id, self.practice.suite.algorithm):
            raise Surprise("a request for another doctor or of another algorithm")
        if a.public_key != public or abs(a.timestamp - now) > WINDOW:
            raise Surprise("a request of another patient or of another time")
        verify(a.algorithm, public, eq.AUTH_SIGNATURE, proof.signature, h_a)
        expected = None if secret is None else eq.mac(eq.ENROLMENT_MAC, secret, h_a)
        if proof.enrolment_mac != expected:
            raise Surprise("not the MAC of the invitation")

    def response(self, now: int) -> bytes:
        """M4, to the request that was opened."""
        if self.claims is None or self.greeting is None:
            raise Surprise("no request was opened")
        a, lies, practice = self.claims, self.lies, self.practice
        ct_p, ss_p = practice.suite.encapsulate(self.greeting.kem_public, self.random)
        b = lies.claims(wire.ResponseClaims(now, self.random(32), a.nonce, a.patient_id, self.random(32)))
        th_2 = transcript_2(self.m1, self.m2, self.m3, ct_p)
        session_key = lies.session_key(a.session_key)
        keys = self.keys = SessionKeys.derive(self.ss_d, ss_p, session_key, b.key_share, th_2)
        self.to_doctor, self.to_patient = Records(keys.to_doctor), Records(keys.to_patient)
        encoded = wire.encode(b)
        h_b, confirmation = keys.doctor_confirms(th_2, encoded)
        signature = (lies.signer or practice.key).sign(lies.label, lies.covered(h_b))
        proof = lies.proof(wire.ResponseProof(encoded, confirmation, signature))
        padded = pad(lies.proof_bytes(wire.encode(proof)), practice.suite.padded_to)
        k2 = lies.response_seal(key_2(self.ss_d, ss_p, th_2))
        frame = sealed_frame(wire.AUTH_RESPONSE, ct_p, k2, padded)
        self.m4 = lies.response_frame(frame)
        return self.m4

    def judge_verifier(self, frame: bytes, now: int) -> None:
        """Whether SESSION_VERIFIER proves the session key. Raises Surprise."""
        if self.keys is None:
            raise Surprise("no response was made")
        sealed = wire.payload(frame, wire.SESSION_VERIFIER)
        opened = open_seal(self.keys.k3, 0, sealed, frame[: wire.HEADER])
        message = wire.decode(wire.SessionVerifier, unpad(opened))
        th_3 = transcript_3(self.m1, self.m2, self.m3, self.m4)
        proves = message.confirmation == self.keys.patient_confirms(message.timestamp, th_3)
        if (
            len(opened) != self.practice.suite.padded_to
            or not proves
            or abs(message.timestamp - now) > WINDOW
        ):
            raise Surprise("a verifier that proves nothing, or not now")

    def record(self, opcode: int, message: object) -> bytes:
        """The next record to the patient."""
        return self.to_patient.seal(opcode, message)

    def read(self, kind: type[T], frame: bytes, opcode: int) -> T:
        """The patient's next record. Raises Surprise."""
        return self.to_doctor.read(kind, frame, opcode)

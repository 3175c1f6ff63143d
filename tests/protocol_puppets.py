"""Puppets: a patient and a doctor made by hand, which hold the right keys and do as a test tells them.

They are honest but for the one flaw they are given, and seal and sign what they changed, so the checks before that flaw pass.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from shared.crypto import kdf
from shared.crypto.aead import TAG_SIZE, Aead
from shared.crypto.kdf import Label
from shared.crypto.kem import KemKey
from shared.crypto.padding import pad, unpad
from shared.crypto.secret import Random
from shared.crypto.signatures import SIGNERS, SigningKey
from shared.protocol import key_schedule
from shared.protocol.clock import SECOND
from shared.protocol.doctor_connection import DoctorConnection
from shared.protocol.epochs import Epoch
from shared.protocol.patient_connection import PatientConnection
from shared.protocol.prekeys import prekey_statement
from shared.protocol.records import RecordOpener, RecordSealer
from shared.protocol.transitions import State
from shared.wire import framing, messages
from shared.wire.framing import HEADER_SIZE
from shared.wire.messages import (
    Alert,
    AuthClaims,
    AuthProof,
    AuthRequest,
    AuthResponse,
    KeyExchange,
    KeyExchangeReply,
    Receipt,
    ResponseClaims,
    ResponseProof,
    SessionVerifier,
    Wire,
)
from shared.wire.opcodes import AlertCode, Opcode
from tests.protocol_bench import Changes, Clinic, Clock, Device, frame_of, split

NONE: Changes = {}


class PuppetPatient:
    """A patient made by hand, that holds the right keys; every message is honest but for the changes it is given."""

    def __init__(self, device: Device, clock: Clock, random: Random) -> None:
        self.device = device
        self.clock = clock
        self.random = random
        self.suite = device.identity.suite
        self.kem_key: KemKey = self.suite.kem.generate(random)
        self.session_key = random(32)
        self.m1 = self.m2 = self.m3 = b""

    def key_exchange(self, **changes: Any) -> bytes:
        """M1."""
        message = KeyExchange(self.suite.id, self.random(32), self.kem_key.public, b"")
        self.m1 = build(Opcode.KEY_EXCHANGE, messages.encode(replace(message, **changes)))
        return self.m1

    def auth_request(
        self,
        m2: bytes,
        *,
        claims: Changes = NONE,
        proof: Changes = NONE,
        key: SigningKey | None = None,
        outer: Changes = NONE,
        plaintext: bytes | None = None,
    ) -> bytes:
        """M3. `claims` change before the signature, `proof` after it, `outer` last of all; `key` signs instead."""
        identity = self.device.identity
        reply = messages.decode(KeyExchangeReply, m2[HEADER_SIZE:])
        ct_d, self.ss_d = self.suite.kem.encapsulate(reply.kem_public, self.random)
        th_1 = key_schedule.transcript_1(self.m1, m2)
        enrolment = identity.enrolment
        a = messages.encode(
            replace(
                AuthClaims(
                    self.clock.now.wall,
                    self.random(32),
                    identity.doctor_id,
                    identity.patient_id,
                    identity.key.algorithm,
                    identity.key.public,
                    self.session_key,
                    enrolment.invitation_id if enrolment else None,
                ),
                **claims,
            )
        )
        covered = key_schedule.auth_hash(th_1, ct_d, a)
        signing_key = key or identity.key
        signature = SIGNERS[signing_key.algorithm].sign(signing_key, Label.AUTH_SIGNATURE, covered)
        mac = kdf.mac(Label.ENROLMENT_MAC, enrolment.secret, covered) if enrolment else None
        inner = messages.encode(replace(AuthProof(a, signature, mac), **proof))
        padded = pad(inner, self.suite.handshake_padding) if plaintext is None else plaintext
        k1 = key_schedule.key_1(self.ss_d, th_1, ct_d)
        self.alert_key = key_schedule.alert_key(self.ss_d, th_1, ct_d)
        self.m2 = m2
        self.m3 = seal_pair(Opcode.AUTH_REQUEST, AuthRequest, ct_d, k1, padded, outer)
        return self.m3

    def session_verifier(self, m4: bytes, *, key: bytes | None = None, **changes: Any) -> bytes:
        """M5. `timestamp` changes before the MAC is made, `confirmation` after it; `key` seals instead of k3."""
        response = messages.decode(AuthResponse, m4[HEADER_SIZE:])
        th_2 = key_schedule.transcript_2(self.m1, self.m2, self.m3, response.kem_ciphertext)
        ss_p = self.suite.kem.decapsulate(self.kem_key, response.kem_ciphertext)
        k2 = key_schedule.key_2(self.ss_d, ss_p, th_2)
        padded = unpad(Aead(k2).open(0, response.sealed, m4[:HEADER_SIZE]))
        b = messages.decode(ResponseClaims, messages.decode(ResponseProof, padded).claims)
        keys = key_schedule.session_keys(self.ss_d, ss_p, self.session_key, b.key_share, th_2)
        self.sealer, self.opener = RecordSealer(keys.to_doctor), RecordOpener(keys.to_patient)
        th_3 = key_schedule.transcript_3(self.m1, self.m2, self.m3, m4)
        timestamp = changes.pop("timestamp", self.clock.now.wall)
        mac = kdf.mac(
            Label.CONFIRM_PATIENT, keys.confirm_patient, *key_schedule.verifier_parts(timestamp, th_3)
        )
        message = messages.encode(replace(SessionVerifier(timestamp, mac), **changes))
        return seal_payload(
            Opcode.SESSION_VERIFIER, key or keys.k3, pad(message, self.suite.handshake_padding)
        )

    def record(self, opcode: Opcode, message: Wire) -> bytes:
        """The next record."""
        return self.sealer.seal(opcode, messages.encode(message))

    def establish(self, doctor: DoctorConnection) -> None:
        """Go all the way honestly, and take what the doctor has to say."""
        now = self.clock.now
        for message in (
            lambda _: self.key_exchange(),
            self.auth_request,
            self.session_verifier,
        ):
            doctor.receive_data(message(doctor.data_to_send()), now)
        doctor.admit(now)
        doctor.receive_data(self.record(Opcode.RECEIPT, Receipt([])), now)
        assert doctor.state is State.ESTABLISHED


class PuppetDoctor:
    """A doctor made by hand, that holds the right keys; every message is honest but for the changes it is given."""

    def __init__(self, clinic: Clinic, device: Device) -> None:
        self.clinic = clinic
        self.random = clinic.random
        self.suite = device.identity.suite
        self.key = clinic.keys[self.suite.signer.algorithm]
        self.prekey = self.suite.kem.generate(self.random)
        self.m1 = self.m2 = b""

    def reply(self, m1: bytes, *, key: SigningKey | None = None, **changes: Any) -> bytes:
        """M2. `signature` changes after it was made, everything else before; `key` signs instead."""
        self.m1 = m1
        signature = changes.pop("signature", None)
        valid_until = self.clinic.clock.now.wall + 15 * SECOND
        message = replace(
            KeyExchangeReply(
                self.clinic.practice.doctor_id, self.random(32), self.prekey.public, valid_until, b""
            ),
            **changes,
        )
        statement = prekey_statement(
            message.doctor_id, self.suite.id, message.kem_public, message.valid_until
        )
        signing_key = key or self.key
        made = SIGNERS[signing_key.algorithm].sign(signing_key, Label.PREKEY_SIGNATURE, *statement)
        message = replace(message, signature=made if signature is None else signature)
        self.m2 = build(Opcode.KEY_EXCHANGE_REPLY, messages.encode(message))
        return self.m2

    def open_request(self, m3: bytes) -> AuthClaims:
        """Read M3 with the prekey."""
        request = messages.decode(AuthRequest, m3[HEADER_SIZE:])
        self.m3, ct_d = m3, request.kem_ciphertext
        self.ss_d = self.suite.kem.decapsulate(self.prekey, ct_d)
        th_1 = key_schedule.transcript_1(self.m1, self.m2)
        self.alert_key = key_schedule.alert_key(self.ss_d, th_1, ct_d)
        k1 = key_schedule.key_1(self.ss_d, th_1, ct_d)
        padded = unpad(Aead(k1).open(0, request.sealed, m3[:HEADER_SIZE]))
        return messages.decode(AuthClaims, messages.decode(AuthProof, padded).claims)

    def response(
        self,
        m3: bytes,
        *,
        claims: Changes = NONE,
        proof: Changes = NONE,
        key: SigningKey | None = None,
        outer: Changes = NONE,
    ) -> bytes:
        """M4. `claims` change before MAC and signature, `proof` after, `outer` last of all; `key` signs instead."""
        a = self.open_request(m3)
        kem_public = messages.decode(KeyExchange, self.m1[HEADER_SIZE:]).kem_public
        ct_p, ss_p = self.suite.kem.encapsulate(kem_public, self.random)
        b = replace(
            ResponseClaims(
                self.clinic.clock.now.wall, self.random(32), a.nonce, a.patient_id, self.random(32)
            ),
            **claims,
        )
        th_2 = key_schedule.transcript_2(self.m1, self.m2, m3, ct_p)
        keys = key_schedule.session_keys(self.ss_d, ss_p, a.session_key, b.key_share, th_2)
        self.sealer, self.opener = RecordSealer(keys.to_patient), RecordOpener(keys.to_doctor)
        covered = key_schedule.response_hash(th_2, messages.encode(b))
        signing_key = key or self.key
        made = ResponseProof(
            messages.encode(b),
            kdf.mac(Label.CONFIRM_DOCTOR, keys.confirm_doctor, covered),
            SIGNERS[signing_key.algorithm].sign(signing_key, Label.RESPONSE_SIGNATURE, covered),
        )
        padded = pad(messages.encode(replace(made, **proof)), self.suite.handshake_padding)
        k2 = key_schedule.key_2(self.ss_d, ss_p, th_2)
        return seal_pair(Opcode.AUTH_RESPONSE, AuthResponse, ct_p, k2, padded, outer)

    def record(self, opcode: Opcode, message: Wire) -> bytes:
        """The next record."""
        return self.sealer.seal(opcode, messages.encode(message))

    def alert(self, code: AlertCode, *, key: bytes | None = None) -> bytes:
        """An alert sealed under the alert key, or under `key`."""
        inner = messages.encode(Alert(code, self.clinic.clock.now.wall, b""))
        sealed = Aead(key or self.alert_key).seal(0, inner, bytes([Opcode.ALERT]))
        return build(Opcode.ALERT, messages.encode(Alert(AlertCode.SEALED, 0, sealed)))

    def confirm(self, patient: PatientConnection) -> None:
        """Go honestly until the patient has sent its verifier and its first receipt."""
        now = self.clinic.clock.now
        patient.receive_data(self.reply(patient.data_to_send()), now)
        patient.receive_data(self.response(patient.data_to_send()), now)
        assert patient.state is State.CONFIRMING
        receipt = split(patient.data_to_send())[1]
        self.opener.open(frame_of(receipt))

    def establish(self, patient: PatientConnection, epoch: Epoch | None = None) -> Epoch:
        """Go all the way honestly; the first record is a group key."""
        self.confirm(patient)
        epoch = epoch or self.clinic.epoch()
        patient.receive_data(self.record(Opcode.GROUP_KEY, epoch.group_key(0)), self.clinic.clock.now)
        assert patient.state is State.ESTABLISHED
        return epoch


def build(opcode: Opcode, payload: bytes) -> bytes:
    """A frame of any payload."""
    return framing.header(opcode, len(payload)) + payload


def seal_payload(opcode: Opcode, key: bytes, padded: bytes) -> bytes:
    """A frame whose whole payload is sealed with nonce 0."""
    head = framing.header(opcode, len(padded) + TAG_SIZE)
    return head + Aead(key).seal(0, padded, head)


def seal_pair(
    opcode: Opcode,
    kind: type[AuthRequest | AuthResponse],
    ciphertext: bytes,
    key: bytes,
    padded: bytes,
    outer: Changes = NONE,
) -> bytes:
    """A frame of a KEM ciphertext and a sealed part."""
    size = len(messages.encode(kind(ciphertext, bytes(len(padded) + TAG_SIZE))))
    sealed = Aead(key).seal(0, padded, framing.header(opcode, size))
    return build(opcode, messages.encode(replace(kind(ciphertext, sealed), **outer)))

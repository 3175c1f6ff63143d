"""The doctor's side of the handshake, as functions from one phase to the next.

Order of work: what is cheap and refuses most comes first; the enrolment MAC before the signature; the roster's verdict only
after the signature, so that nobody learns from an answer or its timing which ids exist.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, unique
from typing import Protocol

from shared.crypto import kdf
from shared.crypto.aead import Aead
from shared.crypto.kdf import Label
from shared.crypto.padding import pad, unpad
from shared.crypto.signatures import Algorithm, SigningKey, fingerprint
from shared.crypto.suites import SUITES, Suite, SuiteId
from shared.errors import CryptoError, LocalError
from shared.protocol import key_schedule
from shared.protocol.clock import SECOND, Instant
from shared.protocol.cookies import CookieJar
from shared.protocol.invitations import derived_id
from shared.protocol.key_schedule import SessionKeys
from shared.protocol.patient_handshake import frame_of, seal_once
from shared.protocol.prekeys import Prekey, PrekeyRing
from shared.protocol.replay import ReplayCache
from shared.wire import messages
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
    Retry,
    Rotation,
    SessionVerifier,
)
from shared.wire.opcodes import Opcode

CLOCK_WINDOW = 30 * SECOND
HANDSHAKE_DEADLINE = 10 * SECOND


@unique
class Standing(Enum):
    """What the roster holds of a patient."""

    ACTIVE = "active"
    RETIRED = "retired"  # the same key may come back without an invitation
    REVOKED = "revoked"  # a tombstone: neither the id nor the key is ever used again


@dataclass(frozen=True, slots=True)
class Member:
    """One row of the roster."""

    patient_id: str
    algorithm: Algorithm
    public_key: bytes
    standing: Standing


@dataclass(frozen=True, slots=True)
class OpenInvitation:
    """An invitation as the doctor holds it. `expires` 0: never. `patient_id` None: derived ids only."""

    secret: bytes
    expires: int
    uses_left: int
    patient_id: str | None

    def __repr__(self) -> str:
        return f"OpenInvitation(uses_left={self.uses_left}, expires={self.expires})"


class Directory(Protocol):
    """What the handshake asks of the roster: values in memory, never input or output."""

    def member(self, patient_id: str) -> Member | None:
        """The roster's row of this id, tombstones included."""

    def owner(self, key_fingerprint: str) -> Member | None:
        """The roster's row that holds this key, tombstones included."""

    def invitation(self, invitation_id: bytes) -> OpenInvitation | None:
        """An invitation that was made and whose secret is still held."""


@dataclass(frozen=True, slots=True)
class Practice:
    """What all of one doctor's connections share. Raises LocalError where an allowed suite has no signing key.

    `admits` says whether this doctor lets anybody in at all: not while its operator has to confirm a restored database.
    `rotation`: what to show of new keys beside a prekey that this public key verifies, while not every patient has them.
    `signing_keys` may change in place, in the middle of anything: each handshake signs with the key of its prekey to its end.
    """

    doctor_id: str
    signing_keys: Mapping[Algorithm, SigningKey]
    suites: frozenset[SuiteId]
    directory: Directory
    prekeys: PrekeyRing
    replays: ReplayCache
    random: Callable[[int], bytes]
    clock_window: int = CLOCK_WINDOW
    handshake_deadline: int = HANDSHAKE_DEADLINE
    cookies: CookieJar | None = None
    admits: Callable[[], bool] = lambda: True
    rotation: Callable[[bytes], Rotation | None] = lambda signer: None

    def __post_init__(self) -> None:
        for suite_id in self.suites:
            suite = SUITES[suite_id]
            if suite.signer.algorithm not in self.signing_keys:
                missing = suite.signer.algorithm.name
                raise LocalError(f"suite {suite.name} is allowed, but there is no {missing} key to sign with")


@dataclass(frozen=True, slots=True)
class Offer:
    """KEY_EXCHANGE_REPLY is on its way."""

    suite: Suite
    m1: bytes
    m2: bytes
    kem_public: bytes
    prekey: Prekey


@dataclass(frozen=True, slots=True)
class OpenedRequest:
    """An AUTH_REQUEST whose signature has verified: from here on we know who asks."""

    m3: bytes
    claims: AuthClaims
    ss_d: bytes
    alert_key: bytes
    invitation: OpenInvitation | None

    def __repr__(self) -> str:
        return f"OpenedRequest({self.claims.patient_id})"


@dataclass(frozen=True, slots=True)
class Response:
    """AUTH_RESPONSE is on its way. `doctor_key`: the public key that verifies its signature."""

    claims: AuthClaims
    enrolling: bool
    suite: Suite
    keys: SessionKeys
    th_3: bytes
    m4: bytes
    doctor_key: bytes = b""


def answer_key_exchange(
    practice: Practice, address: str, frame: Frame, now: Instant, checks: Checklist
) -> Offer | Retry:
    """Verify KEY_EXCHANGE and offer the current prekey of its suite; under load, ask for a cookie first.

    Costs no asymmetric operation but, every five seconds, the new prekey's.

    Raises:
        PeerError: V-004, V-010, V-011.
    """
    message = messages.decode(KeyExchange, frame.payload)
    allowed = message.suite in practice.suites
    checks.require(allowed, Check.SUITE_ALLOWED, f"suite {message.suite} is not allowed here")  # V-010
    waits = "a restored database waits for its operator's word"
    checks.require(practice.admits(), Check.DOCTOR_ADMITS, waits)  # V-011
    cookies = practice.cookies
    if cookies is not None and not cookies.admits(message, address, now):
        return Retry(cookies.bake(message, address, now))
    suite = SUITES[SuiteId(message.suite)]
    prekey = practice.prekeys.offer(suite.id, now)
    reply = KeyExchangeReply(
        practice.doctor_id,
        practice.random(NONCE_SIZE),
        prekey.public,
        prekey.valid_until,
        prekey.signature,
        practice.rotation(prekey.signer.public),
    )
    m2 = frame_of(Opcode.KEY_EXCHANGE_REPLY, messages.encode(reply))
    return Offer(suite, frame.data, m2, message.kem_public, prekey)


def open_auth_request(
    practice: Practice, offer: Offer, frame: Frame, now: Instant, checks: Checklist
) -> OpenedRequest:
    """Open AUTH_REQUEST and verify who sent it.

    Raises:
        PeerError: V-004, V-030 to V-036.
    """
    request = messages.decode(AuthRequest, frame.payload)
    held = offer.prekey.held(now)
    if offer.prekey.signer is not practice.signing_keys[offer.suite.signer.algorithm]:
        held = None  # that key was rotated away: who has answered it needs to learn the new one first
    checks.require(held is not None, Check.PREKEY_HELD, "the prekey of this handshake is erased")  # V-030
    assert held is not None  # noqa: S101  said to mypy; the line above is the check
    ct_d, suite = request.kem_ciphertext, offer.suite
    th_1 = key_schedule.transcript_1(offer.m1, offer.m2)
    with checks.guard(Check.REQUEST_OPENS, "request"):  # V-031
        ss_d = suite.kem.decapsulate(held, ct_d)
        k1 = key_schedule.key_1(ss_d, th_1, ct_d)
        plaintext = unpad(Aead(k1).open(0, request.sealed, frame.header))
    proof = messages.decode(AuthProof, plaintext)
    claims = messages.decode(AuthClaims, proof.claims)
    checks.require(
        claims.doctor_id == practice.doctor_id, Check.REQUEST_DOCTOR, f"request to {claims.doctor_id}"
    )  # V-032
    checks.require(
        claims.algorithm == suite.signer.algorithm, Check.REQUEST_ALGORITHM, f"algorithm {claims.algorithm}"
    )  # V-033
    covered = key_schedule.auth_hash(th_1, ct_d, proof.claims)
    invitation = _prove_sender(practice, suite, claims, proof, covered, checks)
    return OpenedRequest(frame.data, claims, ss_d, key_schedule.alert_key(ss_d, th_1, ct_d), invitation)


def _prove_sender(
    practice: Practice,
    suite: Suite,
    claims: AuthClaims,
    proof: AuthProof,
    covered: bytes,
    checks: Checklist,
) -> OpenInvitation | None:
    """V-034 to V-036. Returns the invitation of a patient that is new; None for one on the roster."""
    member = practice.directory.member(claims.patient_id)
    invitation = None
    if member is None and claims.invitation_id is not None:
        invitation = practice.directory.invitation(claims.invitation_id)
        # The MAC is computed for an unknown invitation too, under a key nobody has: timing tells nothing.
        secret = invitation.secret if invitation else practice.random(KEY_SIZE)
        with checks.guard(Check.ENROLMENT_MAC, f"enrolment of {claims.patient_id}"):  # V-034
            kdf.verify_mac(Label.ENROLMENT_MAC, secret, proof.enrolment_mac or b"", covered)
    presented = (claims.algorithm, claims.public_key)
    known = invitation is not None or (
        member is not None and presented == (member.algorithm, member.public_key)
    )
    # An unknown id costs the same verification, under a key of our own that signed nothing of this kind.
    key = claims.public_key if known else practice.signing_keys[suite.signer.algorithm].public
    detail = f"patient {claims.patient_id} with key {_key_name(claims)}"
    try:
        suite.signer.verify(key, Label.AUTH_SIGNATURE, proof.signature, covered)
        verified = True
    except CryptoError:
        verified = False
    reason = "not on the roster" if member is None else "another key than the roster's"
    checks.require(known, Check.ROSTER_KEY, f"{detail}: {reason}")  # V-035
    checks.require(verified, Check.REQUEST_SIGNATURE, detail)  # V-036
    return invitation


def _key_name(claims: AuthClaims) -> str:
    return fingerprint(Algorithm(claims.algorithm), claims.public_key)


def answer_auth_request(
    practice: Practice, offer: Offer, opened: OpenedRequest, now: Instant, checks: Checklist
) -> Response:
    """Judge a request whose sender is proven, and make AUTH_RESPONSE.

    Raises:
        PeerError: V-037 to V-044; the alert for these is sealed, as the peer has proved its key.
    """
    claims = opened.claims
    _judge_request(practice, opened, now, checks)
    with checks.guard(Check.PATIENT_ELEMENT, f"ephemeral key of {claims.patient_id}"):  # V-044
        ct_p, ss_p = offer.suite.kem.encapsulate(offer.kem_public, practice.random)
    practice.replays.add(claims.patient_id, claims.nonce, now)
    key_share = practice.random(KEY_SIZE)
    response = messages.encode(
        ResponseClaims(now.wall, practice.random(NONCE_SIZE), claims.nonce, claims.patient_id, key_share)
    )
    th_2 = key_schedule.transcript_2(offer.m1, offer.m2, opened.m3, ct_p)
    keys = key_schedule.session_keys(opened.ss_d, ss_p, claims.session_key, key_share, th_2)
    covered = key_schedule.response_hash(th_2, response)
    signer = offer.suite.signer
    signing_key = offer.prekey.signer
    proof = ResponseProof(
        response,
        kdf.mac(Label.CONFIRM_DOCTOR, keys.confirm_doctor, covered),
        signer.sign(signing_key, Label.RESPONSE_SIGNATURE, covered),
    )
    plaintext = pad(messages.encode(proof), offer.suite.handshake_padding)
    k2 = key_schedule.key_2(opened.ss_d, ss_p, th_2)
    m4 = seal_once(Opcode.AUTH_RESPONSE, AuthResponse, ct_p, k2, plaintext)
    th_3 = key_schedule.transcript_3(offer.m1, offer.m2, opened.m3, m4)
    enrolling = opened.invitation is not None
    return Response(claims, enrolling, offer.suite, keys, th_3, m4, signing_key.public)


def _judge_request(practice: Practice, opened: OpenedRequest, now: Instant, checks: Checklist) -> None:
    claims, invitation = opened.claims, opened.invitation
    name = claims.patient_id
    key_name = _key_name(claims)
    owner = practice.directory.owner(key_name)
    revoked = owner is not None and owner.standing is Standing.REVOKED
    checks.require(not revoked, Check.NOT_REVOKED, f"patient {name} with key {key_name}")  # V-037
    window, shows = practice.clock_window, f"the clock of patient {name} shows"
    checks.require_clock(Check.REQUEST_CLOCK, claims.timestamp, now.wall, window, shows)  # V-038
    fresh = not practice.replays.seen(name, claims.nonce, now)
    checks.require(fresh, Check.REQUEST_FRESH, f"patient {name} repeats a nonce")  # V-039
    if invitation is None:
        return
    in_time = invitation.expires == 0 or now.wall <= invitation.expires
    checks.require(in_time, Check.INVITATION_VALID, f"enrolment of {name}")  # V-040
    checks.require(invitation.uses_left > 0, Check.INVITATION_UNUSED, f"enrolment of {name}")  # V-041
    admitted = invitation.patient_id or derived_id(key_name)
    checks.require(
        name == admitted, Check.INVITATION_ID, f"{name} enrols with an invitation for {admitted}"
    )  # V-042
    checks.require(owner is None, Check.KEY_UNCLAIMED, f"key {key_name} of {name} has an owner")  # V-043


def verify_session(
    practice: Practice, response: Response, frame: Frame, now: Instant, checks: Checklist
) -> int:
    """Verify SESSION_VERIFIER; return the patient's clock.

    Raises:
        PeerError: V-004, V-060 to V-062.
    """
    with checks.guard(Check.VERIFIER_OPENS, "verifier"):  # V-060
        plaintext = unpad(Aead(response.keys.k3).open(0, frame.payload, frame.header))
    message = messages.decode(SessionVerifier, plaintext)
    covered = key_schedule.verifier_parts(message.timestamp, response.th_3)
    with checks.guard(Check.VERIFIER_CONFIRMS, "key confirmation"):  # V-061
        key = response.keys.confirm_patient
        kdf.verify_mac(Label.CONFIRM_PATIENT, key, message.confirmation, *covered)
    window, shows = practice.clock_window, f"the clock of patient {response.claims.patient_id} shows"
    checks.require_clock(Check.VERIFIER_CLOCK, message.timestamp, now.wall, window, shows)  # V-062
    return message.timestamp

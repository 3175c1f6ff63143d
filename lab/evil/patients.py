"""Patients that lie to the doctor in their handshake: one row each, and what the doctor must answer."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lab.evil.clinic import DAY, Clinic
from lab.evil.misbehaviour import Act, Attack, Liar, Misbehaviour, fails
from lab.evil.peer import equations as eq
from lab.evil.peer import wire
from lab.evil.peer.patient import Credentials, PatientLies
from lab.evil.peer.suites import (
    FFDHE3072,
    HYBRID,
    P256,
    SigningPair,
    Suite,
    element,
    new_signer,
    prime,
    schnorr_challenge,
)
from lab.evil.sides import Refusal
from lab.evil.stages import call, credentials, log_in, patient_ear
from shared.crypto.signatures import Algorithm
from shared.protocol.clock import SECOND
from shared.protocol.doctor_handshake import OpenInvitation, Standing
from shared.wire.checks import Check

Situation = Callable[[Clinic, Credentials], Credentials]
"""What is otherwise than it should be, of the patient or at the doctor, before the lie begins."""

ONCE = (P256,)


def same_situation(clinic: Clinic, who: Credentials) -> Credentials:
    """Nothing is otherwise."""
    return who


def handshake(
    lies: Callable[[Clinic, Credentials], PatientLies] | PatientLies | None = None,
    *,
    enrols: bool = False,
    situation: Situation = same_situation,
) -> Act:
    """A patient that goes through its handshake, with these lies, in this situation."""

    def act(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
        if enrols:
            invitation = clinic.invite("mallory")
            who = credentials(clinic, suite, standing=None, invitation=invitation)
        else:
            who = credentials(clinic, suite)
        told = PatientLies()
        if lie:
            who = situation(clinic, who)
            told = lies(clinic, who) if callable(lies) else lies or told
        mark = len(clinic.effects)
        peer, side = call(clinic, who, told)
        log_in(peer, side)
        return Attack(side, mark, lambda frame: patient_ear(peer, frame))

    return act


def lie(
    name: str,
    does: str,
    answer: Refusal,
    lies: Callable[[Clinic, Credentials], PatientLies] | PatientLies | None = None,
    *,
    enrols: bool = False,
    situation: Situation = same_situation,
    suites: tuple[Suite, ...] = (HYBRID, P256),
    liar: Liar = Liar.PATIENT,
) -> Misbehaviour:
    """A row about a handshake."""
    act = handshake(lies, enrols=enrols, situation=situation)
    return Misbehaviour(name, liar, does, answer, act, suites)


def claiming(**changes: Any) -> PatientLies:
    """Other claims."""
    return PatientLies(claims=lambda claims: claims._replace(**changes))


def shifted(milliseconds: int) -> PatientLies:
    """A request of another time."""
    return PatientLies(claims=lambda claims: claims._replace(timestamp=claims.timestamp + milliseconds))


def _double(number: int) -> bytes:
    return struct.pack(">d", float(number))


def _as_map(message: wire.KeyExchange) -> bytes:
    return wire.encode(message._asdict())


def _cut_tag(frame: bytes) -> bytes:
    request = wire.read(wire.Sealed, frame, wire.AUTH_REQUEST)
    return wire.build(wire.AUTH_REQUEST, wire.encode(request._replace(sealed=request.sealed[:-1])))


def _respelled_time(claims: bytes) -> bytes:
    """The timestamp, which takes 64 bits either way, as a signed integer."""
    return claims[:1] + b"\xd3" + claims[2:]


# M1

_STRANGE_BYTES = PatientLies(hello_payload=lambda payload: payload + b"\0")

HELLOS = (
    lie(
        "unknown-suite",
        "names a suite that does not exist",
        fails(Check.SUITE_ALLOWED),
        PatientLies(hello=lambda m: m._replace(suite=9)),
    ),
    lie(
        "downgrade-own",
        "names a suite that this doctor does not allow",
        fails(Check.SUITE_ALLOWED),
        PatientLies(hello=lambda m: m._replace(suite=FFDHE3072.number)),
    ),
    lie(
        "wrong-version",
        "begins its frame with version 2",
        fails(Check.FRAME_VERSION),
        PatientLies(hello_frame=lambda f: b"\x02" + f[1:]),
        liar=Liar.STRANGER,
    ),
    lie(
        "unknown-opcode",
        "sends opcode 99",
        fails(Check.FRAME_OPCODE),
        PatientLies(hello_frame=lambda f: f[:1] + b"\x63" + f[2:]),
        liar=Liar.STRANGER,
    ),
    lie(
        "oversize-hello",
        "announces 4,097 bytes before anybody knows it",
        fails(Check.FRAME_LENGTH),
        PatientLies(hello_frame=lambda f: wire.header(wire.KEY_EXCHANGE, 4097) + f[wire.HEADER :]),
        liar=Liar.STRANGER,
    ),
    lie(
        "opcode-of-the-doctor",
        "sends a KEY_EXCHANGE_REPLY",
        fails(Check.OPCODE_IN_STATE),
        PatientLies(hello_frame=lambda f: f[:1] + bytes([wire.KEY_EXCHANGE_REPLY]) + f[2:]),
        liar=Liar.STRANGER,
    ),
    lie(
        "receipt-before-all",
        "begins with a RECEIPT",
        fails(Check.OPCODE_IN_STATE),
        PatientLies(hello_frame=lambda f: f[:1] + bytes([wire.RECEIPT]) + f[2:]),
        liar=Liar.STRANGER,
    ),
    lie("trailing-byte", "puts a byte behind the message", fails(Check.PAYLOAD_CANONICAL), _STRANGE_BYTES),
    lie(
        "long-integer",
        "spells the suite in two bytes where one does",
        fails(Check.PAYLOAD_CANONICAL),
        PatientLies(hello_payload=lambda p: p[:1] + b"\xcc" + p[1:]),
    ),
    lie(
        "float-for-integer",
        "spells the suite as a floating point number",
        fails(Check.PAYLOAD_CANONICAL),
        PatientLies(hello_payload=lambda p: p[:1] + b"\xcb" + _double(p[1]) + p[2:]),
    ),
    lie(
        "long-length",
        "spells the nonce's length in two bytes where one does",
        fails(Check.PAYLOAD_CANONICAL),
        PatientLies(hello_payload=lambda p: p[:2] + b"\xc5\x00" + p[3:]),
    ),
    lie(
        "map-for-array",
        "sends names and values instead of an array",
        fails(Check.PAYLOAD_CANONICAL),
        PatientLies(hello_payload=lambda p: _as_map(wire.decode(wire.KeyExchange, p))),
    ),
    lie(
        "extra-field",
        "sends one field more",
        fails(Check.PAYLOAD_CANONICAL),
        PatientLies(hello_payload=lambda p: bytes([p[0] + 1]) + p[1:] + b"\xc0"),
    ),
    lie(
        "missing-field",
        "leaves the cookie out",
        fails(Check.PAYLOAD_CANONICAL),
        PatientLies(hello_payload=lambda p: bytes([p[0] - 1]) + p[1:-2]),
    ),
    lie(
        "text-for-bytes",
        "sends its nonce as text",
        fails(Check.PAYLOAD_CANONICAL),
        PatientLies(hello_payload=lambda p: p[:2] + b"\xd9\x20" + b"n" * 32 + p[36:]),
    ),
)

# M3


def _stale(clinic: Clinic, who: Credentials) -> PatientLies:
    def wait(prekey: bytes) -> bytes:
        clinic.clock.advance(17 * SECOND)
        return prekey

    return PatientLies(prekey=wait, claims=lambda c: c._replace(timestamp=clinic.clock.now.wall))


def _of_another_session(clinic: Clinic, who: Credentials) -> PatientLies:
    """A signature and a MAC of the same patient, over another handshake."""
    return PatientLies(covered=lambda h_a: eq.digest(eq.AUTH_HASH, h_a))


def _foreign_prekey(clinic: Clinic, who: Credentials) -> PatientLies:
    other = who.suite.generate(clinic.random).public
    return PatientLies(prekey=lambda prekey: other)


def _signed_by_another(clinic: Clinic, who: Credentials) -> PatientLies:
    return PatientLies(signer=new_signer(who.suite.algorithm, clinic.random))


def _unknown(clinic: Clinic, who: Credentials) -> Credentials:
    del clinic.ledger.members[who.patient_id]
    return who


def _another_key(clinic: Clinic, who: Credentials) -> Credentials:
    return replace(who, key=new_signer(who.suite.algorithm, clinic.random))


def _somebody_elses_id(clinic: Clinic, who: Credentials) -> Credentials:
    return replace(who, patient_id="bystander")


def _revoked(clinic: Clinic, who: Credentials) -> Credentials:
    clinic.roster(who.patient_id, Algorithm(who.key.algorithm), who.key.public, Standing.REVOKED)
    return who


def _used_nonce(clinic: Clinic, who: Credentials) -> PatientLies:
    nonce = clinic.random(32)
    clinic.practice.replays.add(who.patient_id, nonce, clinic.clock.now)
    return PatientLies(claims=lambda claims: claims._replace(nonce=nonce))


REQUESTS = (
    Misbehaviour(
        "stale-prekey",
        Liar.PATIENT,
        "answers a prekey 17 s after it was offered",
        fails(Check.PREKEY_HELD),
        handshake(_stale),
        deadline=60 * SECOND,
    ),
    lie("foreign-prekey", "encapsulates to another key", fails(Check.REQUEST_OPENS), _foreign_prekey),
    lie(
        "request-wrong-key",
        "seals its request under another key",
        fails(Check.REQUEST_OPENS),
        PatientLies(request_seal=lambda key: bytes(32)),
    ),
    lie(
        "request-dirty-padding",
        "hides a byte in the padding",
        fails(Check.REQUEST_OPENS),
        PatientLies(request_padding=lambda padded: padded[:-1] + b"\x01"),
    ),
    lie(
        "request-truncated-tag",
        "leaves the last byte of the seal out",
        fails(Check.REQUEST_OPENS),
        PatientLies(request_frame=lambda f: _cut_tag(f)),
    ),
    lie(
        "claims-trailing-byte",
        "signs claims with a byte behind them",
        fails(Check.PAYLOAD_CANONICAL),
        PatientLies(claims_bytes=lambda claims: claims + b"\0"),
    ),
    lie(
        "claims-long-integer",
        "signs a timestamp in a second spelling",
        fails(Check.PAYLOAD_CANONICAL),
        PatientLies(claims_bytes=lambda claims: _respelled_time(claims)),
    ),
    lie(
        "proof-extra-field",
        "seals one field more than there are",
        fails(Check.PAYLOAD_CANONICAL),
        PatientLies(proof_bytes=lambda proof: bytes([proof[0] + 1]) + proof[1:] + b"\xc0"),
    ),
    lie(
        "wrong-doctor",
        "claims to talk to another doctor",
        fails(Check.REQUEST_DOCTOR),
        claiming(doctor_id="another"),
    ),
    lie(
        "wrong-algorithm",
        "claims a key of the other algorithm",
        fails(Check.REQUEST_ALGORITHM),
        claiming(algorithm=2),
    ),
    lie(
        "unknown-id", "is not on the roster", fails(Check.ROSTER_KEY), situation=_unknown, liar=Liar.STRANGER
    ),
    lie(
        "key-swap",
        "presents another key than the roster's for its id",
        fails(Check.ROSTER_KEY),
        situation=_another_key,
    ),
    lie(
        "misbinding-identity",
        "claims another patient's id with its own key",
        fails(Check.ROSTER_KEY),
        situation=_somebody_elses_id,
    ),
    lie(
        "misbinding-fingerprint",
        "claims its own id with the key of another patient",
        fails(Check.ROSTER_KEY),
        lambda clinic, who: claiming(public_key=clinic.ledger.members["bystander"].public_key),
    ),
    lie(
        "signed-by-another",
        "lets another key sign",
        fails(Check.REQUEST_SIGNATURE),
        _signed_by_another,
    ),
    lie(
        "wrong-label",
        "signs its request under the label of a response",
        fails(Check.REQUEST_SIGNATURE),
        PatientLies(label=eq.RESPONSE_SIGNATURE),
    ),
    lie(
        "signature-of-another-handshake",
        "brings a signature that covers another transcript",
        fails(Check.REQUEST_SIGNATURE),
        _of_another_session,
    ),
    lie(
        "empty-signature",
        "brings no signature",
        fails(Check.REQUEST_SIGNATURE),
        PatientLies(proof=lambda proof: proof._replace(signature=b"")),
    ),
    lie("revoked", "comes back after its revocation", fails(Check.NOT_REVOKED), situation=_revoked),
    lie("future-request", "is 31 s ahead", fails(Check.REQUEST_CLOCK), shifted(31 * SECOND)),
    lie("past-request", "is 31 s behind", fails(Check.REQUEST_CLOCK), shifted(-31 * SECOND)),
    lie("used-nonce", "uses a nonce twice", fails(Check.REQUEST_FRESH), _used_nonce),
)

# Enrolment


def _foreign_invitation(clinic: Clinic, who: Credentials) -> Credentials:
    return replace(who, invitation=clinic.invite("somebody-else"))


def _guessed_secret(clinic: Clinic, who: Credentials) -> Credentials:
    assert who.invitation is not None  # noqa: S101  these rows enrol; tells mypy
    return replace(who, invitation=(who.invitation[0], bytes(32)))


def _invented_invitation(clinic: Clinic, who: Credentials) -> Credentials:
    return replace(who, invitation=(clinic.random(16), clinic.random(32)))


def _changed_invitation(clinic: Clinic, who: Credentials, *, uses: int = 1, age: int = 0) -> Credentials:
    assert who.invitation is not None  # noqa: S101  these rows enrol; tells mypy
    invitation_id, secret = who.invitation
    expires = clinic.clock.now.wall + DAY - age
    clinic.ledger.invitations[invitation_id] = OpenInvitation(secret, expires, uses, who.patient_id)
    return who


def _fleet_name(clinic: Clinic, who: Credentials) -> Credentials:
    return replace(who, invitation=clinic.invite(None, uses=5))


def _owned_key(clinic: Clinic, who: Credentials) -> Credentials:
    clinic.roster("another", Algorithm(who.key.algorithm), who.key.public)
    return who


ENROLMENTS = (
    lie(
        "forged-enrolment-mac",
        "guesses an invitation's secret",
        fails(Check.ENROLMENT_MAC),
        enrols=True,
        situation=_guessed_secret,
        liar=Liar.STRANGER,
    ),
    lie(
        "invented-invitation",
        "enrols by an invitation that was never made",
        fails(Check.ENROLMENT_MAC),
        enrols=True,
        situation=_invented_invitation,
        liar=Liar.STRANGER,
    ),
    lie(
        "stolen-enrolment-mac",
        "brings the MAC of another handshake",
        fails(Check.ENROLMENT_MAC),
        PatientLies(mac_covered=lambda h_a: eq.digest(eq.AUTH_HASH, h_a)),
        enrols=True,
    ),
    lie(
        "missing-enrolment-mac",
        "names an invitation and proves nothing",
        fails(Check.ENROLMENT_MAC),
        PatientLies(proof=lambda proof: proof._replace(enrolment_mac=None)),
        enrols=True,
        liar=Liar.STRANGER,
    ),
    lie(
        "truncated-enrolment-mac",
        "brings half of the MAC",
        fails(Check.PAYLOAD_CANONICAL),
        PatientLies(proof=lambda proof: proof._replace(enrolment_mac=(proof.enrolment_mac or b"")[:16])),
        enrols=True,
    ),
    lie(
        "expired-invitation",
        "enrols a millisecond after its invitation's end",
        fails(Check.INVITATION_VALID),
        enrols=True,
        situation=lambda clinic, who: _changed_invitation(clinic, who, age=DAY + 1),
    ),
    lie(
        "used-invitation",
        "enrols by an invitation without a use left",
        fails(Check.INVITATION_UNUSED),
        enrols=True,
        situation=lambda clinic, who: _changed_invitation(clinic, who, uses=0),
    ),
    lie(
        "foreign-invitation",
        "enrols by an invitation that is for another id",
        fails(Check.INVITATION_ID),
        enrols=True,
        situation=_foreign_invitation,
    ),
    lie(
        "chosen-fleet-id",
        "takes an id of its choice with a fleet's invitation",
        fails(Check.INVITATION_ID),
        enrols=True,
        situation=_fleet_name,
    ),
    lie(
        "unknown-key-share",
        "enrols the key of another patient under its own id",
        fails(Check.KEY_UNCLAIMED),
        enrols=True,
        situation=_owned_key,
    ),
)

# Elements


def _kem(public: Callable[[], bytes]) -> PatientLies:
    return PatientLies(hello=lambda m: m._replace(kem_public=public()))


def _weak_key(value: int) -> SigningPair:
    """A key of order 1 or 2: whoever signs with it needs no secret, as y^e is 1 for every even e."""
    public, drawn = element(value), itertools.count(2)

    def sign(label: str, *parts: bytes) -> bytes:
        message = eq.frame(label.encode(), *parts)
        for s in drawn:
            e = schnorr_challenge(pow(2, s, prime()), public, message)
            if e[-1] % 2 == 0:
                return e + s.to_bytes(84, "big")
        raise AssertionError("a count has no end")

    return SigningPair(FFDHE3072.algorithm, public, sign)


def _textbook_forgery(clinic: Clinic, who: Credentials) -> PatientLies:
    """ElGamal's own equation g^h = y^r · r^s, forged without a key by r = q (Bleichenbacher, 1996), as r ‖ s."""
    q = (prime() - 1) // 2
    return PatientLies(proof=lambda proof: proof._replace(signature=element(q) + element(q - 1)))


def _elements() -> tuple[Misbehaviour, ...]:
    numbers: tuple[tuple[str, str, Callable[[], int]], ...] = (
        ("zero", "0", lambda: 0),
        ("one", "1", lambda: 1),
        ("minus-one", "p − 1", lambda: prime() - 1),
        ("modulus", "p", prime),
        ("beyond", "p + 4", lambda: prime() + 4),
        ("non-residue", "a number outside the subgroup", lambda: prime() - 2),
    )
    ephemeral = tuple(
        lie(
            f"element-{name}",
            f"sends {what} as its ephemeral key",
            fails(Check.PATIENT_ELEMENT),
            _kem(lambda value=value: element(value())),  # type: ignore[misc]
            suites=(FFDHE3072,),
        )
        for name, what, value in numbers
    )
    signing = tuple(
        lie(
            f"signing-key-{name}",
            f"enrols with {what} as its public key",
            fails(Check.REQUEST_SIGNATURE),
            suites=(FFDHE3072,),
            enrols=True,
            situation=lambda clinic, who, value=value: replace(who, key=_weak_key(value())),  # type: ignore[misc]
        )
        for name, what, value in numbers
        if name in ("one", "minus-one")
    )
    return ephemeral + signing


ELEMENTS = (
    *_elements(),
    lie(
        "textbook-forgery",
        "signs by ElGamal's own equation with r = q, which needs no key",
        fails(Check.PAYLOAD_CANONICAL),
        _textbook_forgery,
        suites=(FFDHE3072,),
    ),
    lie(
        "point-off-the-curve",
        "sends a point that is not on the curve",
        fails(Check.PATIENT_ELEMENT),
        PatientLies(hello=lambda m: m._replace(kem_public=m.kem_public[:-1] + bytes([m.kem_public[-1] ^ 1]))),
    ),
    lie(
        "compressed-point",
        "sends its point compressed",
        fails(Check.PATIENT_ELEMENT),
        PatientLies(hello=lambda m: m._replace(kem_public=b"\x02" + m.kem_public[1:33])),
        suites=ONCE,
    ),
    lie(
        "point-at-infinity",
        "sends the point at infinity",
        fails(Check.PATIENT_ELEMENT),
        PatientLies(hello=lambda m: m._replace(kem_public=b"\x00")),
        suites=ONCE,
    ),
    lie(
        "unreduced-lattice-key",
        "sends an ML-KEM key with coefficients that are not reduced",
        fails(Check.PATIENT_ELEMENT),
        PatientLies(hello=lambda m: m._replace(kem_public=b"\xff" * 1152 + m.kem_public[1152:])),
        suites=(HYBRID,),
    ),
)

# 30


def _late_verifier(milliseconds: int) -> PatientLies:
    return PatientLies(timestamp=lambda now: now + milliseconds)


VERIFIERS = (
    lie(
        "verifier-wrong-key",
        "seals its verifier under another key",
        fails(Check.VERIFIER_OPENS),
        PatientLies(verifier_seal=lambda key: bytes(32)),
    ),
    lie(
        "verifier-reflected",
        "proves the session key with the doctor's own confirmation key",
        fails(Check.VERIFIER_CONFIRMS),
        PatientLies(confirm_key=lambda keys: keys.confirm_doctor),
    ),
    lie(
        "verifier-wrong-label",
        "proves the session key under the doctor's label",
        fails(Check.VERIFIER_CONFIRMS),
        PatientLies(confirm_label=eq.CONFIRM_DOCTOR),
    ),
    lie(
        "verifier-other-transcript",
        "confirms another transcript",
        fails(Check.VERIFIER_CONFIRMS),
        PatientLies(th_3=lambda th: eq.digest(eq.TRANSCRIPT_2, th)),
    ),
    lie(
        "verifier-bad-mac",
        "changes one bit of the MAC",
        fails(Check.VERIFIER_CONFIRMS),
        PatientLies(
            verifier=lambda v: v._replace(confirmation=bytes([v.confirmation[0] ^ 1]) + v.confirmation[1:])
        ),
    ),
    lie(
        "verifier-truncated-mac",
        "brings half of the MAC",
        fails(Check.PAYLOAD_CANONICAL),
        PatientLies(verifier=lambda v: v._replace(confirmation=v.confirmation[:16])),
    ),
    lie(
        "verifier-other-time",
        "writes another time beside the MAC than into it",
        fails(Check.VERIFIER_CONFIRMS),
        PatientLies(verifier=lambda v: v._replace(timestamp=v.timestamp + 1)),
    ),
    lie("future-verifier", "confirms 31 s ahead", fails(Check.VERIFIER_CLOCK), _late_verifier(31 * SECOND)),
    lie("past-verifier", "confirms 31 s behind", fails(Check.VERIFIER_CLOCK), _late_verifier(-31 * SECOND)),
)


ROWS = (*HELLOS, *REQUESTS, *ENROLMENTS, *ELEMENTS, *VERIFIERS)

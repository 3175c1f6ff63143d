"""Lies in AUTH_REQUEST and SESSION_VERIFIER: who asks whom, with which key, when, in which handshake."""

from __future__ import annotations

from dataclasses import replace

from lab.evil.clinic import Clinic
from lab.evil.lies.of_patients import claiming, handshake, lie, shifted
from lab.evil.misbehaviour import Liar, Misbehaviour, fails
from lab.evil.peer import equations as eq
from lab.evil.peer import wire
from lab.evil.peer.patient import Credentials, PatientLies
from lab.evil.peer.suites import new_signer
from shared.crypto.signatures import Algorithm
from shared.protocol.clock import SECOND
from shared.protocol.doctor_handshake import Standing
from shared.wire.checks import Check


def _cut_tag(frame: bytes) -> bytes:
    request = wire.read(wire.Sealed, frame, wire.AUTH_REQUEST)
    return wire.build(wire.AUTH_REQUEST, wire.encode(request._replace(sealed=request.sealed[:-1])))


def _respelled_time(claims: bytes) -> bytes:
    """The timestamp, which takes 64 bits either way, as a signed integer."""
    return claims[:1] + b"\xd3" + claims[2:]


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
        "name-in-capitals",
        "claims an id with a capital letter",
        fails(Check.PAYLOAD_CANONICAL),
        claiming(patient_id="Mallory"),
    ),
    lie(
        "name-with-a-line-end",
        "claims its id with a line's end behind it",
        fails(Check.PAYLOAD_CANONICAL),
        claiming(patient_id="mallory\n"),
    ),
    lie(
        "name-too-long",
        "claims an id of 65 characters",
        fails(Check.PAYLOAD_CANONICAL),
        claiming(patient_id="m" * 65),
    ),
    lie(
        "time-beyond-time",
        "claims the time 2⁶³",
        fails(Check.PAYLOAD_CANONICAL),
        claiming(timestamp=1 << 63),
    ),
    lie(
        "short-session-key",
        "brings a session key of 31 bytes",
        fails(Check.PAYLOAD_CANONICAL),
        claiming(session_key=bytes(31)),
    ),
    lie(
        "request-false-length",
        "says in its padding that there is more than there is",
        fails(Check.REQUEST_OPENS),
        PatientLies(request_padding=lambda padded: b"\xff\xff\xff\xff" + padded[4:]),
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


ROWS = (*REQUESTS, *VERIFIERS)

"""Doctors, and those who play one, that lie in KEY_EXCHANGE_REPLY and AUTH_RESPONSE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lab.evil.clinic import DAY, Clinic
from lab.evil.misbehaviour import Act, Attack, Liar, Misbehaviour, fails
from lab.evil.peer import equations as eq
from lab.evil.peer import wire
from lab.evil.peer.doctor import DoctorLies
from lab.evil.peer.groups import Epoch
from lab.evil.peer.suites import FFDHE3072, HYBRID, P256, Suite, element, new_signer, prime
from lab.evil.sides import Refusal
from lab.evil.stages import HOME, doctor_ear, receive, visit
from shared.protocol.clock import SECOND
from shared.wire.checks import Check


def handshake(
    lies: Callable[[Clinic, Suite], DoctorLies] | DoctorLies,
) -> Act:
    """A doctor that goes through its handshake with these lies, then sends the group's key."""

    def act(clinic: Clinic, suite: Suite, lie: bool) -> Attack:
        told = (lies(clinic, suite) if callable(lies) else lies) if lie else DoctorLies()
        peer, side = visit(clinic, suite, told)
        mark = len(clinic.effects)
        if receive(peer, side):
            epoch = Epoch.begin(peer.practice.doctor_id, HOME.name, 5, [], [], clinic.random)
            side.take(peer.record(wire.GROUP_KEY, epoch.group_key()))
        return Attack(side, mark, lambda frame: doctor_ear(peer, frame))

    return act


def lie(
    name: str,
    does: str,
    answer: Refusal,
    lies: Callable[[Clinic, Suite], DoctorLies] | DoctorLies,
    suites: tuple[Suite, ...] = (HYBRID, P256),
    liar: Liar = Liar.DOCTOR,
) -> Misbehaviour:
    """A row about a handshake."""
    return Misbehaviour(name, liar, does, answer, handshake(lies), suites)


def _another_signs_prekey(clinic: Clinic, suite: Suite) -> DoctorLies:
    return DoctorLies(prekey_signer=new_signer(suite.algorithm, clinic.random))


def _another_signs(clinic: Clinic, suite: Suite) -> DoctorLies:
    return DoctorLies(signer=new_signer(suite.algorithm, clinic.random))


def _swapped_prekey(clinic: Clinic, suite: Suite) -> DoctorLies:
    other = suite.generate(clinic.random).public
    return DoctorLies(reply=lambda reply: reply._replace(kem_public=other))


def _until(milliseconds: int) -> DoctorLies:
    return DoctorLies(statement=lambda reply: reply._replace(valid_until=reply.valid_until + milliseconds))


def _claiming(**changes: Any) -> DoctorLies:
    return DoctorLies(claims=lambda claims: claims._replace(**changes))


def _bent(kem_public: bytes) -> bytes:
    return kem_public[:-1] + bytes([kem_public[-1] ^ 1])


def _another_time(milliseconds: int) -> DoctorLies:
    return DoctorLies(claims=lambda claims: claims._replace(timestamp=claims.timestamp + milliseconds))


ROWS = (
    lie(
        "impostor-name",
        "answers under another doctor's name",
        fails(Check.DOCTOR_PINNED),
        DoctorLies(statement=lambda reply: reply._replace(doctor_id="another")),
    ),
    lie(
        "forged-prekey",
        "offers a prekey that another key has signed",
        fails(Check.PREKEY_SIGNATURE),
        _another_signs_prekey,
        liar=Liar.STRANGER,
    ),
    lie(
        "swapped-prekey",
        "puts another prekey beside a true signature",
        fails(Check.PREKEY_SIGNATURE),
        _swapped_prekey,
        liar=Liar.MIDDLE,
    ),
    lie(
        "prekey-of-another-suite",
        "offers a prekey that it signed for another suite",
        fails(Check.PREKEY_SIGNATURE),
        DoctorLies(signed_suite=lambda suite: suite ^ 1),
    ),
    lie(
        "prekey-wrong-label",
        "signs its prekey under an envelope's label",
        fails(Check.PREKEY_SIGNATURE),
        DoctorLies(prekey_label=eq.ENVELOPE_SIGNATURE),
    ),
    lie("past-prekey", "offers a prekey of a minute ago", fails(Check.PREKEY_FRESH), _until(-61 * SECOND)),
    lie("future-prekey", "offers a prekey of tomorrow", fails(Check.PREKEY_FRESH), _until(DAY)),
    lie(
        "prekey-no-element",
        "signs a prekey that is no element",
        fails(Check.PREKEY_ELEMENT),
        DoctorLies(statement=lambda reply: reply._replace(kem_public=_bent(reply.kem_public))),
    ),
    lie(
        "prekey-one",
        "signs 1 as its prekey",
        fails(Check.PREKEY_ELEMENT),
        DoctorLies(statement=lambda reply: reply._replace(kem_public=element(1))),
        (FFDHE3072,),
    ),
    lie(
        "prekey-minus-one",
        "signs p − 1 as its prekey",
        fails(Check.PREKEY_ELEMENT),
        DoctorLies(statement=lambda reply: reply._replace(kem_public=element(prime() - 1))),
        (FFDHE3072,),
    ),
    lie(
        "reply-trailing-byte",
        "puts a byte behind its reply",
        fails(Check.PAYLOAD_CANONICAL),
        DoctorLies(reply_frame=lambda f: wire.build(f[1], f[wire.HEADER :] + b"\0")),
    ),
    lie(
        "opcode-of-the-patient",
        "answers with an opcode of the patient's",
        fails(Check.OPCODE_IN_STATE),
        DoctorLies(reply_frame=lambda f: f[:1] + bytes([wire.KEY_EXCHANGE]) + f[2:]),
    ),
    lie(
        "response-before-reply",
        "answers a greeting with an AUTH_RESPONSE",
        fails(Check.OPCODE_IN_STATE),
        DoctorLies(reply_frame=lambda f: f[:1] + bytes([wire.AUTH_RESPONSE]) + f[2:]),
    ),
    lie(
        "oversize-reply",
        "announces 4,097 bytes before it is authentic",
        fails(Check.FRAME_LENGTH),
        DoctorLies(reply_frame=lambda f: wire.header(wire.KEY_EXCHANGE_REPLY, 4097) + f[wire.HEADER :]),
    ),
    lie(
        "response-wrong-key",
        "seals its response under another key",
        fails(Check.RESPONSE_OPENS),
        DoctorLies(response_seal=lambda key: bytes(32)),
    ),
    lie(
        "response-misbinding",
        "responds to another patient's id",
        fails(Check.RESPONSE_PATIENT),
        _claiming(patient_id="bystander"),
    ),
    lie(
        "response-other-nonce",
        "returns another nonce than the request's",
        fails(Check.RESPONSE_NONCE),
        _claiming(patient_nonce=bytes(32)),
    ),
    lie(
        "response-without-key",
        "does not know the session key K_i",
        fails(Check.RESPONSE_CONFIRMS),
        DoctorLies(session_key=lambda key: bytes(32)),
    ),
    lie(
        "response-bad-mac",
        "changes one bit of its proof",
        fails(Check.RESPONSE_CONFIRMS),
        DoctorLies(
            proof=lambda p: p._replace(confirmation=bytes([p.confirmation[0] ^ 1]) + p.confirmation[1:])
        ),
    ),
    lie(
        "response-signed-by-another",
        "lets another key sign its response",
        fails(Check.RESPONSE_SIGNATURE),
        _another_signs,
    ),
    lie(
        "response-wrong-label",
        "signs its response under the label of a request",
        fails(Check.RESPONSE_SIGNATURE),
        DoctorLies(label=eq.AUTH_SIGNATURE),
    ),
    lie(
        "future-response",
        "is 46 s ahead in its response",
        fails(Check.RESPONSE_CLOCK),
        _another_time(46 * SECOND),
    ),
    lie(
        "past-response",
        "is 46 s behind in its response",
        fails(Check.RESPONSE_CLOCK),
        _another_time(-46 * SECOND),
    ),
)

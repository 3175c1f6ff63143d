"""Keys that are none: numbers and points outside their group, and signatures that would need no secret if they were taken."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

from lab.evil.clinic import Clinic
from lab.evil.lies.of_patients import ONCE, lie
from lab.evil.misbehaviour import Misbehaviour, fails
from lab.evil.peer import equations as eq
from lab.evil.peer.patient import Credentials, PatientLies
from lab.evil.peer.suites import (
    FFDHE3072,
    HYBRID,
    SigningPair,
    element,
    prime,
    schnorr_challenge,
)
from shared.wire.checks import Check


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


ROWS = (
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

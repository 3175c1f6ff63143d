"""The keys of a handshake, one equation a function; SPEC.md section "Key schedule" prints the same equations.

M1 … M4 are whole frames. ss_d is the secret encapsulated to the doctor's prekey, ss_p the one to the patient's ephemeral key,
K_i and K_d the two sides' shares. Both KEM secrets and both shares go into the master secret: whoever is to compute it must
hold all four.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.crypto import kdf
from shared.crypto.kdf import Label
from shared.crypto.secret import Secret


def transcript_1(m1: bytes, m2: bytes) -> bytes:
    """th_1 = H(M1 ‖ M2)."""
    return kdf.digest(Label.TRANSCRIPT_1, m1, m2)


def transcript_2(m1: bytes, m2: bytes, m3: bytes, ct_p: bytes) -> bytes:
    """th_2 = H(M1 ‖ M2 ‖ M3 ‖ ct_p)."""
    return kdf.digest(Label.TRANSCRIPT_2, m1, m2, m3, ct_p)


def transcript_3(m1: bytes, m2: bytes, m3: bytes, m4: bytes) -> bytes:
    """th_3 = H(M1 ‖ M2 ‖ M3 ‖ M4)."""
    return kdf.digest(Label.TRANSCRIPT_3, m1, m2, m3, m4)


def key_1(ss_d: bytes, th_1: bytes, ct_d: bytes) -> bytes:
    """k1 = KDF(ss_d, th_1 ‖ ct_d): seals AUTH_REQUEST."""
    return kdf.derive(Label.KEY_1, (ss_d,), (th_1, ct_d))


def alert_key(ss_d: bytes, th_1: bytes, ct_d: bytes) -> bytes:
    """KDF(ss_d, th_1 ‖ ct_d) under a label of its own: seals the one alert that a handshake may end with."""
    return kdf.derive(Label.ALERT_KEY, (ss_d,), (th_1, ct_d))


def auth_hash(th_1: bytes, ct_d: bytes, claims: bytes) -> bytes:
    """H(th_1 ‖ ct_d ‖ A): what Sig_P and the enrolment MAC cover."""
    return kdf.digest(Label.AUTH_HASH, th_1, ct_d, claims)


def key_2(ss_d: bytes, ss_p: bytes, th_2: bytes) -> bytes:
    """k2 = KDF(ss_d ‖ ss_p, th_2): seals AUTH_RESPONSE."""
    return kdf.derive(Label.KEY_2, (ss_d, ss_p), (th_2,))


def response_hash(th_2: bytes, claims: bytes) -> bytes:
    """H(th_2 ‖ B): what the doctor's key confirmation and Sig_D cover."""
    return kdf.digest(Label.RESPONSE_HASH, th_2, claims)


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """Everything that follows from the master secret; the master itself is not kept."""

    k3: bytes
    confirm_doctor: bytes
    confirm_patient: bytes
    to_doctor: bytes
    to_patient: bytes
    contribution: Secret

    def __repr__(self) -> str:
        return "SessionKeys(…)"


def session_keys(ss_d: bytes, ss_p: bytes, k_i: bytes, k_d: bytes, th_2: bytes) -> SessionKeys:
    """master = KDF(ss_d ‖ ss_p ‖ K_i ‖ K_d, th_2), and by label the six keys that come from it."""
    master = kdf.derive(Label.MASTER, (ss_d, ss_p, k_i, k_d), (th_2,))
    # KDF(master) six times over; HKDF's first half is the same in each, so it is done once.
    prk = kdf.extract((master,))
    return SessionKeys(
        k3=kdf.expand(Label.KEY_3, prk),
        confirm_doctor=kdf.expand(Label.KEY_CONFIRM_DOCTOR, prk),
        confirm_patient=kdf.expand(Label.KEY_CONFIRM_PATIENT, prk),
        to_doctor=kdf.expand(Label.RECORD_TO_DOCTOR, prk),
        to_patient=kdf.expand(Label.RECORD_TO_PATIENT, prk),
        contribution=Secret(kdf.expand(Label.CONTRIBUTION, prk)),
    )


def verifier_parts(timestamp: int, th_3: bytes) -> tuple[bytes, bytes]:
    """ts_i' ‖ th_3: what the patient's key confirmation covers."""
    return timestamp.to_bytes(8, "big"), th_3

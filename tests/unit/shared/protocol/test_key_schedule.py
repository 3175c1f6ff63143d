"""The key schedule, equation by equation, against hashlib and hmac alone."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

import pytest

from shared.protocol import key_schedule
from shared.protocol.key_schedule import session_keys

M1, M2, M3, M4, CT = b"m1", b"m2" * 9, b"m3" * 99, b"m4" * 999, b"ct"
SS_D, SS_P, K_I, K_D, TH = (bytes([value]) * 32 for value in range(5))


def joined(*parts: bytes) -> bytes:
    """Each part with its length in front."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def h(label: str, *parts: bytes) -> bytes:
    """H of SPEC.md."""
    return hashlib.sha256(joined(label.encode(), *parts)).digest()


def kdf(label: str, ikm: tuple[bytes, ...], *info: bytes) -> bytes:
    """KDF of SPEC.md, one block."""
    prk = hmac.digest(bytes(32), joined(*ikm), "sha256")
    return hmac.digest(prk, joined(label.encode(), *info) + b"\1", "sha256")


@pytest.mark.parametrize(
    ("computed", "expected"),
    [
        (key_schedule.transcript_1(M1, M2), h("telemed-v1 transcript 1", M1, M2)),
        (key_schedule.transcript_2(M1, M2, M3, CT), h("telemed-v1 transcript 2", M1, M2, M3, CT)),
        (key_schedule.transcript_3(M1, M2, M3, M4), h("telemed-v1 transcript 3", M1, M2, M3, M4)),
        (key_schedule.key_1(SS_D, TH, CT), kdf("telemed-v1 key 1", (SS_D,), TH, CT)),
        (key_schedule.alert_key(SS_D, TH, CT), kdf("telemed-v1 key alert", (SS_D,), TH, CT)),
        (key_schedule.auth_hash(TH, CT, b"A"), h("telemed-v1 hash auth-request", TH, CT, b"A")),
        (key_schedule.key_2(SS_D, SS_P, TH), kdf("telemed-v1 key 2", (SS_D, SS_P), TH)),
        (key_schedule.response_hash(TH, b"B"), h("telemed-v1 hash auth-response", TH, b"B")),
    ],
    ids=["th_1", "th_2", "th_3", "k1", "alert", "auth-hash", "k2", "response-hash"],
)
def test_an_equation_of_the_specification(computed: bytes, expected: bytes) -> None:
    """One each."""
    assert computed == expected


def test_the_six_keys_come_from_the_master_by_label() -> None:
    """The master is made of both KEM secrets and both shares."""
    master = (kdf("telemed-v1 key master", (SS_D, SS_P, K_I, K_D), TH),)
    keys = session_keys(SS_D, SS_P, K_I, K_D, TH)

    assert keys.k3 == kdf("telemed-v1 key 3", master)
    assert keys.confirm_doctor == kdf("telemed-v1 key confirm-doctor", master)
    assert keys.confirm_patient == kdf("telemed-v1 key confirm-patient", master)
    assert keys.to_doctor == kdf("telemed-v1 key record-to-doctor", master)
    assert keys.to_patient == kdf("telemed-v1 key record-to-patient", master)
    assert keys.contribution.reveal() == kdf("telemed-v1 key contribution", master)


Equation = Callable[..., object]


@pytest.mark.parametrize(
    ("equation", "inputs"),
    [
        (key_schedule.transcript_1, (M1, M2)),
        (key_schedule.transcript_2, (M1, M2, M3, CT)),
        (key_schedule.transcript_3, (M1, M2, M3, M4)),
        (key_schedule.key_1, (SS_D, TH, CT)),
        (key_schedule.alert_key, (SS_D, TH, CT)),
        (key_schedule.auth_hash, (TH, CT, b"A")),
        (key_schedule.key_2, (SS_D, SS_P, TH)),
        (key_schedule.response_hash, (TH, b"B")),
        (session_keys, (SS_D, SS_P, K_I, K_D, TH)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_input_matters(equation: Equation, inputs: tuple[bytes, ...]) -> None:
    """Change one, or swap two, and the result is another."""
    results = [equation(*inputs)]
    for place in range(len(inputs)):
        results.append(equation(*(value + b"!" if at == place else value for at, value in enumerate(inputs))))
    results.append(equation(*reversed(inputs)))

    assert all(results[a] != results[b] for a in range(len(results)) for b in range(a))


def test_session_keys_do_not_print_themselves() -> None:
    """Nor does anything that holds them."""
    assert repr(session_keys(SS_D, SS_P, K_I, K_D, TH)) == "SessionKeys(…)"


def test_the_verifier_covers_timestamp_and_transcript() -> None:
    """Eight bytes, big-endian."""
    assert key_schedule.verifier_parts(258, TH) == (bytes(6) + b"\1\2", TH)

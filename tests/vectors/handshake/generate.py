"""Make the handshake vectors: `python -m tests.vectors.handshake.generate` writes one JSON file for each scenario.

Two puppets that hold the right keys talk to each other; one of them is told to make one flaw. `expect` is the check that must refuse
the flawed message, `message` which one that is. A good vector also prints every intermediate value; `check.py`, which shares no
code with the project, must come to the same ones from the private keys and the frames.

The libraries draw the ephemeral keys of an encapsulation themselves, so each run gives other frames: what is committed is what counts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, mlkem

from shared.crypto import elgamal
from shared.crypto.groups import CURVE
from shared.crypto.kdf import Label
from shared.crypto.kem import MLKEM768_SEED_SIZE, KemKey
from shared.crypto.signatures import P256_ORDER, SIGNERS, Algorithm, SigningKey, fingerprint
from shared.crypto.suites import SUITES, Suite, SuiteId
from shared.protocol import key_schedule, rotation
from shared.wire import messages
from shared.wire.framing import HEADER_SIZE
from shared.wire.messages import AuthRequest, AuthResponse, Rotation
from tests.crypto_tools import entropy
from tests.protocol_bench import WALL, Clinic, doctor_keys
from tests.protocol_puppets import PuppetDoctor, PuppetPatient

HERE = Path(__file__).parent
P256 = SUITES[SuiteId.ELGAMAL_P256]
Flaw = Mapping[str, Any]
Keys = Mapping[Algorithm, SigningKey]

SEED = "handshake vectors"
PINNED, NEW, STRANGER = doctor_keys(SEED), doctor_keys("rotated"), doctor_keys("stranger")
ECDSA = Algorithm.ECDSA_P256


def rotated(doctor_id: str = "doctor", signer: Keys = PINNED, former: Keys = PINNED) -> Flaw:
    """A reply under new keys for which the former ones vouch, or somebody else does."""
    statement = rotation.state(doctor_id, 1, WALL, former, NEW).statement
    signatures = rotation.state(doctor_id, 1, WALL, signer, NEW).signatures
    if signer is not former:  # somebody's signatures under true words
        signatures = [
            SIGNERS[algorithm].sign(key, Label.ROTATION_SIGNATURE, statement)
            for algorithm, key in sorted(signer.items())
        ]
    return {"key": NEW[ECDSA], "rotation": Rotation(statement, signatures)}


# Scenario, the flawed message, what the puppet changes, and the check that must notice. All in suite 2.
FLAWS: tuple[tuple[str, str, Flaw, str], ...] = (
    ("reply_of_another_doctor", "M2", {"doctor_id": "another"}, "V-020"),
    ("reply_signature_zero", "M2", {"signature": bytes(64)}, "V-021"),
    ("reply_signature_short", "M2", {"signature": bytes(63)}, "V-021"),
    ("reply_stale", "M2", {"valid_until": WALL - 45_001}, "V-022"),
    ("reply_from_the_future", "M2", {"valid_until": WALL + 45_001}, "V-022"),
    ("reply_prekey_off_the_curve", "M2", {"kem_public": b"\x04" + bytes(63) + b"\x01"}, "V-023"),
    ("reply_prekey_empty", "M2", {"kem_public": b""}, "V-023"),
    (
        "reply_rotated",
        "M2",
        rotated(),
        "rotated",
    ),  # no flaw: these keys are to be pinned, then comes another handshake
    ("reply_rotated_without_a_word", "M2", {"key": NEW[ECDSA]}, "V-021"),
    ("reply_rotation_of_another_doctor", "M2", rotated(doctor_id="another"), "V-024"),
    ("reply_rotation_once_more", "M2", rotated(), "V-025"),
    ("reply_rotation_of_another_key", "M2", rotated(signer=STRANGER, former=STRANGER), "V-026"),
    ("reply_rotation_forged", "M2", rotated(signer=STRANGER), "V-027"),
    ("request_seal_zero", "M3", {"outer": {"sealed": bytes(528)}}, "V-031"),
    ("request_ciphertext_empty", "M3", {"outer": {"kem_ciphertext": b""}}, "V-031"),
    ("request_padding_not_zero", "M3", {"plaintext": bytes(4) + b"\x01" * 508}, "V-031"),
    ("request_to_another_doctor", "M3", {"claims": {"doctor_id": "another"}}, "V-032"),
    ("request_algorithm_of_another_suite", "M3", {"claims": {"algorithm": 2}}, "V-033"),
    ("request_of_an_unknown_id", "M3", {"claims": {"patient_id": "nobody"}}, "V-035"),
    ("request_with_another_key", "M3", {"claims": {"public_key": b"\x04" * 65}}, "V-035"),
    ("request_signature_zero", "M3", {"proof": {"signature": bytes(64)}}, "V-036"),
    ("request_clock_behind", "M3", {"claims": {"timestamp": WALL - 30_001}}, "V-038"),
    ("request_clock_ahead", "M3", {"claims": {"timestamp": WALL + 30_001}}, "V-038"),
    ("response_seal_zero", "M4", {"outer": {"sealed": bytes(528)}}, "V-050"),
    ("response_for_another_patient", "M4", {"claims": {"patient_id": "patient-b"}}, "V-051"),
    ("response_to_another_request", "M4", {"claims": {"patient_nonce": bytes(32)}}, "V-052"),
    ("response_confirmation_zero", "M4", {"proof": {"confirmation": bytes(32)}}, "V-053"),
    ("response_signature_zero", "M4", {"proof": {"signature": bytes(64)}}, "V-054"),
    ("response_clock_behind", "M4", {"claims": {"timestamp": WALL - 45_001}}, "V-055"),
    ("verifier_sealed_with_another_key", "M5", {"key": b"k" * 32}, "V-060"),
    ("verifier_confirmation_zero", "M5", {"confirmation": bytes(32)}, "V-061"),
    ("verifier_clock_ahead", "M5", {"timestamp": WALL + 30_001}, "V-062"),
)


# By which rotation the patient has got the keys that it has pinned, where it was not the invitation that brought them.
PINNED_SEQUENCE = {"reply_rotation_once_more": 1}


def private_key(suite: Suite, name: str) -> bytes:
    """A KEM private key's bytes: ML-KEM seed (64) where there is one, then the scalar (32) or the exponent (35)."""
    random = entropy(f"handshake vectors {suite.name} {name}")
    if suite.id is SuiteId.ELGAMAL_FFDHE3072:
        drawn = random(elgamal.EXPONENT_SIZE)
        return bytes([drawn[0] | 0x80]) + drawn[1:]
    scalar = (int.from_bytes(random(40), "big") % (P256_ORDER - 1) + 1).to_bytes(32, "big")
    return scalar if suite.id is SuiteId.ELGAMAL_P256 else random(MLKEM768_SEED_SIZE) + scalar


def kem_key(suite: Suite, data: bytes) -> KemKey:
    """Read what `private_key` wrote."""
    if suite.id is SuiteId.ELGAMAL_FFDHE3072:
        exponent = elgamal.random_exponent(lambda size: data)
        return KemKey(exponent, elgamal.power_of_generator(exponent))
    curve = ec.derive_private_key(int.from_bytes(data[-32:], "big"), CURVE)
    numbers = curve.public_key().public_numbers()
    point = b"\x04" + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
    if suite.id is SuiteId.ELGAMAL_P256:
        return KemKey(curve, point)
    lattice = mlkem.MLKEM768PrivateKey.from_seed_bytes(data[:MLKEM768_SEED_SIZE])
    return KemKey((lattice, curve), lattice.public_key().public_bytes_raw() + point)


def session(suite: Suite, message: str = "", flaw: Flaw | None = None) -> dict[str, Any]:
    """One handshake of two puppets; the flaw goes into one message, and nothing follows that one."""
    clinic = Clinic(SEED)
    device = clinic.patient("patient-a", suite)
    patient, doctor = PuppetPatient(device, clinic.clock, clinic.random), PuppetDoctor(clinic, device)
    ephemeral, prekey = private_key(suite, "ephemeral"), private_key(suite, "prekey")
    patient.kem_key, doctor.prekey = kem_key(suite, ephemeral), kem_key(suite, prekey)
    flaws = {message: dict(flaw or {})}
    frames = {"M1": patient.key_exchange()}
    frames["M2"] = doctor.reply(frames["M1"], **flaws.get("M2", {}))
    if message != "M2":
        frames["M3"] = patient.auth_request(frames["M2"], **flaws.get("M3", {}))
    if message not in ("M2", "M3"):
        frames["M4"] = doctor.response(frames["M3"], **flaws.get("M4", {}))
    if message not in ("M2", "M3", "M4"):
        frames["M5"] = patient.session_verifier(frames["M4"], **flaws.get("M5", {}))
    vector: dict[str, Any] = {
        "suite": suite.name,
        "now": WALL,
        "doctor_id": clinic.practice.doctor_id,
        "patient_id": device.patient_id,
        "doctor_signing_public": doctor.key.public,
        "patient_signing_public": device.identity.key.public,
        "prekey_private": prekey,
        "prekey_public": doctor.prekey.public,
        "ephemeral_private": ephemeral,
        "ephemeral_public": patient.kem_key.public,
        **frames,
    }
    if "M4" in frames:
        vector |= {"ss_d": doctor.ss_d, "K_i": patient.session_key}
    return vector


def intermediates(suite: Suite, v: Mapping[str, Any]) -> dict[str, bytes]:
    """Every value of SPEC.md section 6, by the project's code."""
    m1, m2, m3, m4 = (v[name] for name in ("M1", "M2", "M3", "M4"))
    ct_d = messages.decode(AuthRequest, m3[HEADER_SIZE:]).kem_ciphertext
    ct_p = messages.decode(AuthResponse, m4[HEADER_SIZE:]).kem_ciphertext
    ss_d = suite.kem.decapsulate(kem_key(suite, v["prekey_private"]), ct_d)
    ss_p = suite.kem.decapsulate(kem_key(suite, v["ephemeral_private"]), ct_p)
    th_1 = key_schedule.transcript_1(m1, m2)
    th_2 = key_schedule.transcript_2(m1, m2, m3, ct_p)
    result = {"th_1": th_1, "ct_d": ct_d, "ss_d": ss_d, "k1": key_schedule.key_1(ss_d, th_1, ct_d)}
    result |= {
        "alert_key": key_schedule.alert_key(ss_d, th_1, ct_d),
        "th_2": th_2,
        "ct_p": ct_p,
        "ss_p": ss_p,
    }
    result |= {"k2": key_schedule.key_2(ss_d, ss_p, th_2), "th_3": key_schedule.transcript_3(m1, m2, m3, m4)}
    return result


def hexed(vector: Mapping[str, Any]) -> dict[str, Any]:
    """Bytes as hexadecimal."""
    return {key: value.hex() if isinstance(value, bytes) else value for key, value in vector.items()}


def write(name: str, vector: Mapping[str, Any]) -> None:
    """One file."""
    (HERE / f"{name}.json").write_text(json.dumps(hexed(vector), indent=1, ensure_ascii=False) + "\n")


def main() -> None:
    """Write them all."""
    for suite in SUITES.values():
        vector = session(suite)
        vector |= intermediates(suite, vector)
        signature_key = fingerprint(suite.signer.algorithm, vector["doctor_signing_public"])
        write(
            f"good_{suite.name.replace('-', '_')}",
            {"expect": "success", "message": "all", "doctor_fingerprint": signature_key, **vector},
        )
    for name, message, flaw, expect in FLAWS:
        pinned = {"pinned_sequence": PINNED_SEQUENCE[name]} if name in PINNED_SEQUENCE else {}
        write(name, {"expect": expect, "message": message, **pinned, **session(P256, message, flaw)})


if __name__ == "__main__":
    main()

"""Rotating the doctor's long-term keys: the statement by which the former keys name their successors, made and judged.

Law: a patient takes a new key from nobody but the holder of every key that it has pinned. A rotation names the former keys by
their fingerprints, so it is good for who has pinned just those; and the new ones as a whole, so no part of it can be changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from shared.crypto.kdf import Label
from shared.crypto.signatures import SIGNERS, Algorithm, SigningKey, fingerprint
from shared.errors import InvalidElement
from shared.wire import messages
from shared.wire.checks import Check, Checklist
from shared.wire.messages import KeySuccession, Rotation, RotationStatement


@dataclass(frozen=True, slots=True)
class Pins:
    """What a patient has pinned of its doctor. `sequence`: of the rotation that brought these keys; 0: the invitation did."""

    doctor_id: str
    keys: Mapping[Algorithm, bytes]
    sequence: int


@dataclass(frozen=True, slots=True)
class Successors:
    """The keys to pin in the place of those that are. `time`: the former ones have signed nothing since then, in milliseconds."""

    sequence: int
    time: int
    keys: Mapping[Algorithm, bytes]


def state(
    doctor_id: str,
    sequence: int,
    time: int,
    former: Mapping[Algorithm, SigningKey],
    new: Mapping[Algorithm, SigningKey],
) -> Rotation:
    """Doctor: make the statement, and sign it with each of the former keys. Both have keys of the same algorithms."""
    keys = [
        KeySuccession(algorithm, fingerprint(algorithm, key.public), new[algorithm].public)
        for algorithm, key in sorted(former.items())
    ]
    statement = messages.encode(RotationStatement(doctor_id, sequence, time, keys))
    signatures = [
        SIGNERS[algorithm].sign(key, Label.ROTATION_SIGNATURE, statement)
        for algorithm, key in sorted(former.items())
    ]
    return Rotation(statement, signatures)


def judge(rotation: Rotation, pins: Pins, checks: Checklist) -> Successors | None:
    """Patient: what to pin from now on; None where that is pinned already, and nothing else is looked at.

    Raises:
        PeerError: V-004, V-024 to V-027.
    """
    statement = messages.decode(RotationStatement, rotation.statement)
    checks.require(
        statement.doctor_id == pins.doctor_id, Check.ROTATION_DOCTOR, f"rotation of {statement.doctor_id}"
    )  # V-024
    offered = {key.algorithm: key.public for key in statement.keys}
    if all(offered.get(algorithm) == public for algorithm, public in pins.keys.items()):
        return None
    higher = statement.sequence > pins.sequence
    detail = f"rotation {statement.sequence}, the keys of {pins.sequence} are pinned"
    checks.require(higher, Check.ROTATION_HIGHER, detail)  # V-025
    former = {key.algorithm: key.former for key in statement.keys}
    with checks.guard(Check.ROTATION_PINNED, f"rotation {statement.sequence}"):  # V-026
        for algorithm, public in pins.keys.items():
            if former.get(algorithm) != fingerprint(algorithm, public):
                raise InvalidElement(f"the pinned {algorithm.name} key has no successor in it")
            SIGNERS[algorithm].check_public(offered[algorithm])
    signatures = dict(zip((key.algorithm for key in statement.keys), rotation.signatures, strict=False))
    with checks.guard(Check.ROTATION_SIGNED, f"rotation {statement.sequence}"):  # V-027
        for algorithm, public in pins.keys.items():
            signature = signatures.get(algorithm, b"")
            SIGNERS[algorithm].verify(public, Label.ROTATION_SIGNATURE, signature, rotation.statement)
    successors = {algorithm: offered[algorithm] for algorithm in pins.keys}
    return Successors(statement.sequence, statement.time, successors)

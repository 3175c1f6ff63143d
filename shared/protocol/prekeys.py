"""Prekeys: ephemeral KEM keys that the doctor signs once and offers to everyone for a few seconds.

A prekey is offered for at most 5 s and erased 16 s after its first offer; forward secrecy of a handshake begins at
the erasure. Its valid_until, 15 s after the first offer, is signed, so a patient refuses an old one (V-022).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from shared.crypto.kdf import Label
from shared.crypto.kem import KemKey
from shared.crypto.signatures import Algorithm, SigningKey
from shared.crypto.suites import SUITES, Suite, SuiteId
from shared.protocol.clock import SECOND, Instant
from shared.wire.framing import VERSION

OFFERED_FOR = 5 * SECOND
VALID_FOR = 15 * SECOND
HELD_FOR = 16 * SECOND


def prekey_statement(
    doctor_id: str, suite: SuiteId, kem_public: bytes, valid_until: int
) -> tuple[bytes, ...]:
    """What the doctor signs: (version, doctor_id, suite, kem_public_d, valid_until)."""
    return (
        bytes([VERSION]),
        doctor_id.encode(),
        bytes([suite]),
        kem_public,
        valid_until.to_bytes(8, "big"),
    )


class Prekey:
    """One signed ephemeral key. `key` is None once it has been erased."""

    __slots__ = ("_offered", "key", "public", "signature", "signer", "suite", "valid_until")

    def __init__(
        self,
        suite: Suite,
        key: KemKey,
        valid_until: int,
        signature: bytes,
        offered: int,
        signer: SigningKey,
    ) -> None:
        self.suite = suite
        self.signer = signer
        self.key: KemKey | None = key
        self.public = key.public
        self.valid_until = valid_until
        self.signature = signature
        self._offered = offered

    def offerable(self, now: Instant) -> bool:
        """Whether it may still be offered: it is young, and the wall clock has not been set since it was made.

        Its valid_until would be wrong by as much: patients read the doctor's clock from it, and would refuse for five seconds
        (V-022) what a step of the clock has just put right.
        """
        age = now.elapsed - self._offered
        steady = abs(now.wall - (self.valid_until - VALID_FOR + age)) < SECOND
        return self.key is not None and age < OFFERED_FOR and steady

    def held(self, now: Instant) -> KemKey | None:
        """The private key while it lasts; erases it when its time is over."""
        if self.key is not None and now.elapsed - self._offered >= HELD_FOR:
            # CPython frees without overwriting: unreachable is the most that can be had here.
            self.key = None
        return self.key


class PrekeyRing:
    """The doctor's current prekey of each suite, and those that wait for their erasure."""

    __slots__ = ("_current", "_doctor_id", "_held", "_random", "_signing_keys")

    def __init__(
        self, doctor_id: str, signing_keys: Mapping[Algorithm, SigningKey], random: Callable[[int], bytes]
    ) -> None:
        self._doctor_id = doctor_id
        self._signing_keys = signing_keys
        self._random = random
        self._current: dict[SuiteId, Prekey] = {}
        self._held: list[Prekey] = []

    def offer(self, suite_id: SuiteId, now: Instant) -> Prekey:
        """The prekey to put into a KEY_EXCHANGE_REPLY now; signs a new one where the last is too old."""
        current, suite = self._current.get(suite_id), SUITES[suite_id]
        signer = self._signing_keys[suite.signer.algorithm]  # another one after a rotation
        if current is None or current.signer is not signer or not current.offerable(now):
            current = self._sign_new(suite, signer, now)
            self._current[suite_id] = current
            self._held.append(current)
        return current

    def erase_expired(self, now: Instant) -> None:
        """Erase what has been held for its time. The shell calls this every second."""
        self._held = [prekey for prekey in self._held if prekey.held(now) is not None]

    def _sign_new(self, suite: Suite, signer: SigningKey, now: Instant) -> Prekey:
        key = suite.kem.generate(self._random)
        valid_until = now.wall + VALID_FOR
        statement = prekey_statement(self._doctor_id, suite.id, key.public, valid_until)
        signature = suite.signer.sign(signer, Label.PREKEY_SIGNATURE, *statement)
        return Prekey(suite, key, valid_until, signature, now.elapsed, signer)

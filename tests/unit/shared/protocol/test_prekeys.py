"""Prekeys: offered for 5 s, valid for 15 s, erased after 16 s."""

from __future__ import annotations

import pytest

from shared.crypto.kdf import Label
from shared.crypto.signatures import SIGNERS, Algorithm
from shared.crypto.suites import SUITES, Suite, SuiteId
from shared.protocol.clock import Instant
from shared.protocol.prekeys import PrekeyRing, prekey_statement
from tests.crypto_tools import entropy
from tests.protocol_bench import DOCTOR, WALL

KEYS = {algorithm: SIGNERS[algorithm].generate(entropy("prekeys")) for algorithm in Algorithm}
SUITE = SuiteId.ELGAMAL_P256


def ring() -> PrekeyRing:
    """A doctor's prekeys, none made yet."""
    return PrekeyRing(DOCTOR, KEYS, entropy("ring"))


def at(elapsed: int) -> Instant:
    """A moment after the first."""
    return Instant(WALL + elapsed, elapsed)


def test_a_prekey_is_offered_for_five_seconds() -> None:
    """One signature serves every patient of these seconds."""
    prekeys = ring()
    first = prekeys.offer(SUITE, at(0))

    assert prekeys.offer(SUITE, at(4_999)) is first
    assert prekeys.offer(SUITE, at(5_000)) is not first


@pytest.mark.parametrize("jump", [-86_400_000, -1_000, 1_000, 86_400_000])
def test_a_prekey_of_a_clock_that_was_set_since_is_not_offered(jump: int) -> None:
    """Its valid_until is that of the clock before; it is held on for those whom it was offered to."""
    prekeys = ring()
    first = prekeys.offer(SUITE, at(0))

    second = prekeys.offer(SUITE, Instant(WALL + 100 + jump, 100))

    assert second is not first
    assert second.valid_until == WALL + 100 + jump + 15_000
    assert first.held(at(100)) is not None
    assert prekeys.offer(SUITE, Instant(WALL + 1_099 + jump, 100)) is second  # a clock that is slewed


def test_a_prekey_is_held_for_sixteen_seconds() -> None:
    """Longer than the last patient's handshake may take after the last offer; then it is gone for good."""
    prekey = ring().offer(SUITE, at(0))

    assert prekey.held(at(15_999)) is not None
    assert prekey.held(at(16_000)) is None
    assert prekey.key is None
    assert prekey.held(at(0)) is None


def test_a_prekey_that_was_erased_is_not_offered_again() -> None:
    """Even if the clock said it were young enough."""
    prekeys = ring()
    first = prekeys.offer(SUITE, at(0))
    first.held(at(16_000))

    assert prekeys.offer(SUITE, at(0)) is not first


@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.name)
def test_a_prekey_is_signed_and_valid_for_fifteen_seconds(suite: Suite) -> None:
    """The signature covers version, doctor, suite, key and end of validity."""
    prekey = ring().offer(suite.id, at(70))

    assert prekey.valid_until == WALL + 70 + 15_000
    statement = prekey_statement(DOCTOR, prekey.suite.id, prekey.public, prekey.valid_until)
    assert statement == (
        b"\x01",
        b"doctor",
        bytes([prekey.suite.id]),
        prekey.public,
        prekey.valid_until.to_bytes(8, "big"),
    )
    signer = prekey.suite.signer
    signer.verify(KEYS[signer.algorithm].public, Label.PREKEY_SIGNATURE, prekey.signature, *statement)


def test_erasure_reaches_prekeys_that_nobody_asks_for() -> None:
    """The shell's timer erases them; the ring keeps no more than those of sixteen seconds."""
    prekeys = ring()
    made = [prekeys.offer(SUITE, at(second * 1_000)) for second in range(0, 60, 5)]

    prekeys.erase_expired(at(60_000))

    assert [prekey.key is None for prekey in made] == [True] * 9 + [False] * 3
    assert len(prekeys._held) == 3


def test_each_suite_has_a_prekey_of_its_own() -> None:
    """A key of one group is never offered for another."""
    prekeys = ring()

    offered = {suite: prekeys.offer(suite, at(0)) for suite in SuiteId}

    assert [len(offered[suite].public) for suite in SuiteId] == [384, 65, 1249]

"""The registry of suites."""

from __future__ import annotations

import pytest

from shared.crypto.kem import FFDHE3072, P256, P256_MLKEM768
from shared.crypto.signatures import ECDSA_P256, SCHNORR_FFDHE3072
from shared.crypto.suites import DEFAULT_SUITE, SUITES, Suite, SuiteId, suite_by_name
from shared.errors import UserError


def test_the_table() -> None:
    """Number, name, mechanism, signature and padding of every suite."""
    rows = [(s.id, s.name, s.kem, s.signer, s.handshake_padding) for s in SUITES.values()]

    assert rows == [
        (1, "elgamal-ffdhe3072", FFDHE3072, SCHNORR_FFDHE3072, 2048),
        (2, "elgamal-p256", P256, ECDSA_P256, 512),
        (3, "elgamal-p256-mlkem768", P256_MLKEM768, ECDSA_P256, 512),
    ]
    assert list(SUITES) == list(SuiteId)


def test_the_default_is_the_hybrid() -> None:
    """Recorded traffic stays closed to a quantum computer."""
    assert DEFAULT_SUITE.id is SuiteId.ELGAMAL_P256_MLKEM768


@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.name)
def test_a_suite_is_found_by_its_name(suite: Suite) -> None:
    """Names come from configuration files."""
    assert suite_by_name(suite.name) is suite


def test_an_unknown_name_is_answered_with_the_names_there_are() -> None:
    """The message is what the user reads."""
    with pytest.raises(UserError) as caught:
        suite_by_name("rsa")

    assert str(caught.value) == (
        "there is no suite 'rsa'; choose one of: elgamal-ffdhe3072, elgamal-p256, elgamal-p256-mlkem768"
    )

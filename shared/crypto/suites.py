"""The suites: which encryption and which signature go together. One row each; the first message names one by its number.

Law of this module: a suite is data. Nothing is negotiated: a side that does not allow the suite it is offered refuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType
from typing import Final

from shared.crypto.kem import FFDHE3072, P256, P256_MLKEM768, Kem
from shared.crypto.signatures import ECDSA_P256, SCHNORR_FFDHE3072, Signer
from shared.errors import UserError


class SuiteId(IntEnum):
    """The suites' numbers on the wire."""

    ELGAMAL_FFDHE3072 = 1
    ELGAMAL_P256 = 2
    ELGAMAL_P256_MLKEM768 = 3


@dataclass(frozen=True, slots=True)
class Suite:
    """A KEM and a signer, and the size in bytes to which every sealed handshake plaintext is padded."""

    id: SuiteId
    name: str
    kem: Kem
    signer: Signer
    handshake_padding: int


SUITES: Final[Mapping[SuiteId, Suite]] = MappingProxyType(
    {
        suite.id: suite
        for suite in (
            # The elements and the signature of ffdhe3072 are larger, so its one fixed size is too.
            Suite(SuiteId.ELGAMAL_FFDHE3072, "elgamal-ffdhe3072", FFDHE3072, SCHNORR_FFDHE3072, 2048),
            Suite(SuiteId.ELGAMAL_P256, "elgamal-p256", P256, ECDSA_P256, 512),
            Suite(SuiteId.ELGAMAL_P256_MLKEM768, "elgamal-p256-mlkem768", P256_MLKEM768, ECDSA_P256, 512),
        )
    }
)

DEFAULT_SUITE: Final = SUITES[SuiteId.ELGAMAL_P256_MLKEM768]


def suite_by_name(name: str) -> Suite:
    """Return the suite called `name`. Raises UserError, which lists the names there are."""
    for suite in SUITES.values():
        if suite.name == name:
            return suite
    names = ", ".join(suite.name for suite in SUITES.values())
    raise UserError(f"there is no suite {name!r}; choose one of: {names}")

"""Wycheproof: HKDF-SHA-256 through the two functions that `derive` is made of."""

from __future__ import annotations

from shared.crypto.kdf import hkdf_expand, hkdf_extract
from shared.errors import LocalError
from tests.vectors.wycheproof import Case, select, wrong_verdicts


def derives(case: Case) -> bool:
    """Derive as `derive` does, without label and framing."""
    try:
        okm = hkdf_expand(
            hkdf_extract(case.hex("salt"), case.hex("ikm")), case.hex("info"), case.number("size")
        )
    except LocalError:
        return False
    assert okm == case.hex("okm"), case.id
    return True


def test_hkdf_sha256() -> None:
    """All 86 cases."""
    cases = select("Protocol/wycheproof/hkdf_sha256_test.json", 86)

    assert {case.result for case in cases} == {"valid", "invalid"}
    assert wrong_verdicts(cases, derives) == []

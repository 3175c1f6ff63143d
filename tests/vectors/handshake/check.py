"""Check the good handshake vectors without any of the project's code: hashlib, hmac, cryptography, and plain pow.

From the private keys and the frames it computes the whole key schedule of SPEC.md section 6, opens all three sealed messages and
verifies both MACs. `python tests/vectors/handshake/check.py` prints a line for each vector and exits 1 if one is wrong.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import sys
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec, mlkem
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HERE = Path(__file__).parent
CURVE = ec.SECP256R1()
# RFC 7919 appendix A.2, with e from its series.
_term = _e = 1 << 3006
for _n in range(1, 600):
    _term //= _n
    _e += _term
P = 2**3072 - 2**3008 + ((_e >> 64) + 2625351) * 2**64 - 1


def join(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def h(label: str, *parts: bytes) -> bytes:
    return hashlib.sha256(join(f"telemed-v1 {label}".encode(), *parts)).digest()


def mac(label: str, key: bytes, *parts: bytes) -> bytes:
    return hmac.digest(key, join(f"telemed-v1 {label}".encode(), *parts), "sha256")


def hkdf(ikm: bytes, info: bytes) -> bytes:
    return hmac.digest(hmac.digest(bytes(32), ikm, "sha256"), info + b"\1", "sha256")


def kdf(label: str, ikm: tuple[bytes, ...], *info: bytes) -> bytes:
    return hkdf(join(*ikm), join(f"telemed-v1 {label}".encode(), *info))


def unpack(data: bytes) -> list[Any]:
    """Enough MessagePack for these messages: one array of integers, byte strings, strings and nil."""
    items: list[Any] = []
    at = 1
    assert data[0] & 0xF0 == 0x90, "not a short array"
    while at < len(data):
        tag = data[at]
        at += 1
        if tag < 0x80:
            items.append(tag)
        elif tag == 0xC0:
            items.append(None)
        elif tag in (0xCC, 0xCD, 0xCE, 0xCF):
            size = 1 << (tag - 0xCC)
            items.append(int.from_bytes(data[at : at + size], "big"))
            at += size
        else:
            if 0xA0 <= tag < 0xC0:
                width, size = 0, tag & 0x1F
            else:
                width = {0xC4: 1, 0xC5: 2, 0xD9: 1}[tag]
                size = int.from_bytes(data[at : at + width], "big")
            items.append(data[at + width : at + width + size])
            at += width + size
    assert len(items) == data[0] & 0x0F, "the array has another length"
    return items


def decapsulate_p256(private: bytes, public: bytes, ct: bytes) -> bytes:
    key = ec.derive_private_key(int.from_bytes(private, "big"), CURVE)
    dh = key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(CURVE, ct))
    prefix = b"HPKE-v1" + b"KEM" + b"\x00\x10"
    prk = hmac.digest(bytes(32), prefix + b"eae_prk" + dh, "sha256")
    return hmac.digest(prk, b"\x00\x20" + prefix + b"shared_secret" + ct + public + b"\1", "sha256")


def decapsulate(suite: str, private: bytes, public: bytes, ct: bytes) -> bytes:
    if suite == "elgamal-ffdhe3072":
        z = pow(int.from_bytes(ct, "big"), int.from_bytes(private, "big"), P).to_bytes(384, "big")
        return kdf("kem ffdhe3072", (z,), ct, public)
    if suite == "elgamal-p256":
        return decapsulate_p256(private, public, ct)
    lattice = mlkem.MLKEM768PrivateKey.from_seed_bytes(private[:64]).decapsulate(ct[:1088])
    curve = decapsulate_p256(private[64:], public[1184:], ct[1088:])
    parts = (ct[:1088], ct[1088:], public[:1184], public[1184:])
    return kdf("kem p256-mlkem768", (lattice, curve), *parts)


def opened(key: bytes, frame: bytes, sealed: bytes) -> list[Any]:
    """Open with nonce 0 and the frame's header, take the padding off, read the array."""
    padded = AESGCM(key).decrypt(bytes(12), sealed, frame[:6])
    size = int.from_bytes(padded[:4], "big")
    assert not any(padded[4 + size :]), "the padding is not zero"
    return unpack(padded[4 : 4 + size])


def check(v: dict[str, Any]) -> None:
    """Raise AssertionError, or InvalidTag, where a value is not what the vector says."""
    m1, m2, m3, m4, m5 = (v[name] for name in ("M1", "M2", "M3", "M4", "M5"))
    ct_d, sealed_3 = unpack(m3[6:])
    ct_p, sealed_4 = unpack(m4[6:])
    ss_d = decapsulate(v["suite"], v["prekey_private"], v["prekey_public"], ct_d)
    ss_p = decapsulate(v["suite"], v["ephemeral_private"], v["ephemeral_public"], ct_p)
    th_1 = h("transcript 1", m1, m2)
    th_2 = h("transcript 2", m1, m2, m3, ct_p)
    th_3 = h("transcript 3", m1, m2, m3, m4)
    k1, k2 = kdf("key 1", (ss_d,), th_1, ct_d), kdf("key 2", (ss_d, ss_p), th_2)
    a = unpack(opened(k1, m3, sealed_3)[0])
    claims_b, confirmation, _ = opened(k2, m4, sealed_4)
    b = unpack(claims_b)
    master = (kdf("key master", (ss_d, ss_p, a[6], b[4]), th_2),)
    timestamp, confirmed = opened(kdf("key 3", master), m5, m5[6:])
    computed = {"th_1": th_1, "ct_d": ct_d, "ss_d": ss_d, "k1": k1, "th_2": th_2, "ct_p": ct_p, "ss_p": ss_p}
    computed |= {"k2": k2, "th_3": th_3, "alert_key": kdf("key alert", (ss_d,), th_1, ct_d), "K_i": a[6]}
    for name, value in computed.items():
        assert v[name] == value, f"{name} is another"
    assert (a[2].decode(), a[3].decode()) == (v["doctor_id"], v["patient_id"]), "other names in A"
    assert b[2] == a[1], "B returns another nonce"
    h_b = h("hash auth-response", th_2, claims_b)
    assert confirmation == mac("mac confirm-doctor", kdf("key confirm-doctor", master), h_b), "MAC_D"
    covered = (timestamp.to_bytes(8, "big"), th_3)
    assert confirmed == mac("mac confirm-patient", kdf("key confirm-patient", master), *covered), "MAC_P"


def load(path: Path) -> dict[str, Any]:
    """A vector, its hexadecimal values as bytes."""
    texts = {"suite", "expect", "message", "doctor_id", "patient_id", "doctor_fingerprint"}
    read = json.loads(path.read_text())
    return {
        key: bytes.fromhex(value) if isinstance(value, str) and key not in texts else value
        for key, value in read.items()
    }


def main() -> int:
    """Check every good vector."""
    wrong = 0
    for path in sorted(HERE.glob("good_*.json")):
        try:
            check(load(path))
        except (AssertionError, InvalidTag) as error:
            wrong += 1
            print(f"{path.name}: {type(error).__name__} {error}")
        else:
            print(f"{path.name}: ok")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())

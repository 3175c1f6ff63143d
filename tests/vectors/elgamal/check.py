"""Check the ElGamal vectors without any of the project's code: plain pow, hashlib, hmac. Slow and leaky, on purpose.

`python tests/vectors/elgamal/check.py` prints a line for each vector and exits 1 if one is wrong.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import sys
from pathlib import Path
from typing import Any

# RFC 7919 appendix A.2, with e from its series.
_term = _e = 1 << 3006
for _n in range(1, 600):
    _term //= _n
    _e += _term
p = 2**3072 - 2**3008 + ((_e >> 64) + 2625351) * 2**64 - 1
q = (p - 1) // 2


def join(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def hkdf(ikm: bytes, info: bytes, size: int) -> bytes:
    prk, block, out = hmac.new(bytes(32), ikm, "sha256").digest(), b"", b""
    for i in range(1, 10):
        block = hmac.new(prk, block + info + bytes([i]), "sha256").digest()
        out += block
    return out[:size]


def in_subgroup(value: int) -> bool:
    return 1 < value < p - 1 and pow(value, q, p) == 1


def decapsulate(v: dict[str, Any]) -> str:
    x, c, public = int(v["x"], 16), bytes.fromhex(v["ciphertext"]), bytes.fromhex(v["public"])
    assert pow(2, x, p) == int(v["public"], 16), "the public element is not g^x"
    if len(c) != 384:
        return "length"
    if not in_subgroup(int.from_bytes(c, "big")):
        return "element"
    z = pow(int.from_bytes(c, "big"), x, p).to_bytes(384, "big")
    assert z.hex() == v["z"], "z differs"
    assert hmac.new(b"", join(z), "sha256").hexdigest() == v["prk"], "prk differs"
    secret = hkdf(join(z), join(b"telemed-v1 kem ffdhe3072", c, public), 32).hex()
    assert secret == v["derived"], "the derived secret differs"
    return "success" if secret == v["secret"] else "secret"


def verify(v: dict[str, Any]) -> str:
    public, signature = bytes.fromhex(v["public"]), bytes.fromhex(v["signature"])
    message = join(v["label"].encode(), *[bytes.fromhex(part) for part in v["parts"]])
    if len(public) != 384 or len(signature) != 116:
        return "length"
    y, e, s = int.from_bytes(public, "big"), signature[:32], int.from_bytes(signature[32:], "big")
    if not in_subgroup(y):
        return "element"
    r = (pow(2, s, p) * pow(y, int.from_bytes(e, "big"), p) % p).to_bytes(384, "big")
    if hashlib.sha256(join(b"telemed-v1 schnorr challenge", r, public, message)).digest() != e:
        return "challenge"
    if "k" in v:
        info = join(b"telemed-v1 schnorr nonce", public, message)
        k = (
            int.from_bytes(hkdf(join(bytes.fromhex(v["x"]), bytes.fromhex(v["hedge"])), info, 84), "big")
            | 1 << 671
        )
        assert k == int(v["k"], 16), "k differs"
        assert pow(2, k, p).to_bytes(384, "big").hex() == v["r"] == r.hex(), "r differs"
        assert s == k - int.from_bytes(e, "big") * int(v["x"], 16), "s differs"
    return "success"


def outcome(v: dict[str, Any]) -> str:
    """Return the layer that stops this vector, or success. Raises AssertionError if an intermediate value differs."""
    return {"decapsulate": decapsulate, "verify": verify}[v["operation"]](v)


if __name__ == "__main__":
    wrong = 0
    for path in sorted(Path(__file__).parent.glob("*.json")):
        vector = json.loads(path.read_text())
        found = outcome(vector)
        wrong += found != vector["expect"]
        print("ok  " if found == vector["expect"] else "BAD ", path.stem, found)
    sys.exit(wrong > 0)

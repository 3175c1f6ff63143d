"""Make the ElGamal vectors: `python -m tests.vectors.elgamal.generate` writes one JSON file for each scenario.

There are no public vectors for hashed ElGamal and short-exponent Schnorr signatures in ffdhe3072, so these are ours. They are made
with the code under test and therefore prove nothing alone: `check.py`, which shares no code with it, must come to the same
values and verdicts from the inputs.

Each scenario has one flaw at most. `expect` names the layer that must notice it:

- success     nothing is wrong
- length      a value does not have its one length
- element     a group element is out of range or outside the subgroup
- secret      decapsulation works and gives a secret that opens nothing
- challenge   the signature's equation does not hold
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from Crypto.Math.Numbers import Integer

from shared.crypto import elgamal
from shared.crypto.groups import P, encode_element
from shared.crypto.kdf import Label, derive, frame, hkdf_extract
from shared.crypto.signatures import SCHNORR_FFDHE3072, derive_nonce
from tests.crypto_tools import flip_bit

Vector = dict[str, str | list[str]]

HERE = Path(__file__).parent
LABEL = Label.AUTH_SIGNATURE
PARTS = (b"transcript", b"", b"patient-0")


def seeded(*parts: str) -> Callable[[int], bytes]:
    """Return the entropy of a scenario: always the same bytes for the same name."""
    return lambda size: hashlib.shake_256(" ".join(parts).encode()).digest(size)


def decapsulation(about: str, expect: str, ciphertext: bytes, secret: bytes, key: str = "alice") -> Vector:
    """Describe one decapsulation; `secret` is what the maker of the ciphertext holds."""
    x, public = elgamal.generate(seeded(key))
    vector: Vector = {
        "about": about,
        "operation": "decapsulate",
        "expect": expect,
        "x": x.to_bytes(35).hex(),
        "public": public.hex(),
        "ciphertext": ciphertext.hex(),
        "secret": secret.hex(),
    }
    if expect in ("success", "secret"):
        z = pow(Integer(int.from_bytes(ciphertext, "big")), x, Integer(P)).to_bytes(384)
        vector["z"] = z.hex()
        vector["prk"] = hkdf_extract(b"", frame(z)).hex()
        vector["derived"] = derive(Label.FF_KEM, (z,), (ciphertext, public)).hex()
    return vector


def encapsulated(key: str, *names: str) -> tuple[bytes, bytes]:
    """Encapsulate to a named key with named entropy."""
    _, public = elgamal.generate(seeded(key))
    return elgamal.encapsulate(public, seeded(*names))


def decapsulations() -> Iterator[tuple[str, Vector]]:
    """All scenarios of the key encapsulation."""
    good, secret = encapsulated("alice", "good")
    value = int.from_bytes(good, "big")

    def case(name: str, about: str, expect: str, ciphertext: bytes) -> tuple[str, Vector]:
        return f"kem_{name}", decapsulation(about, expect, ciphertext, secret)

    yield case("good", "nothing is wrong", "success", good)
    # The attempts' numbers were found by trying; one in 256 begins with a zero byte. `test_elgamal` checks that these do.
    for what, attempt, about in (
        ("c", "290", "the ciphertext begins with a zero byte"),
        ("z", "53", "the shared element begins with a zero byte"),
    ):
        found = encapsulated("alice", what, attempt)
        yield f"kem_good_leading_zero_{what}", decapsulation(about, "success", *found)
    yield case("zero", "the ciphertext is 0", "element", bytes(384))
    yield case("one", "the ciphertext is 1", "element", encode_element(1))
    yield case("minus_one", "the ciphertext is p - 1", "element", encode_element(P - 1))
    yield case("p", "the ciphertext is p", "element", encode_element(P))
    yield case("p_plus_4", "the ciphertext is 4, written as p + 4", "element", encode_element(P + 4))
    yield case("all_ones", "the ciphertext is 2^3072 - 1", "element", b"\xff" * 384)
    yield case(
        "non_residue", "the ciphertext is negated: outside the subgroup", "element", encode_element(P - value)
    )
    yield case("short", "the last byte is missing", "length", good[:-1])
    yield case("long", "a zero byte stands in front", "length", b"\0" + good)
    yield case("empty", "there is no ciphertext", "length", b"")
    yield case("times_g", "the ciphertext is multiplied by g", "secret", encode_element(value * 2 % P))
    other, _ = encapsulated("alice", "other")
    yield case("swapped", "the ciphertext belongs to another message", "secret", other)
    yield "kem_other_key", decapsulation("the key is another patient's", "secret", good, secret, key="bob")


def verification(
    about: str, expect: str, public: bytes, signature: bytes, label: Label, parts: tuple[bytes, ...]
) -> Vector:
    """Describe one verification."""
    return {
        "about": about,
        "operation": "verify",
        "expect": expect,
        "public": public.hex(),
        "signature": signature.hex(),
        "label": label.value.decode(),
        "parts": [part.hex() for part in parts],
    }


def signed(about: str, hedge: bytes) -> Vector:
    """Sign as alice, with the private values that lead to the signature."""
    key = SCHNORR_FFDHE3072.generate(seeded("alice"))
    x = SCHNORR_FFDHE3072.export(key)
    random = (lambda size: hedge[:size]) if hedge else None
    signature = SCHNORR_FFDHE3072.sign(key, LABEL, *PARTS, random=random)
    nonce = derive_nonce(x, hedge, key.public, frame(LABEL.value, *PARTS))
    commitment = elgamal.power_of_generator(Integer.from_bytes(nonce))
    private: Vector = {"x": x.hex(), "hedge": hedge.hex(), "k": nonce.hex(), "r": commitment.hex()}
    return verification(about, "success", key.public, signature, LABEL, PARTS) | private


def verifications() -> Iterator[tuple[str, Vector]]:
    """All scenarios of the signature."""
    public = SCHNORR_FFDHE3072.generate(seeded("alice")).public
    other = SCHNORR_FFDHE3072.generate(seeded("bob")).public
    good = SCHNORR_FFDHE3072.sign(SCHNORR_FFDHE3072.generate(seeded("alice")), LABEL, *PARTS)

    yield "sig_good", signed("deterministic nonce", b"")
    yield "sig_good_hedged", signed("32 bytes of entropy in the nonce", seeded("hedge")(32))

    def case(
        name: str, about: str, signature: bytes, label: Label = LABEL, parts: tuple[bytes, ...] = PARTS
    ) -> tuple[str, Vector]:
        expect = "challenge" if len(signature) == len(good) else "length"
        return f"sig_{name}", verification(about, expect, public, signature, label, parts)

    yield case("e_changed", "one bit of e differs", flip_bit(good, 0))
    yield case("s_changed", "one bit of s differs", flip_bit(good, 8 * 32))
    yield case("zeros", "e and s are 0", bytes(116))
    yield case("s_zero", "s is 0", good[:32] + bytes(84))
    yield case("other_label", "signed for another purpose", good, label=Label.RESPONSE_SIGNATURE)
    yield case("other_part", "one part differs", good, parts=(*PARTS[:2], b"patient-1"))
    yield case(
        "moved_boundary",
        "the parts hold the same bytes, cut elsewhere",
        good,
        parts=(b"transcriptp", b"", b"atient-0"),
    )
    yield case("part_missing", "the empty part is left out", good, parts=(PARTS[0], PARTS[2]))
    yield case("short", "the last byte is missing", good[:-1])
    yield case("long", "s has a zero byte in front", good[:32] + b"\0" + good[32:])

    for name, about, expect, key in (
        ("other_key", "another patient's key", "challenge", other),
        ("key_zero", "the key is 0", "element", bytes(384)),
        ("key_one", "the key is 1: anybody could sign", "element", encode_element(1)),
        ("key_minus_one", "the key is p - 1", "element", encode_element(P - 1)),
        ("key_p_plus_4", "the key is 4, written as p + 4", "element", encode_element(P + 4)),
        ("key_negated", "outside the subgroup", "element", encode_element(P - int.from_bytes(public, "big"))),
        ("key_short", "the key has lost its last byte", "length", public[:-1]),
    ):
        yield f"sig_{name}", verification(about, expect, key, good, LABEL, PARTS)


def files() -> dict[str, str]:
    """Return all vectors: file name and text."""
    scenarios = [*decapsulations(), *verifications()]
    texts = {f"{name}.json": json.dumps(vector, indent=1) + "\n" for name, vector in scenarios}
    assert len(texts) == len(scenarios), "two scenarios share a name"
    return texts


def main() -> None:
    """Write all files beside this one."""
    for name, text in files().items():
        (HERE / name).write_text(text)


if __name__ == "__main__":
    main()

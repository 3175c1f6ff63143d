"""The ElGamal vectors: ours and the independent program agree with every file."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from Crypto.Math.Numbers import Integer

from shared.crypto.aead import Aead
from shared.crypto.kdf import Label
from shared.crypto.kem import FFDHE3072, KemKey
from shared.crypto.signatures import SCHNORR_FFDHE3072
from shared.errors import InvalidElement, InvalidSeal, InvalidSignature
from tests.vectors.elgamal import check, generate

FOLDER = Path(check.__file__).parent
PATHS = sorted(FOLDER.glob("*.json"))
EACH = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)

TOO_SHORT_OR_LONG = " bytes, not "


def read(path: Path) -> dict[str, Any]:
    """Read one vector."""
    vector: dict[str, Any] = json.loads(path.read_text())
    return vector


def our_outcome(vector: dict[str, Any]) -> str:
    """Run a vector through the project's code and name the layer that stopped it."""
    try:
        if vector["operation"] == "verify":
            parts = [bytes.fromhex(part) for part in vector["parts"]]
            public, signature = bytes.fromhex(vector["public"]), bytes.fromhex(vector["signature"])
            SCHNORR_FFDHE3072.verify(public, Label(vector["label"].encode()), signature, *parts)
        else:
            key = KemKey(Integer.from_bytes(bytes.fromhex(vector["x"])), bytes.fromhex(vector["public"]))
            secret = FFDHE3072.decapsulate(key, bytes.fromhex(vector["ciphertext"]))
            assert secret.hex() == vector["derived"]
            Aead(secret).open(0, Aead(bytes.fromhex(vector["secret"])).seal(0, b"text", b""), b"")
    except InvalidElement as error:
        return "length" if TOO_SHORT_OR_LONG in str(error) else "element"
    except InvalidSignature as error:
        return "length" if TOO_SHORT_OR_LONG in str(error) else "challenge"
    except InvalidSeal:
        return "secret"
    return "success"


@EACH
def test_ours_stops_a_vector_at_the_layer_it_names(path: Path) -> None:
    """Success, or exactly the expected refusal."""
    vector = read(path)

    assert our_outcome(vector) == vector["expect"]


@EACH
def test_the_independent_program_comes_to_the_same(path: Path) -> None:
    """Verdict and every intermediate value, by plain arithmetic."""
    vector = read(path)

    assert check.outcome(vector) == vector["expect"]


def test_the_independent_program_notices_a_changed_intermediate() -> None:
    """It can fail: each printed value is compared."""
    for name, fields in (("kem_good", ("z", "prk", "derived")), ("sig_good", ("k", "r"))):
        vector = read(FOLDER / f"{name}.json")
        for field in fields:
            changed = "00" if vector[field][-2:] != "00" else "01"
            with pytest.raises(AssertionError, match="differs"):
                check.outcome(vector | {field: vector[field][:-2] + changed})


def test_the_independent_program_imports_nothing_of_the_project() -> None:
    """Otherwise it would only repeat a mistake."""
    tree = ast.parse(Path(check.__file__).read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}

    assert imported == {"__future__", "hashlib", "hmac", "json", "pathlib", "sys", "typing"}


def test_the_committed_files_are_what_the_generator_makes() -> None:
    """A change of the scheme shows as a change of the files."""
    assert {path.name: path.read_text() for path in PATHS} == generate.files()


def test_every_layer_has_a_vector_of_both_operations() -> None:
    """The set of files covers what it claims to."""
    found = {(vector["operation"], vector["expect"]) for vector in map(read, PATHS)}

    assert found == {
        *[("decapsulate", expect) for expect in ("success", "length", "element", "secret")],
        *[("verify", expect) for expect in ("success", "length", "element", "challenge")],
    }


def test_the_leading_zero_vectors_have_leading_zeros() -> None:
    """An implementation that drops them fails on these two alone."""
    assert read(FOLDER / "kem_good_leading_zero_c.json")["ciphertext"].startswith("00")
    assert read(FOLDER / "kem_good_leading_zero_z.json")["z"].startswith("00")

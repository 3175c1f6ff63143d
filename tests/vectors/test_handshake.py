"""The handshake vectors: read by the protocol's code, and the good ones by a second program that shares none of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from shared.crypto.signatures import fingerprint
from shared.crypto.suites import Suite, suite_by_name
from shared.protocol import doctor_handshake, key_schedule, patient_handshake
from shared.protocol.clock import Instant
from shared.protocol.doctor_handshake import Member, Offer, Response, Standing
from shared.protocol.patient_handshake import Hello, Identity, Request
from shared.protocol.prekeys import Prekey
from shared.protocol.rotation import Successors
from shared.wire import messages
from shared.wire.checks import Check, Checklist, PeerError
from shared.wire.messages import AuthClaims, KeyExchange
from tests.crypto_tools import entropy
from tests.protocol_bench import Clinic, frame_of
from tests.vectors.handshake import check, generate
from tests.vectors.handshake.generate import FLAWS, kem_key

HERE = Path(check.__file__).parent
FILES = sorted(HERE.glob("*.json"))


class Receiver:
    """Both sides' functions, fed with a vector's keys and frames."""

    def __init__(self, vector: dict[str, Any]) -> None:
        self.v = vector
        self.suite: Suite = suite_by_name(vector["suite"])
        self.now = Instant(vector["now"], 0)
        self.clinic = Clinic("receiver", doctor_id=vector["doctor_id"])
        self.random = entropy("receiver")
        self.prekey_key = kem_key(self.suite, vector["prekey_private"])
        algorithm = self.suite.signer.algorithm
        member = Member(vector["patient_id"], algorithm, vector["patient_signing_public"], Standing.ACTIVE)
        self.clinic.directory.members[member.patient_id] = member
        ephemeral = kem_key(self.suite, vector["ephemeral_private"])
        message = messages.decode(KeyExchange, frame_of(vector["M1"]).payload)
        self.hello = Hello(vector["M1"], ephemeral, message)
        self.identity = Identity(
            vector["patient_id"],
            self.suite.signer.generate(self.random),
            self.suite,
            vector["doctor_id"],
            vector["doctor_signing_public"],
            sequence=vector.get("pinned_sequence", 0),
        )

    def m2(self) -> bool:
        """The patient reads KEY_EXCHANGE_REPLY; whether it learns new keys."""
        frame = frame_of(self.v["M2"])
        answered = patient_handshake.answer_reply(
            self.identity, self.hello, frame, self.now, Checklist(), self.random
        )
        return isinstance(answered, Successors)

    def m3(self) -> AuthClaims:
        """The doctor reads AUTH_REQUEST."""
        signer = self.clinic.practice.signing_keys[self.suite.signer.algorithm]
        prekey = Prekey(self.suite, self.prekey_key, 0, b"", 0, signer)
        offer = Offer(self.suite, self.v["M1"], self.v["M2"], self.hello.kem_key.public, prekey)
        practice, frame = self.clinic.practice, frame_of(self.v["M3"])
        opened = doctor_handshake.open_auth_request(practice, offer, frame, self.now, Checklist())
        doctor_handshake.answer_auth_request(practice, offer, opened, self.now, Checklist())
        return opened.claims

    def m4(self, claims: AuthClaims) -> key_schedule.SessionKeys:
        """The patient reads AUTH_RESPONSE."""
        request = Request(
            self.hello, self.v["M2"], self.v["M3"], self.v["ss_d"], claims.nonce, claims.session_key, b""
        )
        frame = frame_of(self.v["M4"])
        return patient_handshake.answer_response(self.identity, request, frame, self.now, Checklist())[0]

    def m5(self, claims: AuthClaims, keys: key_schedule.SessionKeys) -> None:
        """The doctor reads SESSION_VERIFIER."""
        th_3 = key_schedule.transcript_3(*(self.v[name] for name in ("M1", "M2", "M3", "M4")))
        response = Response(claims, False, self.suite, keys, th_3, self.v["M4"])
        frame = frame_of(self.v["M5"])
        doctor_handshake.verify_session(self.clinic.practice, response, frame, self.now, Checklist())

    def read_all(self) -> str:
        """Read what there is, in order; the last message read, and the check it failed, if any."""
        step = "M2"
        try:
            if self.m2():
                return "M2 rotated"
            if "M3" in self.v:
                step = "M3"
                claims = self.m3()
            if "M4" in self.v:
                step = "M4"
                keys = self.m4(claims)
            if "M5" in self.v:
                step = "M5"
                self.m5(claims, keys)
        except PeerError as error:
            return f"{step} {error.check.number}"
        return "all success"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_vector_is_read_as_it_says(path: Path) -> None:
    """The flawed message is refused by the named check; everything before it is accepted."""
    vector = check.load(path)

    assert Receiver(vector).read_all() == f"{vector['message']} {vector['expect']}"


@pytest.mark.parametrize("path", sorted(HERE.glob("good_*.json")), ids=lambda path: path.stem)
def test_the_second_program_agrees(path: Path) -> None:
    """Key schedule, seals and MACs, from the private keys and the frames; and one changed value is noticed."""
    vector = check.load(path)
    check.check(vector)

    for name in ("th_1", "ss_d", "k1", "th_2", "ss_p", "k2", "th_3", "alert_key"):
        with pytest.raises(AssertionError, match=f"{name} is another"):
            check.check({**vector, name: bytes(32)})


@pytest.mark.parametrize("path", sorted(HERE.glob("good_*.json")), ids=lambda path: path.stem)
def test_the_project_computes_the_printed_values(path: Path) -> None:
    """From the same inputs."""
    vector = check.load(path)
    suite = suite_by_name(vector["suite"])
    computed = generate.intermediates(suite, vector)

    assert {name: vector[name] for name in computed} == computed
    algorithm = suite.signer.algorithm
    assert vector["doctor_fingerprint"] == fingerprint(algorithm, vector["doctor_signing_public"])


def test_the_files_are_the_scenarios() -> None:
    """None is missing, none is left over, and every flawed one names a check that exists."""
    good = {f"good_{name}" for name in ("elgamal_ffdhe3072", "elgamal_p256", "elgamal_p256_mlkem768")}

    assert {path.stem for path in FILES} == good | {name for name, *_ in FLAWS}
    assert {expect for *_, expect in FLAWS} <= {rule.number for rule in Check} | {"rotated"}


def test_the_second_program_runs_alone() -> None:
    """Without the project on its path, as its first line says."""
    run = subprocess.run(
        [sys.executable, "-I", str(HERE / "check.py")], capture_output=True, text=True, check=False
    )

    assert (run.returncode, run.stdout.count(": ok")) == (0, 3), run.stdout + run.stderr
    assert "shared" not in [line.split()[1] for line in _imports()]


def _imports() -> list[str]:
    lines = (HERE / "check.py").read_text().splitlines()
    return [line for line in lines if line.startswith(("import ", "from "))]

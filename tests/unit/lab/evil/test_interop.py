"""The second implementation and the real one understand each other, in both directions and every suite."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

import lab.evil.peer
from lab.evil.clinic import EVERYONE, Clinic
from lab.evil.letters import envelope, letter
from lab.evil.peer import wire
from lab.evil.peer.equations import padme
from lab.evil.peer.groups import read_envelope
from lab.evil.peer.patient import Patient
from lab.evil.peer.suites import SUITES, Suite, prime
from lab.evil.sides import DoctorSide
from lab.evil.stages import (
    HOME,
    attended,
    credentials,
    established,
    log_in,
    one,
    settle_in,
    visit,
)
from shared.crypto.groups import P
from shared.crypto.padding import padme_length
from shared.crypto.suites import SuiteId

suites = pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)


@suites
def test_its_patient_and_the_real_doctor(suite: Suite) -> None:
    """Handshake, group key, a broadcast that verifies, a receipt, a report and its receipt."""
    clinic = Clinic("interop", suites=frozenset(SuiteId))
    peer, side, epoch = established(clinic, suite)
    message = epoch.open(clinic.seal(clinic.accept(b"take two")))
    read = read_envelope(message, clinic.practice.doctor_id, clinic.envelope_key.public)
    side.take(peer.receipt(wire.Position(HOME, read.number, [])))
    side.take(peer.record(wire.REPORT, wire.Report(bytes(16), 2, 5, b"better")))
    receipt = peer.read(wire.ReportReceipt, one(side), wire.REPORT_RECEIPT)

    assert (message.body, receipt.report_ids) == (b"take two", [bytes(16)])
    assert clinic.ledger.delivered == {("mallory", EVERYONE): read.number}
    assert side.established
    assert side.refusals == []


@suites
def test_its_doctor_and_a_real_patient(suite: Suite) -> None:
    """Handshake, an epoch of its own making, a broadcast and a DIRECT that are shown, and their receipts."""
    clinic = Clinic("interop", suites=frozenset(SuiteId))
    peer, side, epoch = attended(clinic, suite)
    doctor_id, key = peer.practice.doctor_id, peer.practice.envelope_key
    side.take(epoch.broadcast(0, letter(key, envelope(clinic, doctor_id, key, 10, 0))))
    made = envelope(clinic, doctor_id, key, 20, 10, body=b"and rest")
    side.take(peer.record(wire.DIRECT, wire.Direct(0, letter(key, made, b"and rest"))))
    told = [peer.read(wire.Receipt, frame, wire.RECEIPT).positions for frame in side.give()]

    assert side.device.inbox.messages[EVERYONE] == [(10, b"Take two."), (20, b"and rest")]
    assert told == [[wire.Position(HOME, 10, [])], [wire.Position(HOME, 20, [])]]
    assert side.refusals == []


@suites
def test_its_patient_enrols(suite: Suite) -> None:
    """The invitation's MAC, and one use less."""
    clinic = Clinic("interop", suites=frozenset(SuiteId))
    invitation = clinic.invite("mallory")
    who = credentials(clinic, suite, standing=None, invitation=invitation)
    peer, side = Patient(who, clinic.random), DoctorSide(clinic)

    assert log_in(peer, side)
    assert settle_in(peer, side).group == EVERYONE.name
    assert clinic.ledger.invitations[invitation[0]].uses_left == 0
    assert clinic.effects[0] == "mallory is enrolled"


@suites
def test_its_doctor_enrols_a_real_patient(suite: Suite) -> None:
    """It verifies the invitation's MAC as a real device makes it."""
    clinic = Clinic("interop", suites=frozenset(SuiteId))
    peer, side = visit(clinic, suite, enrolled=False)
    enrolment = side.device.identity.enrolment
    assert enrolment is not None
    side.take(peer.reply(one(side), clinic.clock.now.wall))
    claims = peer.open_request(one(side))
    peer.judge_request(side.device.identity.key.public, enrolment.secret, clinic.clock.now.wall)

    assert claims.invitation_id == enrolment.invitation_id


def test_it_follows_a_retry() -> None:
    """The same greeting with the cookie, and the transcripts do not count the first one."""
    clinic = Clinic("interop")
    clinic.pressed = True
    peer, first = Patient(credentials(clinic, SUITES[1]), clinic.random), DoctorSide(clinic)
    first.take(peer.hello())
    cookie = wire.read(wire.Retry, one(first), wire.RETRY).cookie
    second = DoctorSide(clinic)
    second.take(peer.hello(cookie))
    now = clinic.clock.now.wall
    second.take(peer.request(one(second), now))
    second.take(peer.verifier(one(second), now), peer.receipt())

    assert first.ended
    assert second.established


def test_its_records_turn_the_ratchet() -> None:
    """The key behind the 65,536th record is the same on both sides."""
    clinic = Clinic("interop")
    peer, side, _ = established(clinic, SUITES[1])
    ping = wire.encode(wire.Ping(bytes(8)))
    opener = side.connection._record_opener()
    for _ in range(65_536 - peer.to_doctor.count):
        peer.to_doctor._advance()
        opener.advance()
    side.take(peer.to_doctor.seal_bytes(wire.PING, ping))

    assert [frame[1] for frame in side.give()] == [wire.PONG]
    assert side.refusals == []


def test_the_prime_is_the_one_of_the_standard() -> None:
    """Computed from the formula on one side, written out on the other."""
    assert prime() == P


def test_padding_is_the_same() -> None:
    """For every size of a record, from both formulas."""
    assert [padme(n) for n in range(1, 5000)] == [padme_length(n) for n in range(1, 5000)]


def test_it_shares_no_line_with_the_project() -> None:
    """Only the standard library, `cryptography`, `msgspec`, and itself."""
    allowed = sys.stdlib_module_names | {"cryptography", "msgspec"}
    for path in Path(lab.evil.peer.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path.name} imports relatively"
                names = [node.module or ""]
            for name in names:
                own = name == "lab.evil.peer" or name.startswith("lab.evil.peer.")
                assert own or name.split(".")[0] in allowed, f"{path.name} imports {name}"

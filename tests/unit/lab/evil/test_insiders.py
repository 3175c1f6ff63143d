"""A member of the group cannot speak for the doctor, and the row would notice if it could."""

from __future__ import annotations

import pytest

from lab.evil.clinic import EVERYONE, Clinic
from lab.evil.insiders import inject, try_forgeries
from lab.evil.lies.forgeries import KINDS, gather
from lab.evil.misbehaviour import Accepted, Deviation
from lab.evil.peer.suites import P256, malleated
from lab.evil.sides import PatientSide
from shared.crypto.signatures import EcdsaP256


def test_forgeries_among_the_doctors_own_messages() -> None:
    """Every kind, in sessions that go on."""
    told: list[tuple[int, int]] = []
    tally = try_forgeries(2 * len(KINDS), 1, lambda done, of: told.append((done, of)))

    assert (tally.tried, tally.survived, tally.leaked, tally.findings) == (32, 32, 0, ())
    assert told[-1] == (32, 32)


def test_a_patient_that_believes_any_signature_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a member signed is shown; the row counts it as leaked, and goes on."""
    monkeypatch.setattr(EcdsaP256, "verify", lambda *_: None)

    tally = try_forgeries(len(KINDS), 1, lambda done, of: None)

    assert [finding.split(",")[0] for finding in tally.findings] == [
        "member-forges",
        "member-old-signature",
        "member-renumbers",
    ]
    assert tally.leaked == 3


def test_a_gap_that_is_not_asked_for_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The victim never gets what was kept from it."""
    monkeypatch.setattr("shared.protocol.patient_connection.PatientConnection._ask", lambda *_: None)
    hides = next(kind for kind in KINDS if kind.name == "member-hides")

    with pytest.raises(Deviation, match="the victim was shown"):
        inject(gather(Clinic("gap"), P256), hides)


def test_a_signature_turned_round_is_the_same_message() -> None:
    """(r, n − s) verifies too: whoever gets it first shows the doctor's message, once."""
    ring = gather(Clinic("malleable"), P256)
    truth = ring.truth()
    message = ring.epoch.open(truth)
    victim: PatientSide = ring.victim.patient
    victim.take(ring.sealed(message._replace(signature=malleated(message.signature))), truth)
    shown = victim.device.inbox.messages[EVERYONE]

    assert [body for _, body in shown][-1:] == [b"from the doctor"]
    assert len(shown) == len({number for number, _ in shown}) == 4
    assert victim.refusals == []


def test_a_forgery_that_is_shown_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what the victim showed."""
    monkeypatch.setattr(EcdsaP256, "verify", lambda *_: None)

    with pytest.raises(Accepted, match=r"it took effect: victim shows group:everyone \d+: b'Take two\.'"):
        inject(gather(Clinic("shown"), P256), KINDS[0])

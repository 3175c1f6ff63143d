"""No changed bit is taken, and the row would notice if one were."""

from __future__ import annotations

import pytest

from lab.evil.flips import Course, Place, all_places, flipped, try_flips
from lab.evil.misbehaviour import Accepted, Deviation
from lab.evil.peer import wire
from shared.crypto.aead import Aead
from shared.crypto.suites import SuiteId
from shared.errors import InvalidSeal
from shared.protocol.patient_connection import PatientConnection

P256 = SuiteId.ELGAMAL_P256


def test_a_sample_of_bits() -> None:
    """Of both suites."""
    told: list[tuple[int, int]] = []
    tally = try_flips(60, 5, lambda done, of: told.append((done, of)))

    assert (tally.tried, tally.survived, tally.leaked, tally.findings) == (60, 60, 0, ())
    assert told[-1] == (60, 60)


def test_every_frame_of_a_session_has_its_bits() -> None:
    """Five messages of the handshake, where the patient stands, a group key, a broadcast and its receipt, twice."""
    places = {(place.suite, place.to_doctor, place.index) for place in all_places()}

    assert len(places) == 2 * 9


def test_the_frames_are_those_that_are_meant() -> None:
    """In each direction in order."""
    course = Course(P256)
    course.sizes()
    link = course.last

    assert [frame[1] for frame in link.to_doctor] == [
        10,
        10,
        wire.SESSION_VERIFIER,
        wire.RECEIPT,
        wire.RECEIPT,
    ]
    assert [frame[1] for frame in link.to_patient] == [11, wire.AUTH_RESPONSE, wire.GROUP_KEY, wire.BROADCAST]


def test_a_seal_that_is_not_checked_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bit of the tag does not matter then: the group key is taken."""
    true = Aead.open

    def careless(self: Aead, counter: int, sealed: bytes, associated: bytes) -> bytes:
        for tag_bit in range(128):
            try:
                return true(self, counter, flipped(sealed, 8 * (len(sealed) - 16) + tag_bit), associated)
            except InvalidSeal:
                continue
        return true(self, counter, sealed, associated)

    course = Course(P256)
    size = course.sizes()[False, 2]
    monkeypatch.setattr(Aead, "open", careless)

    with pytest.raises(Accepted, match="alice is confirmed; alice holds epoch"):
        course.try_one(Place(P256, False, 2, size - 1))


def test_a_side_that_says_nothing_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broadcast that vanishes without a word is not one that was refused."""
    course = Course(P256)
    course.sizes()
    monkeypatch.setattr(PatientConnection, "_receive_broadcast", lambda *_: None)

    with pytest.raises(Deviation, match="nobody noticed"):
        course.try_one(Place(P256, False, 3, 500))


def test_a_finding_names_its_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it can be tried again."""
    monkeypatch.setattr(PatientConnection, "_receive_broadcast", lambda *_: 1 / 0)
    monkeypatch.setattr("lab.evil.flips.all_places", lambda: [Place(P256, False, 3, 500)])

    tally = try_flips(1, 5, lambda done, of: None)

    assert tally.survived == 0
    assert tally.findings == (
        "suite 2, frame 4 to the patient, bit 500, seed 5: ZeroDivisionError: division by zero",
    )

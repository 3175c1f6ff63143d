"""Envelopes: who said what to whom, in which place of which stream. Bad ones are signed by the doctor's own key again."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from shared.crypto.kdf import Label, digest
from shared.crypto.signatures import ECDSA_P256, Algorithm, fingerprint
from shared.protocol.envelopes import Positions, Reader, body_hash
from shared.wire import messages
from shared.wire.checks import Check, PeerError
from shared.wire.messages import Envelope, SignedMessage, Stream, TargetKind
from shared.wire.opcodes import AlertCode
from tests.protocol_bench import DAY, EVERYONE, GROUP, WALL, Changes, Clinic, Device

CLINIC = Clinic("envelopes")
DEVICE = CLINIC.patient("patient-a")
OTHER = CLINIC.patient("patient-b")
READER = DEVICE.reader
NOW = CLINIC.clock.now


def private(device: Device = DEVICE) -> SignedMessage:
    """A message to one patient."""
    return CLINIC.sign(1, 0, stream=device.stream, name=device.reader.patient_fingerprint)


def replace_window(reader: Reader, window: int) -> Reader:
    """The reader with another clock window, in milliseconds."""
    return dataclasses.replace(reader, clock_window=window)


def resigned(message: SignedMessage, **changes: object) -> SignedMessage:
    """The message with another envelope, signed by the doctor again."""
    envelope = messages.encode(replace(messages.decode(Envelope, message.envelope), **changes))
    signature = ECDSA_P256.sign(CLINIC.envelope_key, Label.ENVELOPE_SIGNATURE, envelope)
    return replace(message, envelope=envelope, signature=signature)


def verdict(message: SignedMessage, group: str | None = GROUP) -> tuple[str, AlertCode] | None:
    """The check that refuses a message; None: it is accepted."""
    try:
        READER.verify(message, group, NOW)
    except PeerError as error:
        return error.check.number, error.check.alert
    return None


def refused(number: str) -> tuple[str, AlertCode]:
    """What an envelope's check tells."""
    return number, AlertCode.REFUSED


def test_an_envelope_says_what_was_drafted() -> None:
    """Field by field."""
    message = CLINIC.sign(7, 5, b"take two")
    envelope, body = READER.verify(message, GROUP, NOW)

    assert envelope == Envelope(
        doctor_id="doctor",
        signing_key=fingerprint(Algorithm.ECDSA_P256, CLINIC.envelope_key.public),
        stream=EVERYONE,
        fingerprint="",
        number=7,
        previous=5,
        created=WALL,
        expires=WALL + DAY,
        kind=1,
        body_hash=digest(Label.BODY_HASH, message.salt, b"take two"),
    )
    assert body == b"take two"
    assert body_hash(b"s", b"b") != body_hash(b"sb", b"")


def test_v004_an_envelope_that_is_none_is_malformed() -> None:
    """Before anything is verified."""
    message = CLINIC.sign(1, 0)

    assert verdict(replace(message, envelope=message.envelope + b"\0")) == ("V-004", AlertCode.MALFORMED)


def test_v080_the_envelope_names_the_pinned_doctor_and_key() -> None:
    """Another doctor, another key, each under a signature of the pinned key."""
    good = CLINIC.sign(1, 0)

    assert verdict(good) is None
    assert verdict(resigned(good, doctor_id="another")) == refused("V-080")
    assert verdict(resigned(good, signing_key="a" * 32)) == refused("V-080")


def test_v081_the_envelope_is_signed_by_the_pinned_key() -> None:
    """A member that holds the group key cannot forge the doctor; nor does a changed envelope pass."""
    good = CLINIC.sign(1, 0)
    member = OTHER.identity.key
    forged = replace(good, signature=ECDSA_P256.sign(member, Label.ENVELOPE_SIGNATURE, good.envelope))
    other_purpose = replace(
        good, signature=ECDSA_P256.sign(CLINIC.envelope_key, Label.RESPONSE_SIGNATURE, good.envelope)
    )

    assert verdict(good) is None
    assert verdict(forged) == refused("V-081")
    assert verdict(other_purpose) == refused("V-081")
    assert verdict(replace(good, signature=b"")) == refused("V-081")
    assert verdict(replace(good, envelope=CLINIC.sign(2, 0).envelope)) == refused("V-081")


def test_v082_a_broadcast_is_for_the_group_whose_key_opened_it() -> None:
    """A member of two groups cannot carry a message from one to the other."""
    assert verdict(CLINIC.sign(1, 0), GROUP) is None
    assert verdict(CLINIC.sign(1, 0), "ward-b") == refused("V-082")


def test_v082_a_private_message_is_for_this_patient_and_its_key() -> None:
    """Neither for another patient, nor for an earlier holder of the id, nor by way of a broadcast."""
    assert verdict(private(), None) is None
    assert verdict(private(OTHER), None) == refused("V-082")
    assert verdict(resigned(private(), fingerprint="a" * 32), None) == refused("V-082")
    assert verdict(private(), GROUP) == refused("V-082")


def test_a_missed_broadcast_may_come_as_direct() -> None:
    """The session vouches for the membership."""
    assert verdict(CLINIC.sign(1, 0), None) is None


@pytest.mark.parametrize("changes", [{"body": b"take ten"}, {"salt": b"x" * 16}, {"body": b""}])
def test_v083_the_body_is_the_one_that_was_signed(changes: Changes) -> None:
    """Whoever passes the message on cannot change it."""
    assert verdict(CLINIC.sign(1, 0)) is None
    assert verdict(replace(CLINIC.sign(1, 0), **changes)) == refused("V-083")


def test_v083_an_expired_body_is_still_verified() -> None:
    """Although nobody will see it."""
    expired = CLINIC.sign(1, 0, expires=WALL - 1)

    assert READER.verify(expired, GROUP, NOW)[1] is None
    assert verdict(replace(expired, body=b"x")) == refused("V-083")


def test_v084_a_body_is_left_out_only_of_an_expired_message() -> None:
    """Otherwise somebody on the way could hide what is still wanted."""
    valid, expired = CLINIC.sign(1, 0, expires=WALL + 45_000), CLINIC.sign(1, 0, expires=WALL - 1)

    assert READER.verify(replace(expired, body=None), GROUP, NOW)[1] is None
    assert verdict(replace(valid, body=None)) == refused("V-084")
    assert READER.verify(valid, GROUP, NOW)[1] == b"take two"


def test_v084_the_doctors_clock_may_be_ahead_by_the_window() -> None:
    """By the doctor's clock the message has expired, by this one it is about to: no reason to end an honest session."""
    soon = replace(CLINIC.sign(1, 0, expires=WALL + 20_000), body=None)

    assert READER.verify(soon, GROUP, NOW)[1] is None
    assert replace_window(READER, 20_001).verify(soon, GROUP, NOW)[1] is None
    with pytest.raises(PeerError, match="V-084"):
        replace_window(READER, 20_000).verify(soon, GROUP, NOW)


def test_v085_the_preceding_number_is_the_patients_position() -> None:
    """A suppressed message shows as a gap, although numbers are not dense."""
    positions = Positions({EVERYONE: 10})
    envelope = messages.decode(Envelope, CLINIC.sign(15, 10).envelope)

    assert positions.is_next(envelope, 0)
    for previous in (0, 9, 11, 14):
        with pytest.raises(PeerError, match="V-085 group:everyone: 15 follows") as caught:
            positions.is_next(replace(envelope, previous=previous), 0)
        assert caught.value.check.alert is AlertCode.REFUSED


@pytest.mark.parametrize("number", [1, 9, 10])
def test_a_known_number_is_no_news(number: int) -> None:
    """Whatever it says about its predecessor: a repetition is ignored, not a fault."""
    envelope = messages.decode(Envelope, CLINIC.sign(number, 3).envelope)

    assert not Positions({EVERYONE: 10}).is_next(envelope, 0)


def test_a_start_number_raises_the_position() -> None:
    """Where a patient joined, or where a gap was accepted by name."""
    envelope = messages.decode(Envelope, CLINIC.sign(15, 12).envelope)

    assert Positions({EVERYONE: 10}).is_next(envelope, 12)
    with pytest.raises(PeerError, match="V-085"):
        Positions({EVERYONE: 13}).is_next(envelope, 12)


@given(st.lists(st.integers(0, 2**63 - 1), max_size=20))
def test_a_position_never_goes_back(numbers: list[int]) -> None:
    """Whatever comes, in whatever order."""
    positions, seen = Positions(), [0]
    for number in numbers:
        positions.raise_to(EVERYONE, number)
        seen.append(positions[EVERYONE])

    assert seen == sorted(seen)
    assert positions[EVERYONE] == max([0, *numbers])


def test_positions_start_as_they_were_stored_and_keep_to_themselves() -> None:
    """A copy; unknown streams stand at 0."""
    stored = {EVERYONE: 3}
    positions = Positions(stored)
    positions.raise_to(DEVICE.stream, 5)

    assert positions.streams() == [EVERYONE, Stream(TargetKind.PATIENT, "patient-a")]
    assert positions[OTHER.stream] == 0
    assert stored == {EVERYONE: 3}


def test_a_reader_can_be_of_any_doctor() -> None:
    """Positive control: a patient that pinned the forger's key believes the forger."""
    forger = Clinic("forger")
    message = forger.sign(1, 0, b"obey")
    fooled = Reader("patient-a", READER.patient_fingerprint, "doctor", forger.envelope_key.public)

    assert fooled.verify(message, GROUP, NOW)[1] == b"obey"
    assert verdict(message) == refused(Check.ENVELOPE_DOCTOR.number)

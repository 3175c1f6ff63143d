"""Invitations as text: copied by people, so damage must be named."""

from __future__ import annotations

import base64
import hashlib

import pytest
from msgspec import msgpack

from shared.crypto.signatures import Algorithm
from shared.errors import UserError
from shared.protocol.invitations import DoctorKey, Invitation, derived_id, from_text, to_text
from shared.wire import messages

INVITATION = Invitation(
    "doctor",
    [DoctorKey(Algorithm.ECDSA_P256, b"\x04" * 65)],
    ["doctor:7700"],
    ["everyone"],
    b"i" * 16,
    b"secret-secret-secret-secret-secr",
    1_800_000_000_000,
    1,
    "patient-a",
)
TEXT = to_text(INVITATION)


def seal(body: bytes) -> str:
    """Any bytes in the text form, with a right checksum."""
    data = body + hashlib.sha256(body).digest()[:4]
    return "telemed1-" + base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.mark.parametrize("patient_id", [None, "patient-a", "p" * 64])
def test_what_is_written_is_read(patient_id: str | None) -> None:
    """Whole, for one patient or a fleet; lengths that need each kind of base64 ending."""
    for port in ("7", "77", "777", "7700"):
        fields = {name: getattr(INVITATION, name) for name in INVITATION.__struct_fields__}
        invitation = Invitation(**{**fields, "patient_id": patient_id, "addresses": [f"doctor:{port}"]})

        assert from_text(to_text(invitation)) == invitation


def test_the_text_form_is_prefix_and_base64url_of_struct_and_checksum() -> None:
    """The format, by hand."""
    assert seal(messages.encode(INVITATION)) == TEXT
    assert "=" not in TEXT


def test_line_breaks_and_blanks_do_no_harm() -> None:
    """A mail program wraps long lines."""
    wrapped = "\n  ".join(TEXT[start : start + 40] for start in range(0, len(TEXT), 40)) + "\n"

    assert from_text(wrapped) == INVITATION


@pytest.mark.parametrize("text", ["", "hello", "telemed2-abc", TEXT[1:], TEXT.upper()])
def test_something_else_is_no_invitation(text: str) -> None:
    """The prefix says so at once."""
    with pytest.raises(UserError, match=r"not an invitation.*Copy the whole string"):
        from_text(text)


def test_a_cut_at_any_place_is_damage() -> None:
    """No beginning of an invitation is an invitation."""
    for size in range(len("telemed1-"), len(TEXT)):
        with pytest.raises(UserError, match="damaged"):
            from_text(TEXT[:size])


def test_a_changed_character_is_damage() -> None:
    """Anywhere in the body, also to one outside the alphabet."""
    start = len("telemed1-")
    # The last character carries bits that base64 does not use; changing only those changes nothing.
    for place in range(start, len(TEXT) - 1):
        for other in ("A", "_", "é", "="):
            if TEXT[place] != other:
                with pytest.raises(UserError, match="damaged"):
                    from_text(TEXT[:place] + other + TEXT[place + 1 :])


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [*msgpack.decode(messages.encode(INVITATION)), "a field of the future"],
        ["doctor", [[9, b"\x04" * 65]], ["a:1"], [], b"i" * 16, b"s" * 32, 0, 1, None],
        ["doctor", [], ["a:1"], [], b"i" * 16, b"s" * 32, 0, 1, None],
    ],
    ids=["empty", "more fields", "unknown algorithm", "no key"],
)
def test_an_invitation_of_the_future_says_that_the_program_is_too_old(fields: list[object]) -> None:
    """Whole, but not readable: copying it again would not help."""
    with pytest.raises(UserError, match="version of the doctor that this program cannot read"):
        from_text(seal(msgpack.encode(fields)))


def test_the_doctors_key_is_found_by_algorithm() -> None:
    """A doctor that does not allow suite 1 has no Schnorr key."""
    assert INVITATION.doctor_key(Algorithm.ECDSA_P256) == b"\x04" * 65
    assert INVITATION.doctor_key(Algorithm.SCHNORR_FFDHE3072) is None


def test_a_repr_does_not_hand_the_secret_over() -> None:
    """Nor any part of it."""
    assert repr(INVITATION) == f"Invitation(doctor_id='doctor', invitation_id={b'i'.hex() * 16})"


def test_a_derived_id_is_a_name() -> None:
    """A prefix and sixteen characters of the fingerprint."""
    assert derived_id("abcdefghijklmnopqrstuvwxyz234567") == "patient-abcdefghijklmnop"

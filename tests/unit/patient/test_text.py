"""Texts from the network are shown without their effects."""

from __future__ import annotations

import pytest

from patient.text import decoded, moment
from shared.text import readable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("take two, Zoë 🙂", "take two, Zoë 🙂"),
        ("two\nlines", "two\nlines"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("a\rb\tc\x00", "a\\rb\\tc\\x00"),
        ("\u202eevil", "\\u202eevil"),
        ("\u2028", "\\u2028"),
    ],
)
def test_control_characters_are_escaped(text: str, shown: str) -> None:
    """Nothing that steers a terminal gets through, letters and line breaks do."""
    assert readable(text) == shown


def test_bytes_that_are_no_text_are_shown_as_bytes() -> None:
    """A body need not be UTF-8."""
    assert decoded(b"2 mg \xff") == "2 mg \\xff"


def test_a_moment_is_iso_8601_in_utc() -> None:
    """Times are written in one way."""
    assert moment(1_800_000_000_123) == "2027-01-15T08:00:00.123+00:00"


def test_a_moment_beyond_the_calendar_is_a_number() -> None:
    """A doctor's absurd time does not stop the program."""
    assert moment(2**63 - 1) == f"{2**63 - 1} ms"

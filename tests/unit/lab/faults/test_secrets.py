"""A secret that stands where it does not belong is found, in whatever form; a search that is blind says so."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from lab.faults.search import Search, files_to_search

SECRET = bytes(range(100, 132))


@pytest.mark.parametrize(
    "written",
    [SECRET, SECRET.hex().encode(), base64.b64encode(SECRET), base64.b64encode(b"xy" + SECRET + b"z")],
    ids=["as it is", "hexadecimal", "base64", "base64 among others"],
)
def test_a_secret_is_found_in_every_form(written: bytes) -> None:
    """In the place where it stands, and in no other."""
    search = Search({"a key": SECRET})
    search.look("log", "the doctor's log", b"{" + written + b"}")
    search.look("file", "a file", b"nothing")

    assert [hit.startswith("a key stands") for hit in search.hits()] == [True]
    assert "the doctor's log (log)" in search.hits()[0]


def test_a_canary_is_found_in_every_kind_of_place() -> None:
    """Also in an empty one; this is what the row asks before it believes a search that found nothing."""
    search = Search({"a key": SECRET})
    search.look("log", "a log", b"some words")
    search.look("file", "an empty file", b"")

    assert search.blind_kinds() == []


def test_what_is_too_short_to_be_looked_for_is_refused() -> None:
    """It would be found by chance."""
    with pytest.raises(ValueError, match="too short"):
        Search().add("a pin", b"1234")


def test_files_that_are_there_to_hold_keys_are_no_places(tmp_path: Path) -> None:
    """All others are, whatever they are called."""
    names = ("doctor/keys/storage.key", "doctor/api/token", "anna/identity.json", "anna.invitation")
    others = ("doctor/doctor.db", "doctor/keys.txt", "anna/inbox.db", "audit/journal.jsonl")
    for name in (*names, *others):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()

    assert {str(path.relative_to(tmp_path)) for path in files_to_search(tmp_path)} == set(others)

"""The journal of revocations, removals and used invitations: behind is completed, ahead is named, damage is named."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import msgspec
import pytest

from doctor import groups
from doctor.audit import Action
from doctor.journal import JOURNAL_FILE, Journal, Line
from shared.errors import StorageError
from shared.protocol.doctor_handshake import Standing
from tests.doctor_bench import Books

KEY = bytes(range(32))


def lines(directory: Path) -> list[Line]:
    """The journal's lines."""
    raw = (directory / JOURNAL_FILE).read_bytes().splitlines()
    return [msgspec.json.decode(line, type=Line) for line in raw]


def subjects(directory: Path) -> list[tuple[str, str]]:
    """What its lines say of whom."""
    return [(line.action, line.subject) for line in lines(directory)]


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    """An empty journal."""
    return Journal(tmp_path, KEY)


def test_revocations_and_used_invitations_are_noted_and_nothing_else(
    books: Books, tmp_path: Path, journal: Journal
) -> None:
    """With what a tombstone needs: the key; and with the invitation that was used."""
    anna = books.enrol("anna")
    books.admit(anna)
    books.accept()
    books.depart("anna", Standing.RETIRED)
    books.enrol("eve")
    books.depart("eve", Standing.REVOKED)

    assert journal.compare(books.db) == []

    assert subjects(tmp_path) == [("enrolled", "anna"), ("enrolled", "eve"), ("revoked", "eve")]
    first = lines(tmp_path)[0]
    assert anna.invitation_id is not None
    assert (first.key, first.invitation) == (anna.public_key.hex(), anna.invitation_id.hex())


def test_who_was_removed_from_a_group_or_added_is_noted_with_the_group(
    books: Books, tmp_path: Path, journal: Journal
) -> None:
    """An addition as well: it takes a removal back."""
    books.enrol("anna")
    groups.create(books.db, "ward", books.later(), "operator")
    groups.add(books.db, "ward", "anna", books.later(), "operator")
    groups.remove(books.db, "ward", "anna", books.later(), "operator")

    assert journal.compare(books.db) == []

    noted = [(line.action, line.subject, line.group) for line in lines(tmp_path)]
    assert noted[1:] == [("member-added", "anna", "ward"), ("member-removed", "anna", "ward")]
    assert lines(tmp_path)[2].key == lines(tmp_path)[0].key


def test_what_was_committed_since_is_written_once(books: Books, tmp_path: Path, journal: Journal) -> None:
    """After each commit; one that has nothing for the journal writes nothing."""
    journal.compare(books.db)
    for patient in ("anna", "bert"):
        books.enrol(patient)
        journal.complete(books.db)
        books.accept()
        journal.complete(books.db)

    assert subjects(tmp_path) == [("enrolled", "anna"), ("enrolled", "bert")]


def test_nothing_is_written_before_the_comparison(books: Books, tmp_path: Path, journal: Journal) -> None:
    """An old database must not fill the journal before it is known to be one."""
    books.enrol("anna")
    journal.complete(books.db)

    assert not (tmp_path / JOURNAL_FILE).exists()


def test_a_journal_that_is_behind_is_completed(books: Books, tmp_path: Path, journal: Journal) -> None:
    """A crash between the commit and the journal; once is enough."""
    books.enrol("anna")
    journal.compare(books.db)
    books.depart("anna", Standing.REVOKED)

    assert Journal(tmp_path, KEY).compare(books.db) == []
    assert Journal(tmp_path, KEY).compare(books.db) == []
    assert subjects(tmp_path) == [("enrolled", "anna"), ("revoked", "anna")]


def test_what_the_disk_refused_goes_with_the_next_commit(
    books: Books, tmp_path: Path, journal: Journal
) -> None:
    """What was committed stands, so the journal owes it."""
    journal.compare(books.db)
    path = tmp_path / JOURNAL_FILE
    path.mkdir()
    books.enrol("anna")
    journal.complete(books.db)
    assert [journal.behind] == [True]
    path.rmdir()

    journal.complete(books.db)

    assert [journal.behind, *subjects(tmp_path)] == [False, ("enrolled", "anna")]


def test_a_journal_that_is_ahead_says_by_what(books: Books, tmp_path: Path, journal: Journal) -> None:
    """The database is an older state: an invitation is unused in it, a revoked patient welcome."""
    books.enrol("eve")
    books.db.execute("BEGIN")
    books.enrol("anna")
    books.depart("eve", Standing.REVOKED)
    journal.compare(books.db)
    books.db.execute("ROLLBACK")

    lost = Journal(tmp_path, KEY).compare(books.db)

    assert [(line.action, line.subject) for line in lost] == [("enrolled", "anna"), ("revoked", "eve")]


def test_another_entry_in_the_same_place_is_ahead_as_well(
    books: Books, tmp_path: Path, journal: Journal
) -> None:
    """An old copy on which life went on: the numbers fit, the entries do not."""
    books.db.execute("BEGIN")
    books.enrol("anna")
    journal.compare(books.db)
    books.db.execute("ROLLBACK")
    for _ in range(5):
        books.invite("bert")

    assert [line.subject for line in Journal(tmp_path, KEY).compare(books.db)] == ["anna"]


def test_a_confirmed_restore_voids_what_it_lost(books: Books, tmp_path: Path, journal: Journal) -> None:
    """Lines above its base are the past of a log that is gone; those below still count."""
    books.enrol("anna")
    (base,) = books.db.execute("SELECT max(sequence) FROM audit").fetchone()
    books.db.execute("BEGIN")
    books.enrol("bert")
    journal.compare(books.db)
    books.db.execute("ROLLBACK")
    books.note(Action.RESTORED, str(base))
    Journal(tmp_path, KEY).compare(books.db)

    assert Journal(tmp_path, KEY).compare(books.db) == []
    books.db.execute("DELETE FROM audit")
    assert [line.subject for line in Journal(tmp_path, KEY).compare(books.db)] == ["anna", str(base)]


def test_a_torn_line_is_written_again_whole(books: Books, tmp_path: Path, journal: Journal) -> None:
    """And the doctor starts on it ever after."""
    books.enrol("anna")
    journal.compare(books.db)
    path = tmp_path / JOURNAL_FILE
    path.write_bytes(path.read_bytes() + b'{"time":18000')
    books.enrol("bert")

    assert Journal(tmp_path, KEY).compare(books.db) == []
    assert len(lines(tmp_path)) == 2


def test_a_changed_character_of_a_line_is_damage_named_by_line(
    books: Books, tmp_path: Path, journal: Journal
) -> None:
    """Each line is authenticated: neither an accident nor who writes to the audit volume changes one unseen."""
    for patient in ("anna", "bert", "carl"):
        books.enrol(patient)
    journal.compare(books.db)
    path = tmp_path / JOURNAL_FILE
    first, second, third = path.read_bytes().splitlines(keepends=True)
    for at in range(0, len(second), 7):
        changed = second[:at] + bytes([second[at] ^ 1]) + second[at + 1 :]
        path.write_bytes(first + changed + third)

        with pytest.raises(StorageError, match=f"{JOURNAL_FILE}, line 2, is damaged"):
            Journal(tmp_path, KEY).compare(books.db)


def test_a_journal_of_another_doctor_is_refused(books: Books, tmp_path: Path, journal: Journal) -> None:
    """Its key is derived from the storage key."""
    books.enrol("anna")
    journal.compare(books.db)

    with pytest.raises(StorageError, match="line 1, is damaged or not this doctor's"):
        Journal(tmp_path, bytes(32)).compare(books.db)


def test_a_journal_that_cannot_be_written_at_the_start_is_named(
    db: sqlite3.Connection, books: Books, tmp_path: Path
) -> None:
    """Then nothing has begun that it would have to keep up with."""
    books.enrol("anna")

    with pytest.raises(StorageError, match="cannot be written"):
        Journal(tmp_path / "missing", KEY).compare(books.db)

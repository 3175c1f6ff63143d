"""The heads file stays bounded, and what is done to a thinned one shows as before."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from doctor import audit, heads, thinning
from doctor.audit import Action
from doctor.heads import HEADS_FILE, Head
from shared.crypto.signatures import SIGNERS, Algorithm
from shared.errors import StorageError
from tests.crypto_tools import entropy

KEY = SIGNERS[Algorithm.ECDSA_P256].generate(entropy("the doctor"))
NOW = 1_800_000_000_000
HOUR = 3600 * 1000
HEADS = 60
NEWEST = 5

Lines = list[bytes]


def write(db: sqlite3.Connection, directory: Path, count: int, start: int = NOW) -> Head:
    """So many entries with a head each, an hour between them; the last head."""
    head = None
    for number in range(count):
        now = start + number * HOUR
        audit.append(db, now, "operator", Action.INVITED, f"patient {number}")
        head = heads.export(db, directory, KEY, now, head)
    assert head is not None
    return head


def judge(db: sqlite3.Connection, directory: Path) -> audit.Verdict:
    """Verify against the doctor's key."""
    return audit.verify(db, directory, KEY.public, KEY.algorithm)


def thinned(db: sqlite3.Connection, directory: Path) -> Head:
    """A file of sixty hours that is thinned, and goes on."""
    last = write(db, directory, HEADS)
    line = thinning.thin(directory, KEY, last.time, NEWEST)
    write(db, directory, 2, last.time + HOUR)
    return line


def test_the_newest_heads_are_kept_and_the_last_of_each_day(db: sqlite3.Connection, tmp_path: Path) -> None:
    """The log verifies, and the file goes on from its own line."""
    line = thinned(db, tmp_path)

    kept = heads.read(tmp_path)
    days = [head.time // (24 * HOUR) for head in kept]
    assert days[:-8] == sorted(set(days))[:-1]
    assert [head.sequence for head in kept[-8:]] == [56, 57, 58, 59, 60, 60, 61, 62]
    assert (line.place, [head.place for head in kept[-2:]]) == (61, [62, 63])
    verdict = judge(db, tmp_path)
    assert (verdict.first_bad, verdict.heads) == (None, len(kept))


def test_it_is_thinned_again_and_again(db: sqlite3.Connection, tmp_path: Path) -> None:
    """Its size depends on the days alone."""
    sizes, start = [], NOW
    for _ in range(4):
        last = write(db, tmp_path, 24, start)
        thinning.thin(tmp_path, KEY, last.time, NEWEST)
        start = last.time + HOUR
        sizes.append(len(heads.read(tmp_path)))
        assert judge(db, tmp_path).first_bad is None

    assert [after - before for before, after in pairwise(sizes)] == [1, 1, 1]


def test_the_lines_of_a_restore_outlive_it(db: sqlite3.Connection, tmp_path: Path) -> None:
    """And the end of the log that it has voided, which the event names."""
    write(db, tmp_path, 20)
    db.execute("DELETE FROM audit WHERE sequence > 12")
    audit.append(db, NOW, "operator", Action.RESTORED, "12")
    entry = heads.last_entry(db)
    assert entry is not None
    heads.append(tmp_path, KEY, entry, NOW + 20 * HOUR, 12)
    write(db, tmp_path, 20, NOW + 21 * HOUR)
    before = judge(db, tmp_path)

    thinning.thin(tmp_path, KEY, NOW + 50 * HOUR, NEWEST)

    after = judge(db, tmp_path)
    assert after.events == before.events
    assert "up to entry 20 are void" in after.events[0]
    assert (before.first_bad, after.first_bad) == (None, None)


def _without(*places: int) -> Callable[[Lines], Lines]:
    return lambda lines: [line for at, line in enumerate(lines) if at - len(lines) not in places]


def _first_of_a_day_gone(lines: Lines) -> Lines:
    return lines[1:]


def _two_days_exchanged(lines: Lines) -> Lines:
    return [lines[1], lines[0], *lines[2:]]


def _cut_before_the_line(lines: Lines) -> Lines:
    return lines[:-3]


def _line_again(lines: Lines) -> Lines:
    return [*lines, lines[-3]]


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (_first_of_a_day_gone, "are not those that were kept"),
        (_two_days_exchanged, "are not those that were kept"),
        (_without(-6), "are not those that were kept"),
        (_without(-3), "one before it was taken out, or moved"),
        (_cut_before_the_line, "one before it was taken out, or moved"),
        (_without(-2), "one before it was taken out, or moved"),
        (_line_again, "are not those that were kept"),
    ],
    ids=[
        "day gone",
        "days exchanged",
        "new one gone",
        "its line gone",
        "cut",
        "later one gone",
        "its line again",
    ],
)
def test_what_is_taken_out_or_moved_afterwards_shows(
    db: sqlite3.Connection, tmp_path: Path, edit: Callable[[Lines], Lines], said: str
) -> None:
    """Before the line of the thinning, behind it, and the line itself."""
    thinned(db, tmp_path)
    path = tmp_path / HEADS_FILE
    path.write_bytes(b"".join(edit(path.read_bytes().splitlines(keepends=True))))

    verdict = judge(db, tmp_path)

    assert verdict.first_bad is not None
    assert said in (verdict.reason or "")


def test_a_cut_log_shows_in_a_thinned_file(db: sqlite3.Connection, tmp_path: Path) -> None:
    """By the first head that is left of those that name what is gone."""
    thinned(db, tmp_path)
    db.execute("DELETE FROM audit WHERE sequence > 30")

    verdict = judge(db, tmp_path)

    assert verdict.first_bad == 31
    assert "the log was cut" in (verdict.reason or "")


def _changed(directory: Path) -> None:
    path = directory / HEADS_FILE
    path.write_bytes(path.read_bytes().replace(b'"time":18', b'"time":17', 1))


def _taken_out(directory: Path) -> None:
    path = directory / HEADS_FILE
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))


def _empty(directory: Path) -> None:
    (directory / HEADS_FILE).write_bytes(b"")


@pytest.mark.parametrize("spoil", [_changed, _taken_out, _empty])
def test_what_is_not_as_it_was_written_is_left_alone(
    db: sqlite3.Connection, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    """It is evidence."""
    write(db, tmp_path, 10)
    spoil(tmp_path)
    before = (tmp_path / HEADS_FILE).read_bytes()

    with pytest.raises(StorageError, match="left as it is"):
        thinning.thin(tmp_path, KEY, NOW, NEWEST)

    assert (tmp_path / HEADS_FILE).read_bytes() == before


def test_it_is_due_once_in_so_many_lines() -> None:
    """The line that it adds is not another reason."""
    due = [
        place
        for place in range(1, 2 * thinning.NEWEST + 2)
        if thinning.is_due(Head(1, "", 1, "", place=place))
    ]

    assert due == [thinning.NEWEST, 2 * thinning.NEWEST]

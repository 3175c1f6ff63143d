"""The audit log: every way of changing what is written is found, and the entry is named."""

from __future__ import annotations

import sqlite3
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from doctor import audit, heads
from doctor.audit import Action
from doctor.heads import HEADS_FILE, Head
from shared.crypto.signatures import SIGNERS, Algorithm, SigningKey
from shared.errors import StorageError
from shared.protocol.envelopes import FormerKey
from shared.storage.lines import append_line
from tests.crypto_tools import entropy

SIGNER = SIGNERS[Algorithm.ECDSA_P256]
KEY = SIGNER.generate(entropy("audit"))
NOW = 1_800_000_000_000


def fill(db: sqlite3.Connection, count: int = 5) -> None:
    """Some entries."""
    for number in range(count):
        audit.append(db, NOW + number, "operator", Action.INVITED, f"patient {number}", "by hand")


def export(
    db: sqlite3.Connection, directory: Path, last: Head | None = None, key: SigningKey = KEY
) -> Head | None:
    """Export a head."""
    return heads.export(db, directory, key, NOW, last)


def judge(db: sqlite3.Connection, directory: Path) -> audit.Verdict:
    """Verify against the doctor's key."""
    return audit.verify(db, directory, KEY.public, KEY.algorithm)


def test_an_untouched_log_verifies(db: sqlite3.Connection, tmp_path: Path) -> None:
    """Empty, and with entries and heads."""
    empty = judge(db, tmp_path)
    fill(db)
    export(db, tmp_path)

    assert (empty.entries, empty.heads, empty.first_bad) == (0, 0, None)
    verdict = judge(db, tmp_path)
    assert (verdict.entries, verdict.heads, verdict.first_bad, verdict.reason) == (5, 1, None, None)


def test_heads_under_a_former_key_count_before_the_first_under_its_successor(
    db: sqlite3.Connection, tmp_path: Path
) -> None:
    """A rotation leaves what was signed as it is; who has stolen the former key can add nothing behind it."""
    new = SIGNER.generate(entropy("rotated"))
    former = (FormerKey(KEY.public, NOW),)
    fill(db)
    last = export(db, tmp_path)
    fill(db, 1)
    last = export(db, tmp_path, last, new)

    good = audit.verify(db, tmp_path, new.public, new.algorithm, former)
    assert (good.heads, good.first_bad) == (2, None)
    unknown = audit.verify(db, tmp_path, new.public, new.algorithm)
    assert "is not the doctor's" in (unknown.reason or "")
    fill(db, 1)
    export(db, tmp_path, last)
    stolen = audit.verify(db, tmp_path, new.public, new.algorithm, former)
    assert stolen.first_bad == 7
    assert "under a key that had been rotated away" in (stolen.reason or "")


def test_sequence_numbers_count_up_from_one(db: sqlite3.Connection) -> None:
    """Without a gap."""
    numbers = [audit.append(db, NOW, "operator", Action.STARTED, "doctor") for _ in range(3)]

    assert numbers == [1, 2, 3]


def swap(db: sqlite3.Connection) -> None:
    """Exchange entries 2 and 4, their hashes included."""
    db.execute("UPDATE audit SET sequence = -1 WHERE sequence = 2")
    db.execute("UPDATE audit SET sequence = 2 WHERE sequence = 4")
    db.execute("UPDATE audit SET sequence = 4 WHERE sequence = -1")


EDITS: dict[str, tuple[str, int, str]] = {
    "impossible time": ("UPDATE audit SET time = -1 WHERE sequence = 3", 3, "was changed"),
    "time": ("UPDATE audit SET time = time + 1 WHERE sequence = 3", 3, "was changed"),
    "actor": ("UPDATE audit SET actor = 'nobody' WHERE sequence = 3", 3, "was changed"),
    "action": ("UPDATE audit SET action = 'retired' WHERE sequence = 3", 3, "was changed"),
    "object": ("UPDATE audit SET object = 'eve' WHERE sequence = 1", 1, "was changed"),
    "detail": ("UPDATE audit SET detail = '' WHERE sequence = 5", 5, "was changed"),
    "hash": ("UPDATE audit SET hash = zeroblob(32) WHERE sequence = 3", 3, "was changed"),
    "deleted in the middle": ("DELETE FROM audit WHERE sequence = 3", 3, "is missing"),
    "deleted at the start": ("DELETE FROM audit WHERE sequence = 1", 1, "is missing"),
    "cut at the end": ("DELETE FROM audit WHERE sequence > 3", 4, "the log was cut"),
    "emptied": ("DELETE FROM audit", 1, "the log was cut"),
    "moved text": (
        "UPDATE audit SET actor = 'operatorin', action = 'vited' WHERE sequence = 2",
        2,
        "changed",
    ),
}


@pytest.mark.parametrize("name", EDITS)
def test_each_change_is_found_and_named(db: sqlite3.Connection, tmp_path: Path, name: str) -> None:
    """The first entry that does not fit is the one that was touched."""
    statement, bad, reason = EDITS[name]
    fill(db)
    export(db, tmp_path)
    assert judge(db, tmp_path).first_bad is None

    db.execute(statement)

    verdict = judge(db, tmp_path)
    assert verdict.first_bad == bad
    assert verdict.reason is not None
    assert reason in verdict.reason


def test_a_new_order_is_found(db: sqlite3.Connection, tmp_path: Path) -> None:
    """Entries that change places no longer follow one another."""
    fill(db)

    swap(db)

    assert judge(db, tmp_path).first_bad == 2


def test_without_a_head_a_cut_end_cannot_be_seen(db: sqlite3.Connection, tmp_path: Path) -> None:
    """What the heads are for: the chain alone is whole after its end was cut off."""
    fill(db)
    db.execute("DELETE FROM audit WHERE sequence > 3")

    assert judge(db, tmp_path).first_bad is None


def test_a_chain_that_was_computed_anew_is_a_fork(db: sqlite3.Connection, tmp_path: Path) -> None:
    """Whoever can write the database can compute hashes, but not sign heads."""
    fill(db)
    export(db, tmp_path)
    db.execute("DELETE FROM audit")
    for number in range(6):
        audit.append(db, NOW + number, "operator", Action.INVITED, "somebody else")

    verdict = judge(db, tmp_path)
    assert verdict.first_bad == 5
    assert verdict.reason is not None
    assert "forked" in verdict.reason


def test_a_head_of_another_key_is_found(db: sqlite3.Connection, tmp_path: Path) -> None:
    """Only the doctor signs heads."""
    fill(db)
    export(db, tmp_path, key=SIGNER.generate(entropy("eve")))

    verdict = judge(db, tmp_path)
    assert verdict.first_bad == 5
    assert verdict.reason == "the signed head for entry 5 is not the doctor's"


def test_a_head_stands_in_the_file_once(db: sqlite3.Connection, tmp_path: Path) -> None:
    """A log that did not move is not signed again; one that did is."""
    fill(db)
    first = export(db, tmp_path)
    second = export(db, tmp_path, first)
    fill(db, 1)
    third = export(db, tmp_path, second)

    assert second is first
    assert third is not None
    assert third.sequence == 6
    assert len((tmp_path / HEADS_FILE).read_bytes().splitlines()) == 2
    assert judge(db, tmp_path).heads == 2


def test_an_empty_log_has_no_head(db: sqlite3.Connection, tmp_path: Path) -> None:
    """There is nothing to sign."""
    assert export(db, tmp_path) is None
    assert not (tmp_path / HEADS_FILE).exists()


def test_a_torn_last_head_is_a_crash_and_no_attack(db: sqlite3.Connection, tmp_path: Path) -> None:
    """It is passed over, and the next head takes its place, so that the file stays readable for good."""
    fill(db)
    head = export(db, tmp_path)
    path = tmp_path / HEADS_FILE
    path.write_bytes(path.read_bytes() + b'{"sequence":6,"ha')
    assert judge(db, tmp_path).heads == 1

    for _ in range(2):
        fill(db, 1)
        head = export(db, tmp_path, head)

    assert judge(db, tmp_path) == audit.Verdict(7, 3, None, None)


def restored(db: sqlite3.Connection, directory: Path, base: int) -> Head:
    """Cut the log at an entry, as an older database does, and confirm that."""
    db.execute("DELETE FROM audit WHERE sequence > ?", (base,))
    audit.append(db, NOW, "operator", Action.RESTORED, str(base))
    entry = heads.last_entry(db)
    assert entry is not None
    return heads.append(directory, KEY, entry, NOW, base)


def test_a_confirmed_restore_is_an_event_and_no_damage(db: sqlite3.Connection, tmp_path: Path) -> None:
    """The heads above the common entry are void; those below, and those after, still count."""
    fill(db, 3)
    export(db, tmp_path)
    fill(db, 4)
    export(db, tmp_path)
    restored(db, tmp_path, 4)
    fill(db, 1)
    export(db, tmp_path)

    verdict = judge(db, tmp_path)
    assert (verdict.first_bad, verdict.heads) == (None, 4)
    assert verdict.events == (
        "entry 5 records a confirmed restore to entry 4; heads of the former log up to entry 7 are void",
    )
    db.execute("UPDATE audit SET actor = 'eve' WHERE sequence = 2")
    assert judge(db, tmp_path).first_bad == 2


def test_a_cut_after_a_confirmed_restore_is_found(db: sqlite3.Connection, tmp_path: Path) -> None:
    """The line voids what was written before it, and nothing that came later."""
    fill(db, 5)
    export(db, tmp_path)
    restored(db, tmp_path, 3)
    fill(db, 3)
    export(db, tmp_path)
    db.execute("DELETE FROM audit WHERE sequence > 4")

    verdict = judge(db, tmp_path)
    assert (verdict.first_bad, verdict.reason) == (
        5,
        "the log was cut: a signed head names entry 7, the last is 4",
    )


def test_a_line_of_a_restore_that_is_repeated_hides_nothing(db: sqlite3.Connection, tmp_path: Path) -> None:
    """Whoever can write the file can copy the line behind later heads, to void them; it counts once."""
    fill(db, 5)
    export(db, tmp_path)
    line = restored(db, tmp_path, 3)
    fill(db, 3)
    export(db, tmp_path)
    append_line(tmp_path / HEADS_FILE, msgspec.json.encode(line))
    db.execute("DELETE FROM audit WHERE sequence > 4")

    verdict = judge(db, tmp_path)
    assert verdict.first_bad == 4
    assert verdict.reason is not None
    assert "line 4 of the signed heads was written as line 2" in verdict.reason


def test_a_head_is_not_made_the_line_of_a_restore(db: sqlite3.Connection, tmp_path: Path) -> None:
    """The two are signed under different labels."""
    fill(db, 5)
    head = export(db, tmp_path)
    assert head is not None
    line = msgspec.structs.replace(head, base=1, place=2)
    append_line(tmp_path / HEADS_FILE, msgspec.json.encode(line))

    verdict = judge(db, tmp_path)
    assert verdict.reason == "the signed head for entry 5 is not the doctor's"


def test_bytes_that_are_no_text_are_named_by_entry(db: sqlite3.Connection, tmp_path: Path) -> None:
    """A damaged page may hold them."""
    fill(db)
    db.execute("UPDATE audit SET actor = CAST(x'ff' AS TEXT) WHERE sequence = 3")

    verdict = judge(db, tmp_path)
    assert verdict.first_bad == 3
    assert verdict.reason is not None
    assert "entry 3 cannot be read" in verdict.reason


def test_a_damaged_last_line_is_named_at_the_start(db: sqlite3.Connection, tmp_path: Path) -> None:
    """The start reads that line alone."""
    fill(db)
    export(db, tmp_path)
    (tmp_path / HEADS_FILE).write_bytes((tmp_path / HEADS_FILE).read_bytes() + b"rubbish\n")

    with pytest.raises(StorageError, match=f"{HEADS_FILE}, the last line, is damaged"):
        heads.newest(tmp_path)


def _without_hash(head: dict[str, object]) -> None:
    head["hash"] = "not hexadecimal"


def _negative(head: dict[str, object]) -> None:
    head["sequence"] = -1


def _huge(head: dict[str, object]) -> None:
    head["sequence"] = 2**70


def _bad_signature(head: dict[str, object]) -> None:
    head["signature"] = "zz"


@pytest.mark.parametrize("damage", [_without_hash, _negative, _huge, _bad_signature])
def test_a_head_that_cannot_be_read_is_damage_named_by_line(
    db: sqlite3.Connection, tmp_path: Path, damage: Callable[[dict[str, object]], None]
) -> None:
    """Never a traceback: whoever damaged the file must not keep the log from being judged by name."""
    fill(db)
    head = export(db, tmp_path)
    path = tmp_path / HEADS_FILE
    fields = msgspec.json.decode(path.read_bytes(), type=dict[str, object])
    damage(fields)
    path.write_bytes(msgspec.json.encode(fields) + b"\n" + msgspec.json.encode(head) + b"\n")

    with pytest.raises(StorageError, match=f"{HEADS_FILE}, line 1, is damaged"):
        judge(db, tmp_path)


def test_a_head_names_an_edited_entry_whose_own_hash_was_computed_anew(
    db: sqlite3.Connection, tmp_path: Path
) -> None:
    """The chain breaks one entry later; only the head tells that it was this one."""
    fill(db, 3)
    export(db, tmp_path)
    fill(db, 3)
    previous, time = db.execute(
        "SELECT hash, (SELECT time FROM audit WHERE sequence = 3) FROM audit WHERE sequence = 2"
    ).fetchone()
    forged = audit.entry_hash(previous, 3, time, ("operator", "invited", "eve", "by hand"))
    db.execute("UPDATE audit SET object = 'eve', hash = ? WHERE sequence = 3", (forged,))

    assert judge(db, tmp_path).first_bad == 3
    (tmp_path / HEADS_FILE).write_bytes(b"rubbish\n")
    assert judge(db, tmp_path).first_bad == 4


@pytest.mark.parametrize(
    ("order", "first_wrong"), [((0, 2), 2), ((1, 2), 1), ((1, 0, 2), 1), ((0, 2, 1), 2), ((0, 0, 1, 2), 2)]
)
def test_a_head_that_is_missing_or_moved_is_named(
    db: sqlite3.Connection, tmp_path: Path, order: tuple[int, ...], first_wrong: int
) -> None:
    """Each line is signed with its place: none can be taken out, exchanged or doubled."""
    head = None
    for _ in range(3):
        fill(db, 2)
        head = export(db, tmp_path, head)
    path = tmp_path / HEADS_FILE
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[index] for index in order))

    verdict = judge(db, tmp_path)

    assert verdict.first_bad is not None
    assert f"line {first_wrong} of the signed heads was written as line" in (verdict.reason or "")


@pytest.mark.parametrize("line", [b"rubbish", b'{"sequence":1,"hash":"\xff"}'], ids=["no JSON", "no UTF-8"])
def test_a_damaged_whole_last_line_is_no_torn_line(
    db: sqlite3.Connection, tmp_path: Path, line: bytes
) -> None:
    """A crash leaves a line without its end; a line that has one was damaged."""
    fill(db)
    (tmp_path / HEADS_FILE).write_bytes(line + b"\n")

    with pytest.raises(StorageError, match="line 1, is damaged"):
        judge(db, tmp_path)


def test_a_heads_file_that_cannot_be_read_or_written_is_named(db: sqlite3.Connection, tmp_path: Path) -> None:
    """Here: because it is a directory."""
    fill(db)
    (tmp_path / HEADS_FILE).mkdir()

    with pytest.raises(StorageError, match="cannot be read"):
        judge(db, tmp_path)
    with pytest.raises(StorageError, match="cannot be read"):
        export(db, tmp_path)


def test_a_long_log_takes_no_more_memory_to_verify_than_a_short_one(
    db: sqlite3.Connection, tmp_path: Path
) -> None:
    """Only the hashes that a head names are kept: the doctor verifies logs of years in its own process."""
    peaks = []
    fill(db, 2200)
    judge(db, tmp_path)  # what Python keeps of it in its free lists does not count
    for _ in range(2):
        fill(db, 2000)
        export(db, tmp_path)
        tracemalloc.start()
        assert judge(db, tmp_path).first_bad is None
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    assert peaks[1] - peaks[0] < 16_000  # bytes; a hash of each entry would be 64,000


def test_a_head_that_is_written_meanwhile_is_no_cut_log(
    db: sqlite3.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry and its head come while a running doctor verifies: whichever is read first, the entry must be there."""
    fill(db)
    read = heads.read

    def meanwhile(directory: Path) -> list[Head]:
        fill(db, 1)
        export(db, tmp_path)
        return read(directory)

    monkeypatch.setattr(heads, "read", meanwhile)
    verdict = judge(db, tmp_path)

    assert (verdict.first_bad, verdict.entries, verdict.heads) == (None, 6, 1)


def test_verify_file_opens_a_connection_of_its_own(db: sqlite3.Connection, tmp_path: Path) -> None:
    """For a thread of its own."""
    fill(db)

    verdict = audit.verify_file(tmp_path / "doctor.db", tmp_path, KEY.public, KEY.algorithm)

    assert verdict.entries == 5

"""Flipped bits in whatever rests on a disk: each is found and named, or it changes nothing that anybody reads."""

from __future__ import annotations

import random
import secrets
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from doctor import audit, facts, heads, keyring
from doctor.audit import Action
from doctor.database import MIGRATIONS
from doctor.heads import HEADS_FILE
from doctor.journal import JOURNAL_FILE, Journal
from doctor.reports import Reports
from shared.errors import StorageError, TelemedError
from shared.protocol.doctor_handshake import Standing
from shared.storage import checksums
from shared.storage.sealed import Sealer
from shared.storage.sqlite import open_database, open_reader
from shared.wire.messages import Report, ReportKind
from tests.doctor_bench import EVERYONE, Books

FLIPS = 30


class Rest:
    """Everything of a small doctor that rests on a disk, and what somebody reads there who trusts nothing."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.database = directory / "doctor.db"
        with closing(open_database(self.database, MIGRATIONS)) as db:
            self._fill(Books(db, directory))
        with closing(open_database(self.database, MIGRATIONS)):
            pass  # closing the last connection empties the log

    def _fill(self, books: Books) -> None:
        db, keys = books.db, books.keys
        journal = Journal(self.directory, keys.storage)
        journal.compare(db)
        for patient in ("anna", "bert", "eve"):
            books.enrol(patient)
        for number in range(5):
            books.acknowledge("anna", books.accept(f"message {number} " * 40).number)
        report = Report(secrets.token_bytes(16), ReportKind.REPLY, books.now, b"better")
        Reports(books.sealer, 10).store(db, "anna", report, books.now)
        books.invite("carl")
        books.depart("eve", Standing.REVOKED)
        journal.complete(db)
        facts.write(db, books.sealer, facts.require_owner(db, books.sealer, "doctor", keys))
        facts.write(db, books.sealer, facts.require_schema(db, books.sealer))
        for _ in range(3):
            books.note(Action.STARTED, "doctor")
            heads.export(db, self.directory, keys.identity, books.now, None)

    def read(self) -> list[object]:
        """Open everything, hold it against each other, and return all that it says. Raises TelemedError for what is damaged."""
        keys = keyring.load(self.directory / "state")
        sealer, identity = Sealer(keys.storage, secrets.token_bytes), keys.identity
        with closing(open_database(self.database, MIGRATIONS)) as db:
            facts.require_owner(db, sealer, "doctor", keys)
            facts.require_schema(db, sealer)
            lost = Journal(self.directory, keys.storage).compare(db)
            verdict = audit.verify(db, self.directory, identity.public, identity.algorithm)
            if lost or verdict.reason is not None:
                raise StorageError(f"{lost or verdict.reason}")
            return [keys.public, *self._contents(db, sealer)]

    def _contents(self, db: sqlite3.Connection, sealer: Sealer) -> list[object]:
        found: list[object] = []
        for (table,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name"):
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            plain = [name for name in columns if name not in {"body", "secret", "answer", "value"}]
            found += sorted(db.execute(f"SELECT {', '.join(plain)} FROM {table}").fetchall(), key=repr)
        found += [
            sealer.open("messages", "body", f"{EVERYONE}/{number}".encode(), body)
            for number, body in db.execute("SELECT number, body FROM messages")
        ]
        found += Reports(sealer, 10).of_patient(db, "anna", 10)
        return found


@pytest.fixture(scope="module")
def rest(tmp_path_factory: pytest.TempPathFactory) -> Rest:
    """A doctor's files, whole."""
    return Rest(tmp_path_factory.mktemp("rest"))


@pytest.mark.parametrize(
    "name", ["doctor.db", JOURNAL_FILE, HEADS_FILE, "state/keys/storage.key", "state/keys/ecdsa-p256.key"]
)
def test_a_flipped_bit_is_named_or_changes_nothing(
    rest: Rest, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At random places of each file, from a seed that stands here."""
    # SQLite is asked to sync three hundred times here, and nothing depends on it.
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
    whole, chance, named = rest.read(), random.Random(name), 0
    path = rest.directory / name
    honest = path.read_bytes()
    for _ in range(FLIPS):
        at, bit = chance.randrange(len(honest)), 1 << chance.randrange(8)
        path.write_bytes(honest[:at] + bytes([honest[at] ^ bit]) + honest[at + 1 :])
        for left in rest.directory.glob("doctor.db[-.]*"):
            left.unlink()
        others = {
            file: file.read_bytes() for file in (rest.directory / JOURNAL_FILE, rest.database) if file != path
        }
        try:
            found = rest.read()
        except TelemedError:
            named += 1
        else:
            assert found == whole, f"byte {at}, bit {bit}"
        finally:
            path.write_bytes(honest)
            for file, content in others.items():
                file.write_bytes(content)

    assert named  # most of an almost empty database is room that nothing stands in
    assert rest.read() == whole


def _damage(path: Path, change: str) -> None:
    """Change a row behind SQLite's back: without the function, a checksum cannot follow."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.create_function("row_checksum", -1, lambda *_: b"8 bytes.", deterministic=True)
        db.execute(change)


CHANGES = {
    "a revoked patient is welcome": (
        "UPDATE patients SET standing = 'active' WHERE patient_id = 'eve'",
        "patients",
    ),
    "a message counts as delivered": ("UPDATE memberships SET delivered = delivered + 1", "memberships"),
    "a membership begins elsewhere": ("UPDATE memberships SET start = start + 1", "memberships"),
    "a stream goes back": ("UPDATE streams SET last = last - 1", "streams"),
    "a message never expires": ("UPDATE messages SET expires = expires * 2", "messages"),
    "an invitation has more uses": ("UPDATE invitations SET uses_left = 99", "invitations"),
    "a group's epoch goes back": ("UPDATE groups SET epoch = epoch - 1", "groups"),
    "a report is of another kind": ("UPDATE reports SET kind = 1", "reports"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_row_that_means_something_else_is_named_by_its_table(rest: Rest, tmp_path: Path, name: str) -> None:
    """Every value in it is one that its column can hold: only the checksum tells."""
    statement, table = CHANGES[name]
    copy = tmp_path / "doctor.db"
    shutil.copy2(rest.database, copy)
    _damage(copy, statement)

    with pytest.raises(StorageError, match=f"a row of {table} is damaged, it begins with .*restore"):
        open_database(copy, MIGRATIONS)


def test_a_changed_rule_is_named(rest: Rest, tmp_path: Path) -> None:
    """What a column may hold stands in the file as a text."""
    copy = tmp_path / "doctor.db"
    shutil.copy2(rest.database, copy)
    copy.write_bytes(
        copy.read_bytes().replace(b"'removed', 'retired', 'revoked'", b"'removed', 'retired', 'revokee'")
    )
    keys = keyring.load(rest.directory / "state")

    with closing(open_reader(copy)) as db, pytest.raises(StorageError, match="definitions of the tables"):
        facts.require_schema(db, Sealer(keys.storage, secrets.token_bytes))


def test_a_name_that_is_no_text_is_damage(rest: Rest, tmp_path: Path) -> None:
    """SQLite quotes it in its message, which is no text then either."""
    copy = tmp_path / "doctor.db"
    shutil.copy2(rest.database, copy)
    copy.write_bytes(copy.read_bytes().replace(b"CREATE TABLE facts (", b"CREATE TABLE fac\xe4s ("))

    with pytest.raises(StorageError, match=r"damaged|malformed"):
        open_database(copy, MIGRATIONS)


def test_every_table_but_two_has_checksums(rest: Rest) -> None:
    """The audit log is a chain, facts are sealed as a whole."""
    with closing(open_reader(rest.database)) as db:
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        without = {
            table
            for table in tables
            if "checksum" not in {row[1] for row in db.execute(f"PRAGMA table_xinfo({table})")}
        }
        checked: list[str] = []
        db.set_trace_callback(checked.append)
        checksums.verify(db)

    assert without == {"audit", "facts"}
    assert len([line for line in checked if "row_checksum" in line]) == len(tables) - len(without)


def test_a_checksum_tells_values_apart() -> None:
    """Types, order, boundaries, and nothing at all."""
    values: list[tuple[int | str | bytes | None, ...]] = [
        (),
        ("",),
        (b"",),
        (None,),
        (0,),
        ("0",),
        ("a", "bc"),
        ("ab", "c"),
        ("ab", "c", None),
        ("ä",),
    ]

    assert len({checksums.row_checksum(*each) for each in values}) == len(values)


def test_who_does_not_know_checksums_cannot_write(rest: Rest, tmp_path: Path) -> None:
    """A hand with another program would leave rows that are refused at the next start; it is refused at once."""
    copy = tmp_path / "doctor.db"
    shutil.copy2(rest.database, copy)
    with closing(sqlite3.connect(copy)) as db:
        assert db.execute("SELECT count(*) FROM patients").fetchone() == (3,)
        with pytest.raises(sqlite3.OperationalError, match="row_checksum"):
            db.execute("UPDATE patients SET standing = 'active'")

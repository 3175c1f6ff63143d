"""Backup and restore from the command line: a whole file without keys, and a database that waits for its operator."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import secrets
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from doctor import backup, cli, safekeeping
from doctor.audit import Action
from doctor.database import MIGRATIONS
from doctor.restore import restore
from doctor.stores import UNFINISHED
from shared.errors import StorageError, UserError
from shared.storage import sqlite
from tests.doctor_bench import ME, Doctor, on_a_loop, running, serving_in_a_thread, settings_for, verify_audit


class Pipe(io.TextIOWrapper):
    """A standard stream; a test may make a terminal of it."""


class Shell:
    """Runs `telemed-doctor` as from a shell, for the doctor below a directory."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        monkeypatch.delenv("TELEMED_DOCTOR_CONFIG", raising=False)
        monkeypatch.setenv("TELEMED_DOCTOR_STATE_DIR", str(directory / "state"))
        monkeypatch.setenv("TELEMED_DOCTOR_AUDIT_DIR", str(directory / "audit"))
        monkeypatch.chdir(directory)

    def __call__(self, *arguments: str, stdin: bytes = b"") -> tuple[int, bytes, str]:
        """Exit code, standard output and standard error."""
        out, err = io.BytesIO(), io.StringIO()
        text = Pipe(out, encoding="utf-8", write_through=True)
        with self._monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["telemed-doctor", *arguments])
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
            patch.setattr(sys, "stdout", text)
            patch.setattr(sys, "stderr", err)
            code = cli.main()
        return code, out.getvalue(), err.getvalue()

    def json(self, *arguments: str) -> Any:
        """What a command prints for programs; it must succeed."""
        code, out, err = self(*arguments, "--json")
        assert (code, err) == (0, "")
        return json.loads(out)


@pytest.fixture
def shell(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """The program, for the doctor below `short_dir`."""
    return Shell(short_dir, monkeypatch)


@pytest.fixture
def doctor(short_dir: Path, shell: Shell) -> Iterator[Doctor]:
    """A doctor that serves, with anna enrolled and a message accepted."""
    with serving_in_a_thread(short_dir) as doctor:
        doctor.wait(doctor.device("anna"))
        doctor.wait(doctor.broadcast("take two"))
        yield doctor


def tables(path: Path) -> dict[str, int]:
    """How many rows each table of a database has."""
    with closing(sqlite3.connect(path)) as db:
        names = [row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {name: db.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names}


# Backup


def test_a_backup_is_one_whole_private_file_without_a_key(
    doctor: Doctor, shell: Shell, short_dir: Path
) -> None:
    """It opens as a database, has everything that was committed, and nothing of what stands in keys/."""
    answer = shell.json("backup", "clinic.backup")

    path = short_dir / "clinic.backup"
    data = path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    assert (answer["size"], answer["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert tables(path)["messages"] == 1
    for key in (short_dir / "state" / "keys").iterdir():
        assert key.read_bytes() not in data
    assert b"take two" not in data
    with closing(sqlite.open_reader(short_dir / "state" / "doctor.db")) as db:
        (noted,) = db.execute(
            "SELECT object, detail FROM audit WHERE action = ?", (Action.BACKUP_MADE.value,)
        ).fetchall()
    assert noted == ("database", f"up to entry {answer['entry']}, SHA-256 {answer['sha256']}")
    assert list((short_dir / "state").glob(f"{UNFINISHED}*")) == []
    assert list(short_dir.glob(".clinic*")) == []


def test_a_backup_goes_to_standard_output(doctor: Doctor, shell: Shell) -> None:
    """As through `docker compose exec -T`: the bytes alone; what it is stands on standard error."""
    code, out, err = shell("backup", "-", "--json")

    assert code == 0
    assert out.startswith(b"SQLite format 3\x00")
    assert json.loads(err)["sha256"] == hashlib.sha256(out).hexdigest()


def test_a_backup_overwrites_nothing_unless_told_to(doctor: Doctor, shell: Shell, short_dir: Path) -> None:
    """And says how."""
    path = short_dir / "clinic.backup"
    path.write_bytes(b"precious")

    code, _, err = shell("backup", "clinic.backup")
    assert (code, err) == (1, "telemed-doctor: clinic.backup exists; name another file, or say --force.\n")
    assert path.read_bytes() == b"precious"

    assert shell("backup", "clinic.backup", "--force")[0] == 0
    assert path.read_bytes().startswith(b"SQLite")


def test_a_file_that_came_meanwhile_is_not_overwritten(short_dir: Path) -> None:
    """Between the question and the last step."""
    path = short_dir / "clinic.backup"

    def write() -> None:
        with safekeeping._whole_file(path, force=False) as file:
            file.write(b"backup")
            path.write_bytes(b"precious")

    with pytest.raises(UserError, match="exists"):
        write()

    assert path.read_bytes() == b"precious"
    assert list(short_dir.iterdir()) == [path]


def test_a_backup_that_cannot_be_written_leaves_nothing(
    doctor: Doctor, shell: Shell, short_dir: Path
) -> None:
    """The directory is missing; half of it was written; what has come is not what was sent."""
    code, _, err = shell("backup", "missing/clinic.backup")
    assert (code, err) == (
        1,
        "telemed-doctor: missing/clinic.backup was not written: No such file or directory\n",
    )

    def write() -> None:
        with safekeeping._whole_file(short_dir / "half", force=False) as file:
            file.write(b"half")
            raise OSError(28, "No space left on device")

    with pytest.raises(StorageError, match="No space left"):
        write()
    assert not list(short_dir.glob("*half*"))


def test_what_is_not_what_was_sent_is_no_backup(
    doctor: Doctor, shell: Shell, short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The digest is compared before the file gets its name."""
    monkeypatch.setattr(safekeeping, "BACKUP_DIGEST", "Date")

    code, _, err = shell("backup", "clinic.backup")

    assert code == 1
    assert "what has come is not what the doctor has sent" in err
    assert not (short_dir / "clinic.backup").exists()


@on_a_loop
async def test_without_room_there_is_no_backup_and_the_doctor_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A typed refusal; what was written of it is taken away; the log has no entry of it."""

    def refuse(db: sqlite3.Connection, target: Path, check: bool = False) -> None:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    async with running(tmp_path) as doctor:
        with monkeypatch.context() as patch:
            patch.setattr(sqlite, "_copy_into", refuse)
            with pytest.raises(StorageError, match="No space left on device"):
                await doctor.gateway.commands.back_up(ME)
        assert list((tmp_path / "state").glob(f"{UNFINISHED}*")) == []
        assert doctor.audited(Action.BACKUP_MADE) == []

        made = await doctor.gateway.commands.back_up(ME)
        assert b"".join([chunk async for chunk in made.chunks()]).startswith(b"SQLite")
        assert len(doctor.audited(Action.BACKUP_MADE)) == 1


@on_a_loop
async def test_a_backup_that_cannot_be_audited_is_not_handed_over(tmp_path: Path) -> None:
    """The database takes no entry: then there is no backup either."""
    async with running(tmp_path) as doctor, doctor.refusing_disk():
        with pytest.raises(StorageError, match="not accepted"):
            await doctor.gateway.commands.back_up(ME)


@on_a_loop
async def test_backups_are_made_while_messages_are_accepted(tmp_path: Path) -> None:
    """Each is a state that was committed: as many messages as its audit log accounts for."""
    async with running(tmp_path) as doctor:
        accepting = asyncio.gather(*(doctor.broadcast(f"{number}") for number in range(60)))
        made = [await doctor.gateway.commands.back_up(ME) for _ in range(3)]
        await accepting
    for number, each in enumerate(made):
        path = tmp_path / f"{number}.backup"
        path.write_bytes(b"".join([chunk async for chunk in each.chunks()]))
        with closing(sqlite3.connect(path)) as db:
            (messages,) = db.execute("SELECT count(*) FROM messages").fetchone()
            (entries,) = db.execute(
                "SELECT count(*) FROM audit WHERE action = 'broadcast-accepted'"
            ).fetchone()
        assert messages == entries


@on_a_loop
async def test_what_a_killed_doctor_left_of_a_backup_is_taken_away(tmp_path: Path) -> None:
    """At the next start."""
    async with running(tmp_path):
        pass
    left = tmp_path / "state" / f"{UNFINISHED}abc"
    left.write_bytes(b"half")

    async with running(tmp_path):
        assert not left.exists()


# Restore


async def _make(directory: Path) -> Path:
    """A doctor with anna, a backup of it, and a message that the backup does not have."""
    path = directory / "clinic.backup"
    async with running(directory) as doctor:
        await doctor.device("anna")
        await doctor.broadcast("before")
        made = await doctor.gateway.commands.back_up(ME)
        path.write_bytes(b"".join([chunk async for chunk in made.chunks()]))
        await doctor.broadcast("lost")
    return path


def put(directory: Path, path: Path) -> Path:
    """Restore; where the former database is."""
    with path.open("rb") as source:
        return Path(restore(settings_for(directory), source, path.name).aside or "nowhere")


@on_a_loop
async def test_a_restored_backup_waits_for_its_operator_even_if_nothing_outside_tells(tmp_path: Path) -> None:
    """The mark is in the database: an audit volume that is lost as well does not hide the restore."""
    path = await _make(tmp_path)
    aside = put(tmp_path, path)
    assert tables(aside)["messages"] == 2
    for file in (tmp_path / "audit").iterdir():
        file.unlink()

    async with running(tmp_path) as doctor:
        state = doctor.gateway.commands.restore_state()
        assert not doctor.gateway.ready
        assert state.cause == "restored from clinic.backup by the operator"
        assert len(doctor.audited(Action.RESTORE_FOUND)) == 1
        await doctor.gateway.commands.confirm_restore(ME)
        await doctor.broadcast("after")
    assert verify_audit(tmp_path).first_bad is None
    assert tables(tmp_path / "state" / "doctor.db")["messages"] == 2


@on_a_loop
async def test_a_restore_without_the_right_storage_key_fails_by_name(tmp_path: Path) -> None:
    """Another key, and no key at all; the database in place is what it was."""
    path = await _make(tmp_path)
    key = tmp_path / "state" / "keys" / "storage.key"
    right, before = key.read_bytes(), (tmp_path / "state" / "doctor.db").read_bytes()
    key.write_bytes(secrets.token_bytes(32))
    with pytest.raises(UserError, match=r"rests under another storage key than keys/storage\.key"):
        put(tmp_path, path)
    key.unlink()
    with pytest.raises(UserError, match=r"keys/storage\.key missing: the database cannot be used without"):
        put(tmp_path, path)

    assert (tmp_path / "state" / "doctor.db").read_bytes() == before
    assert list((tmp_path / "state").glob(f"{UNFINISHED}*")) == []
    key.write_bytes(right)
    key.chmod(0o600)
    put(tmp_path, path)


@on_a_loop
async def test_a_doctor_does_not_start_on_a_database_of_another_key(tmp_path: Path) -> None:
    """And makes no new one beside a database that exists."""
    async with running(tmp_path):
        pass
    keys = tmp_path / "state" / "keys"
    for name, complaint in (
        ("storage.key", "rests under another storage key"),
        ("ecdsa-p256.key", "ECDSA_P256 key .* is not the one"),
    ):
        right = (keys / name).read_bytes()
        (keys / name).unlink()
        with pytest.raises(UserError, match=f"keys/{name} missing"):
            async with running(tmp_path):
                raise AssertionError("it started")
        assert not (keys / name).exists()
        async with running(tmp_path / "other"):
            pass
        (keys / name).write_bytes((tmp_path / "other" / "state" / "keys" / name).read_bytes())
        (keys / name).chmod(0o600)
        with pytest.raises(UserError, match=complaint):
            async with running(tmp_path):
                raise AssertionError("it started")
        (keys / name).write_bytes(right)
    async with running(tmp_path) as doctor:
        assert doctor.gateway.ready


@on_a_loop
async def test_another_doctors_backup_is_refused(tmp_path: Path) -> None:
    """By its name, under the same storage key."""
    path = await _make(tmp_path)
    settings = settings_for(tmp_path, doctor_id="house")

    with path.open("rb") as source, pytest.raises(UserError, match=r"the doctor 'doctor', not of 'house'"):
        restore(settings, source, path.name)


def _flip(data: bytes) -> bytes:
    at = data.index(b"CREATE TABLE facts")
    return data[:at] + b"\x00" * 64 + data[at + 64 :]


@on_a_loop
async def test_what_is_no_whole_backup_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    """Cut short, damaged, empty, something else, from the future, or with another history."""
    path = await _make(tmp_path)
    whole = path.read_bytes()
    before = (tmp_path / "state" / "doctor.db").read_bytes()
    newer = tmp_path / "newer"
    newer.write_bytes(whole)
    with closing(sqlite3.connect(newer)) as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    changed = tmp_path / "changed"
    changed.write_bytes(whole)
    with closing(sqlite3.connect(changed, isolation_level=None)) as db:
        db.execute("UPDATE audit SET actor = 'nobody' WHERE sequence = 3")
    bad = {
        "malformed|damaged|not a database": [whole[: len(whole) // 2], _flip(whole), b"no database" * 100],
        "is empty": [b""],
        "a newer release wrote it": [newer.read_bytes()],
        "entry 3 was changed": [changed.read_bytes()],
    }
    for complaint, contents in bad.items():
        for content in contents:
            path.write_bytes(content)
            with pytest.raises((UserError, StorageError), match=complaint):
                put(tmp_path, path)

    assert (tmp_path / "state" / "doctor.db").read_bytes() == before
    assert [file.name for file in (tmp_path / "state").iterdir() if "doctor.db" in file.name] == ["doctor.db"]


def test_a_running_doctors_database_is_not_replaced(doctor: Doctor, shell: Shell, short_dir: Path) -> None:
    """It says that the doctor has to be stopped."""
    assert shell("backup", "clinic.backup")[0] == 0

    code, _, err = shell("restore", "clinic.backup")

    assert code == 1
    assert "Another doctor is running" in err


@on_a_loop
async def test_a_damaged_database_is_kept_aside_with_its_log(tmp_path: Path) -> None:
    """It is what a restore is for; and its log must not be taken for the new one's."""
    path = await _make(tmp_path)
    database = tmp_path / "state" / "doctor.db"
    database.write_bytes(b"damaged")
    database.with_name("doctor.db-wal").write_bytes(b"log")

    aside = put(tmp_path, path)

    assert aside.read_bytes() == b"damaged"
    assert aside.with_name(f"{aside.name}-wal").read_bytes() == b"log"
    assert not database.with_name("doctor.db-wal").exists()
    async with running(tmp_path) as doctor:
        assert not doctor.gateway.ready


def test_the_whole_way_from_the_command_line(shell: Shell, short_dir: Path) -> None:
    """Back up, lose, restore, look, say no, say yes."""
    with serving_in_a_thread(short_dir) as doctor:
        doctor.wait(doctor.device("anna"))
        assert shell("backup", "clinic.backup")[0] == 0
        doctor.wait(doctor.device("bert"))
        doctor.wait(doctor.gateway.commands.revoke("anna", ME))
    backup_bytes = (short_dir / "clinic.backup").read_bytes()
    code, out, _ = shell("restore", "-", stdin=backup_bytes)
    assert code == 0
    assert b"standard input, up to audit entry" in out

    with serving_in_a_thread(short_dir) as doctor:
        code, _, err = shell("broadcast", "x")
        assert code == 1
        assert "nobody has confirmed it" in err
        code, out, err = shell("confirm-restore", stdin=b"n\n")
        assert code == 1
        assert "Nothing was changed" in err
        shown = out.decode()
        assert "Revoked since, and revoked again: anna." in shown
        assert "Enrolled since, and unknown now: bert." in shown
        assert not doctor.gateway.ready

        answer = shell.json("confirm-restore", "--yes")
        assert answer["confirmed"]
        assert "group:everyone" in [gap["stream"] for gap in answer["gaps"]]
        assert shell("broadcast", "x")[0] == 0
        assert shell("confirm-restore", "--json")[0] == 2


def test_a_person_sees_how_far_it_is_and_says_yes(
    shell: Shell, short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal; and who has nothing to confirm is told so."""
    monkeypatch.setattr(safekeeping, "ERRORS", Console(file=io.StringIO(), force_terminal=True))
    with serving_in_a_thread(short_dir) as doctor:
        assert shell("backup", "clinic.backup")[0] == 0
        code, _, err = shell("confirm-restore")
        assert (code, err) == (1, "telemed-doctor: No restored database waits to be confirmed.\n")
        doctor.wait(doctor.broadcast("lost"))
    assert shell("restore", "clinic.backup")[0] == 0
    with serving_in_a_thread(short_dir):
        code, out, _ = shell("confirm-restore", stdin=b"y\n")
        assert code == 0
        assert "The doctor accepts, admits and delivers again" in out.decode()
        code, out, _ = shell("audit", "verify")
        assert (code, b"records a confirmed restore" in out.replace(b"\n", b" ")) == (0, True)


def test_restore_names_what_it_cannot_read(shell: Shell) -> None:
    """A file that is not there."""
    code, _, err = shell("restore", "nothing")

    assert (code, err) == (1, "telemed-doctor: nothing cannot be read: No such file or directory.\n")


def test_a_backup_is_not_sent_to_a_terminal(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be unreadable, and the terminal afterwards too."""
    monkeypatch.setattr(Pipe, "isatty", lambda _: True)

    code, _, err = shell("backup", "-")

    assert code == 1
    assert "backup - > FILE" in err


def test_chunks_close_the_file(tmp_path: Path) -> None:
    """Once they are read."""
    path = tmp_path / "file"
    path.write_bytes(b"x")
    made = backup.Backup(path.open("rb"), 1, "", 0)

    async def read() -> list[bytes]:
        return [chunk async for chunk in made.chunks()]

    assert asyncio.run(read()) == [b"x"]
    assert made.file.closed

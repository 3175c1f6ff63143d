"""The console's operators: made, listed and removed by whoever runs the doctor; the first one makes itself."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from doctor import operators
from doctor.audit import Action
from doctor.console.passwords import Hasher
from doctor.idempotency import Origin
from doctor.operators import ConsolePlace
from doctor.settings import console_directory
from shared.errors import StorageError, UserError
from tests.console_bench import CHEAP
from tests.doctor_bench import ME, Doctor, on_a_loop, running, verify_audit


def cheap(doctor: Doctor) -> Doctor:
    """A doctor whose passwords cost nothing."""
    doctor.gateway.commands.hasher = Hasher(CHEAP)
    return doctor


def everything(directory: Path) -> bytes:
    """All that is in the files below a directory."""
    return b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())


@on_a_loop
async def test_the_first_operator_is_made_once(tmp_path: Path) -> None:
    """Its password waits in a private file, and for a person alone; a second start makes none."""
    place = console_directory(str(tmp_path / "state")) / "first-password"
    for start in range(2):
        async with running(tmp_path) as doctor:
            commands = cheap(doctor).gateway.commands
            with pytest.raises(UserError, match="console_port is null"):
                commands.console_place()
            made = await commands.provide_first_operator()
            commands.console = ConsolePlace("http://127.0.0.1:8080/", None)
            assert (made is None) == (start == 1)
            if made is not None:
                assert (made.name, commands.console_place().first_password) == ("admin", made.password)
                assert place.stat().st_mode & 0o777 == 0o600
                account = commands.account("admin")
                assert account is not None
                assert await commands.hasher.verify(made.password, account.secret)
            assert commands.first_password() == place.read_text()
    place.chmod(0o644)
    async with running(tmp_path) as doctor:
        with pytest.raises(UserError, match="chmod 600"):
            doctor.gateway.commands.first_password()


@pytest.mark.parametrize("refusing", ["file", "database"])
@on_a_loop
async def test_whatever_refuses_the_first_operator_the_next_start_makes_it(
    refusing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a crash between the two: the account and the file of its password are both there, or both made anew."""

    def full(*_: object) -> None:
        raise StorageError("the disk is full")

    async with running(tmp_path) as doctor:
        commands = cheap(doctor).gateway.commands
        async with AsyncExitStack() as disk:
            if refusing == "file":
                disk.enter_context(monkeypatch.context()).setattr(operators, "write_private", full)
            else:
                await disk.enter_async_context(doctor.refusing_disk())
            with pytest.raises(StorageError):
                await commands.provide_first_operator()
        assert commands.list_operators() == []
    async with running(tmp_path) as doctor:
        commands = cheap(doctor).gateway.commands
        made = await commands.provide_first_operator()
        account = commands.account("admin")
        assert made is not None
        assert account is not None
        assert commands.first_password() == made.password
        assert await commands.hasher.verify(made.password, account.secret)


@on_a_loop
async def test_a_new_password_takes_the_first_one_away(tmp_path: Path) -> None:
    """Its file too; another operator's does not."""
    async with running(tmp_path) as doctor:
        commands = cheap(doctor).gateway.commands
        await commands.provide_first_operator()
        await commands.add_operator("bea", ME)
        await commands.reset_password("bea", ME)
        assert commands.first_password() is not None
        before = commands.version("admin")
        again = await commands.reset_password("admin", ME)
        assert commands.first_password() is None
        assert commands.version("admin") != before
        assert again.name == "admin"
        await commands.remove_operator("admin", ME)
        assert [each.name for each in commands.list_operators()] == ["bea"]


@on_a_loop
async def test_every_change_is_in_the_audit_log_and_no_password_is_anywhere(tmp_path: Path) -> None:
    """Neither in the database's file nor in the log."""
    async with running(tmp_path) as doctor:
        commands = cheap(doctor).gateway.commands
        bea = await commands.add_operator("bea", Origin("operator", "a key"))
        await commands.add_operator("carl", Origin("operator", "a key"))
        again = await commands.reset_password("bea", Origin("operator"))
        await commands.remove_operator("carl", Origin("operator"))
        rows = doctor.reader.execute(
            "SELECT actor, action, object FROM audit WHERE object IN ('bea', 'carl') ORDER BY sequence"
        ).fetchall()
        assert rows == [
            ("operator", Action.OPERATOR_ADDED.value, "bea"),
            ("operator", Action.OPERATOR_ADDED.value, "carl"),
            ("operator", Action.PASSWORD_CHANGED.value, "bea"),
            ("operator", Action.OPERATOR_REMOVED.value, "carl"),
        ]
    assert verify_audit(tmp_path).first_bad is None
    stored = everything(tmp_path)
    for secret in (bea.password.encode(), again.password.encode(), b"argon2id"):
        assert secret not in stored


@on_a_loop
async def test_what_cannot_be_done_is_said(tmp_path: Path) -> None:
    """A name that is taken, none, or somebody's who acts already; an operator that is not there; the last one."""
    async with running(tmp_path) as doctor:
        commands = cheap(doctor).gateway.commands
        await commands.add_operator("bea", ME)
        for name in ("", "B", "a b", "x" * 33, "operator", "gateway", "timer"):
            with pytest.raises(UserError, match="cannot be an operator's name"):
                await commands.add_operator(name, ME)
        with pytest.raises(UserError, match="There is an operator 'bea' already"):
            await commands.add_operator("bea", ME)
        with pytest.raises(UserError, match="There is no operator 'carl'"):
            await commands.reset_password("carl", ME)
        with pytest.raises(UserError, match="There is no operator 'carl'"):
            await commands.remove_operator("carl", ME)
        with pytest.raises(UserError, match="the last operator"):
            await commands.remove_operator("bea", ME)
        with pytest.raises(UserError, match="12 to 256 characters"):
            await commands.change_password("bea", "short", ME)


@on_a_loop
async def test_a_damaged_hash_opens_nothing(tmp_path: Path) -> None:
    """It is said, and a new password mends it."""
    async with running(tmp_path) as doctor:
        commands = cheap(doctor).gateway.commands
        await commands.add_operator("bea", ME)
        sealed = commands._office.sealer.seal("operators", "secret", b"bea", b"\xff\xfe")
        await doctor.writer.submit(lambda db: db.execute("UPDATE operators SET secret = ?", (sealed,)))
        with pytest.raises(StorageError, match="the password of bea is damaged"):
            commands.account("bea")
        await commands.reset_password("bea", ME)
        assert commands.account("bea") is not None


@on_a_loop
async def test_an_older_database_brings_no_operator_back(tmp_path: Path) -> None:
    """Nor a password that was changed since: the next start makes the first one anew, and the log says who is gone."""
    database = tmp_path / "state" / "doctor.db"
    async with running(tmp_path) as doctor:
        await cheap(doctor).gateway.commands.add_operator("bea", ME)
        await cheap(doctor).gateway.commands.add_operator("carl", ME)
    copy = database.read_bytes()
    async with running(tmp_path) as doctor:
        await doctor.gateway.commands.remove_operator("bea", ME)
        doctor.gateway.witness.sign()
    database.write_bytes(copy)

    async with running(tmp_path) as doctor:
        commands = cheap(doctor).gateway.commands
        assert commands.restored
        assert commands.list_operators() == []
        assert (await commands.provide_first_operator()) is not None
        gone = doctor.reader.execute(
            "SELECT object FROM audit WHERE action = 'operator-removed' ORDER BY object"
        )
        assert gone.fetchall() == [("bea",), ("carl",)]

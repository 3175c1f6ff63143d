"""The console's operators: who may log in. Orders about them come from the command line, the password alone from the console too.

Law: a password's hash rests sealed; the password itself is answered once and rests nowhere but in the file of the first one, which
goes away with the first login. An order here is not repeated by its Idempotency-Key: its answer is a secret that is not kept.
"""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from doctor import audit, groups
from doctor.answers import ConsoleAnswer, OperatorAnswer, PasswordAnswer
from doctor.audit import Action
from doctor.console import passwords
from doctor.console.passwords import Hasher
from doctor.desk import Desk, Office
from doctor.idempotency import Origin
from doctor.settings import console_directory
from shared.errors import StorageError, UserError
from shared.net.stream import clock
from shared.storage.keyfile import private_directory, read_private, write_private
from shared.storage.sealed import Sealer

FIRST_OPERATOR = "admin"
FIRST_PASSWORD_FILE = "first-password"  # noqa: S105  a file's name
RESERVED = frozenset({"operator", "gateway", "timer"})  # who else acts in the audit log
LONGEST_NAME = 32


@dataclass(frozen=True, slots=True)
class Account:
    """An operator: `version` changes with the password. `secret`: the hash."""

    name: str
    secret: str
    version: int


@dataclass(frozen=True, slots=True)
class ConsolePlace:
    """Where the console is served, and the SHA-256 of its certificate, if it has one."""

    address: str
    certificate: str | None


class Operators(Desk):
    """Accounts of the console. `console` is where that is served; None: nowhere."""

    def __init__(self, office: Office) -> None:
        super().__init__(office)
        self.hasher = Hasher()
        self.console: ConsolePlace | None = None

    def account(self, name: str) -> Account | None:
        """An operator's account, if there is one.

        Raises:
            StorageError: its hash does not open.
        """
        return read_account(self.reader, self._office.sealer, name)

    def version(self, name: str) -> int | None:
        """The account's version; None: there is no such account."""
        row = self.reader.execute("SELECT changed FROM operators WHERE name = ?", (name,)).fetchone()
        return None if row is None else int(row[0])

    def list_operators(self) -> list[OperatorAnswer]:
        """All operators."""
        rows = self.reader.execute("SELECT name, created, changed FROM operators ORDER BY name")
        return [OperatorAnswer(*row) for row in rows]

    async def add_operator(self, name: str, origin: Origin) -> PasswordAnswer:
        """Make an account with a password of our choice, which is told once.

        Raises:
            UserError: the name is taken or not a name. StorageError: nothing has happened.
        """
        if not groups.is_name(name) or len(name) > LONGEST_NAME or name in RESERVED:
            raise UserError(
                f"{name!r} cannot be an operator's name: use 1 to {LONGEST_NAME} of a-z, 0-9, '.', '_' and '-',"
                f" a letter or digit first, and none of {', '.join(sorted(RESERVED))}."
            )
        password = passwords.generate()
        await self._add(name, password, origin)
        return PasswordAnswer(name, password)

    async def _add(self, name: str, password: str, origin: Origin) -> None:
        secret = await self._hashed(password)
        now = clock().wall

        def work(db: sqlite3.Connection) -> None:
            if db.execute("SELECT 1 FROM operators WHERE name = ?", (name,)).fetchone():
                raise UserError(f"There is an operator {name!r} already.")
            db.execute(
                "INSERT INTO operators VALUES (?, ?, ?, ?)", (name, self._sealed(name, secret), now, now)
            )
            audit.append(db, now, origin.actor, Action.OPERATOR_ADDED, name)

        await self._office.writer.submit(work)

    async def reset_password(self, name: str, origin: Origin) -> PasswordAnswer:
        """Give an operator a new password of our choice; ends its logins.

        Raises:
            UserError: no such operator. StorageError: nothing has happened.
        """
        password = passwords.generate()
        await self.change_password(name, password, origin)
        return PasswordAnswer(name, password)

    async def change_password(
        self, name: str, password: str, origin: Origin, verified: int | None = None
    ) -> int:
        """Give an operator this password; ends its logins. Returns the account's new version.

        `verified`: the version whose password was shown for this; None: nobody's, by order of who runs the doctor.

        Raises:
            UserError: no such operator, the password is too short, or it is no longer that version. StorageError: nothing has happened.
        """
        passwords.require_good(password)
        secret = await self._hashed(password)
        now = clock().wall

        def work(db: sqlite3.Connection) -> int:
            row = db.execute("SELECT changed FROM operators WHERE name = ?", (name,)).fetchone()
            if row is None:
                raise _unknown(name)
            # Here and no sooner: hashing takes its time, and a reset that came meanwhile is to keep out who knows the old password.
            if verified is not None and row[0] != verified:
                raise UserError(
                    "The password was changed by somebody else meanwhile, so nothing was done. Log in again."
                )
            # The version has to change even within one millisecond, or by a clock that was put back.
            version = max(now, int(row[0]) + 1)
            db.execute(
                "UPDATE operators SET secret = ?, changed = ? WHERE name = ?",
                (self._sealed(name, secret), version, name),
            )
            audit.append(db, now, origin.actor, Action.PASSWORD_CHANGED, name)
            return version

        version = await self._office.writer.submit(work)
        await self.forget_first_password(name)
        return version

    async def remove_operator(self, name: str, origin: Origin) -> OperatorAnswer:
        """Remove an account; its logins end.

        Raises:
            UserError: no such operator, or it is the last one. StorageError: nothing has happened.
        """
        now = clock().wall

        def work(db: sqlite3.Connection) -> OperatorAnswer:
            row = db.execute(
                "SELECT name, created, changed FROM operators WHERE name = ?", (name,)
            ).fetchone()
            if row is None:
                raise _unknown(name)
            if db.execute("SELECT count(*) FROM operators").fetchone()[0] == 1:
                raise UserError(f"{name} is the last operator; add another one first.")
            db.execute("DELETE FROM operators WHERE name = ?", (name,))
            audit.append(db, now, origin.actor, Action.OPERATOR_REMOVED, name)
            return OperatorAnswer(*row)

        removed = await self._office.writer.submit(work)
        await self.forget_first_password(name)
        return removed

    # The first hour

    def console_place(self) -> ConsoleAnswer:
        """Where the console is, and how to log in for the first time.

        Raises:
            UserError: this doctor serves none.
        """
        if self.console is None:
            raise UserError("This doctor serves no console: console_port is null.")
        return ConsoleAnswer(self.console.address, self.console.certificate, self.first_password())

    async def provide_first_operator(self) -> PasswordAnswer | None:
        """Where there is no operator yet, make one; its password waits in a file for whoever runs this machine.

        Raises:
            StorageError: there is none yet; the next start tries again.
        """
        if self.reader.execute("SELECT 1 FROM operators LIMIT 1").fetchone():
            return None
        password = passwords.generate()
        private_directory(self._first_password.parent)
        # The file first: an account whose password nobody has been told would never be made again. A file without its account is
        # replaced by the next start.
        await asyncio.to_thread(write_private, self._first_password, password.encode())
        await self._add(FIRST_OPERATOR, password, Origin("gateway"))
        return PasswordAnswer(FIRST_OPERATOR, password)

    def first_password(self) -> str | None:
        """The first password, until somebody has logged in with it.

        Raises:
            UserError: others could have read its file.
        """
        try:
            return read_private(self._first_password).decode()
        except StorageError:
            return None

    async def forget_first_password(self, name: str) -> None:
        """Erase the file of the first password: it was used, or is none any more."""
        if name == FIRST_OPERATOR:
            await asyncio.to_thread(self._first_password.unlink, missing_ok=True)

    @property
    def _first_password(self) -> Path:
        return console_directory(self._office.settings.state_dir) / FIRST_PASSWORD_FILE

    async def _hashed(self, password: str) -> str:
        async with self.hasher.turn():
            return await self.hasher.hash(password)

    def _sealed(self, name: str, secret: str) -> bytes:
        return self._office.sealer.seal("operators", "secret", name.encode(), secret.encode())


def read_account(db: sqlite3.Connection, sealer: Sealer, name: str) -> Account | None:
    """An operator's account, if there is one.

    Raises:
        StorageError: its hash does not open, or is none.
    """
    row = db.execute("SELECT secret, changed FROM operators WHERE name = ?", (name,)).fetchone()
    if row is None:
        return None
    secret = sealer.open("operators", "secret", name.encode(), row[0])
    if not secret.isascii():
        raise StorageError(f"operators: the password of {name} is damaged; make a new one")
    return Account(name, secret.decode(), row[1])


def _unknown(name: str) -> UserError:
    return UserError(f"There is no operator {name!r}; `telemed-doctor operators list` shows them.")

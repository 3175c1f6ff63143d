"""The messages of an inbox as whoever shows them reads them, beside a program that may be writing it.

Law: reads, and changes nothing: no schema either.
"""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

from shared.errors import StorageError
from shared.message_ids import message_id
from shared.storage import cells, checksums
from shared.storage.group_commit import advice
from shared.storage.schema import has_tables
from shared.storage.sealed import Sealer
from shared.storage.sqlite import open_reader
from shared.wire.messages import Stream, TargetKind

_ALL = "SELECT kind, name, number, created, received, direct, body FROM messages ORDER BY received, number"
_HEARD = "SELECT kind, name, last FROM heard"


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """One message of the inbox. Times are milliseconds since the Unix epoch; `body` is None where it had expired.

    `receipted`: the doctor has said that it has read this device's receipt of it. A message that was just stored has none yet.
    """

    stream: Stream
    number: int
    created: int
    received: int
    direct: bool
    body: bytes | None = field(repr=False)
    receipted: bool = False

    @property
    def message_id(self) -> str:
        """What people call it."""
        return message_id(self.stream, self.number)


def read(path: Path, sealer: Sealer) -> list[StoredMessage]:
    """All messages of an inbox, in the order in which they came, beside a program that may be writing it.

    Raises:
        StorageError: the database cannot be read, or a body does not open.
        UserError: its mode is refused.
    """
    if not path.exists():  # the device has never run
        return []
    with contextlib.closing(open_reader(path)) as connection:
        try:
            checksums.verify(connection)
            # Without tables: the program that was making them was killed.
            rows = connection.execute(_ALL).fetchall() if has_tables(connection) else []
            heard = {stream_of(kind, name): last for kind, name, last in _heard(connection)}
        except sqlite3.Error as error:
            raise StorageError(f"{path} cannot be read: {error}{advice(error)}") from error
    messages = []
    for kind, name, number, created, received, direct, sealed in rows:
        stream = stream_of(kind, name)
        body = None if sealed is None else sealer.open("messages", "body", cell_of(stream, number), sealed)
        receipted = number <= heard.get(stream, 0)
        messages.append(StoredMessage(stream, number, created, received, bool(direct), body, receipted))
    return messages


def _heard(connection: sqlite3.Connection) -> list[tuple[int, str, int]]:
    """Who reads changes no schema: where an earlier release wrote the inbox, nothing of this is known."""
    known = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'heard'").fetchone()
    return connection.execute(_HEARD).fetchall() if known else []


def stream_of(kind: int, name: str) -> Stream:
    """The stream of a row. Raises StorageError where the row is damaged."""
    return Stream(cells.member(TargetKind, kind, "messages or positions", "kind", name), name)


def cell_of(stream: Stream, number: int) -> bytes:
    """What the seal of a body vouches for."""
    return f"{stream}/{number}".encode()

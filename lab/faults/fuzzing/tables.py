"""Fuzzing of rows: any one cell of a database holds what its column can hold, and everything that reads it is asked.

A database whose pages are whole may still hold anything, after a damaged disk or a clumsy hand. Whoever reads a cell must take it or
refuse it by a typed error that says where it stands.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from doctor import (
    audit,
    clock_check,
    facts,
    groups,
    idempotency,
    operators,
    receipts,
    roster,
    streams,
    thresholds,
)
from doctor.alerts import Alerts
from doctor.answers import GroupAnswer
from doctor.clock_check import ClockAccepted
from doctor.database import MIGRATIONS
from doctor.facts import Confirmed, Owner, Restored, Schema
from doctor.idempotency import OnceOnly, Origin
from doctor.outbox import MessageRequest, Outbox
from doctor.reports import Reports
from doctor.roster import Roster
from doctor.thresholds import Bounds, ThresholdsOrder
from doctor.uptime import Ran
from lab.faults.fuzzing.cast import DAY, DOCTOR, NOW, PATIENT, STREAM, Cast
from lab.faults.fuzzing.subject import Subject
from shared.crypto.signatures import fingerprint
from shared.errors import StorageError, UserError
from shared.storage import cells, checksums
from shared.storage.sealed import Sealer
from shared.vitals import Vitals
from shared.wire.messages import Report, ReportKind

Value: TypeAlias = int | str | bytes | None
Reader: TypeAlias = Callable[[], object]

_CHECKSUM = re.compile(r",[^,\n]*\n\s*checksum BLOB GENERATED ALWAYS AS \(row_checksum\([^)]*\)\) STORED")
"""A row's checksum finds the damage when the database is opened; here the readers behind it are tried, which must not rely on it."""

_SEALED = {
    ("messages", "body"),
    ("invitations", "secret"),
    ("reports", "body"),
    ("answers", "answer"),
    ("operators", "secret"),
    ("alerts", "finding"),
    ("facts", "value"),
}


@dataclass(frozen=True, slots=True)
class _Cell:
    """One cell: its table, column and declared kind, and the row that its seal names."""

    table: str
    column: str
    kind: str
    row: bytes | None


@contextmanager
def opened() -> Iterator[Subject]:
    """A doctor's database with one of everything; the first byte of an input chooses the cell, the second how it is written."""
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        checksums.install(db)
        for script in MIGRATIONS:
            db.executescript(_CHECKSUM.sub("", script))
        db.text_factory = cells.text  # as `shared.storage.sqlite` has it
        db.execute("PRAGMA ignore_check_constraints=ON")
        cast, sealer = Cast(os.urandom), Sealer(bytes(32), os.urandom)
        messages = Outbox(DOCTOR, {cast.envelope_key.algorithm: cast.envelope_key}, sealer, os.urandom)
        rows = _fill(db, cast, sealer, messages)
        places, readers = _places(db, rows), _readers(db, cast, sealer, messages)
        yield Subject(
            lambda data: _attempt(db, places, readers, sealer, data),
            _seeds(db, places),
            lambda: _all_read(readers),
        )


def _fill(db: sqlite3.Connection, cast: Cast, sealer: Sealer, messages: Outbox) -> dict[str, bytes]:
    """One row of everything; for each table with a seal, the row that the seal names."""
    key = cast.patient_key
    now, invitation_id, report_id = NOW.wall, bytes(range(16)), bytes(range(16, 32))
    groups.create(db, groups.EVERYONE, now, "fuzz")
    name = fingerprint(key.algorithm, key.public)
    patient = (PATIENT, key.algorithm, key.public, name, "active", invitation_id, now, now)
    db.execute("INSERT INTO patients VALUES (?, ?, ?, ?, ?, ?, ?, ?)", patient)
    streams.join(db, STREAM, PATIENT)
    secret = sealer.seal("invitations", "secret", invitation_id, bytes(32))
    invitation = (invitation_id, secret, now + DAY, 1, PATIENT, groups.EVERYONE, now)
    db.execute("INSERT INTO invitations VALUES (?, ?, ?, ?, ?, ?, ?)", invitation)
    accepted = messages.accept(db, MessageRequest(STREAM, b"take two", DAY), now, "fuzz")
    db.execute("INSERT INTO expired VALUES (?, ?, ?)", (str(STREAM), accepted.number, PATIENT))
    Reports(sealer, quota=1).store(db, PATIENT, Report(report_id, ReportKind.REPLY, now, b"better"), now)
    _order(db, sealer)
    facts.write(db, sealer, Owner(DOCTOR, {}))
    clock_check.accept(db, sealer, now, "fuzz")
    db.execute("INSERT INTO unconfirmed VALUES (?, ?)", (PATIENT, 1))
    db.execute("INSERT INTO successors VALUES (?, ?)", (invitation_id, bytes(16)))
    thresholds.change(db, PATIENT, ThresholdsOrder(spo2=Bounds(92)), now, "fuzz")
    alerts = Alerts(sealer)
    alerts.watch(db, PATIENT, Vitals(spo2=80), now)
    (alert,) = alerts.find_all(db, None, True, 1)
    hashed = sealer.seal("operators", "secret", b"admin", b"$argon2id$")
    db.execute("INSERT INTO operators VALUES (?, ?, ?, ?)", ("admin", hashed, now, now))
    return {
        "facts": b"owner",
        "messages": f"{STREAM}/{accepted.number}".encode(),
        "invitations": invitation_id,
        "reports": PATIENT.encode() + b"/" + report_id,
        "answers": b"key",
        "operators": b"admin",
        "alerts": str(alert.number).encode(),
    }


def _order(db: sqlite3.Connection, sealer: Sealer) -> object:
    """An order whose answer is kept."""
    return OnceOnly(sealer).carry_out(
        db,
        Origin("fuzz", "key"),
        ("create", "ward"),
        NOW.wall,
        lambda _: "ward",
        lambda name: GroupAnswer(name, 1, []),
    )


def _places(db: sqlite3.Connection, rows: dict[str, bytes]) -> list[_Cell]:
    found = []
    for (table,) in db.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name"
    ).fetchall():
        for _, column, kind, *_ in db.execute(f"PRAGMA table_info({table})").fetchall():
            sealed = rows[table] if (table, column) in _SEALED else None
            found.append(_Cell(table, column, kind, sealed))
    return found


def _readers(db: sqlite3.Connection, cast: Cast, sealer: Sealer, messages: Outbox) -> Sequence[Reader]:
    """Everything that reads the database."""
    number = streams.last_number(db, STREAM)
    key = cast.envelope_key
    nowhere = Path("/nonexistent")
    return (
        lambda: clock_check.require(db, sealer, NOW.wall + DAY),
        lambda: clock_check.behind(db, sealer, NOW.wall - DAY),
        lambda: Roster().load(db, sealer),
        lambda: [messages.load(db, STREAM, 0, number, at, 10) for at in (NOW.wall, NOW.wall + 2 * DAY)],
        lambda: receipts.list_receipts(db, STREAM, number, NOW.wall, {}),
        lambda: roster.list_patients(db),
        lambda: groups.list_groups(db),
        lambda: [each.owed for each in streams.memberships_of(db, PATIENT)],
        lambda: Reports(sealer, quota=1).of_patient(db, PATIENT, 10),
        lambda: _order(db, sealer),
        lambda: [
            facts.read(db, sealer, kind) for kind in (Owner, Schema, Restored, Confirmed, Ran, ClockAccepted)
        ],
        lambda: operators.read_account(db, sealer, "admin"),
        lambda: Alerts(sealer).find_all(db, PATIENT, False, 10),
        lambda: thresholds.load(db, PATIENT),
        lambda: idempotency.forget_older(db, NOW.wall - DAY),
        lambda: audit.verify(db, nowhere, key.public, key.algorithm),
    )


def _attempt(
    db: sqlite3.Connection, places: Sequence[_Cell], readers: Sequence[Reader], sealer: Sealer, data: bytes
) -> None:
    if len(data) < 2:
        return
    cell = places[data[0] % len(places)]
    value = _value(cell, data[1], data[2:], sealer)
    db.execute("BEGIN")
    try:
        try:
            wanted = "CAST(? AS TEXT)" if cell.kind == "TEXT" and value is not None else "?"
            db.execute(f"UPDATE {cell.table} SET {cell.column} = {wanted}", (value,))  # noqa: S608  our own names
        except sqlite3.IntegrityError:
            return  # what the column cannot hold
        for read in readers:
            with contextlib.suppress(StorageError, UserError):
                read()
    finally:
        db.execute("ROLLBACK")


def _value(cell: _Cell, way: int, data: bytes, sealer: Sealer) -> Value:
    if way == 0:
        return None
    if cell.kind == "INTEGER":
        return int.from_bytes(data[:8], "big", signed=True)
    if way == 1 and cell.row is not None:
        return sealer.seal(cell.table, cell.column, cell.row, data)
    return data


def _seeds(db: sqlite3.Connection, places: Sequence[_Cell]) -> list[bytes]:
    seeds = []
    for index, cell in enumerate(places):
        (value,) = db.execute(f"SELECT {cell.column} FROM {cell.table} LIMIT 1").fetchone()  # noqa: S608  our own names
        if isinstance(value, int):
            value = value.to_bytes(8, "big", signed=True)
        elif isinstance(value, str):
            value = value.encode()
        seeds += [bytes([index, 0]), bytes([index, 1]) + b"{}", bytes([index, 2]) + (value or b"")]
    return seeds


def _all_read(readers: Sequence[Reader]) -> bool:
    for read in readers:
        read()
    return True

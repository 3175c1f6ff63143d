"""T26: somebody who can write the disks edits the audit log of a real doctor, as cleverly as can be without the doctor's key.

Each edit is made on a copy of the database and the heads file. It must be found, and where entries were edited, `verify` must name
the first entry that is not what it was: the edited one, or, where the chain behind it was computed anew, the first that a signed
head contradicts.

Entries behind the last head, ten seconds' worth at most, and a heads file whose last lines are cut off together with the entries they name,
are beyond what a doctor can find out by itself; nothing here edits those.
"""

from __future__ import annotations

import asyncio
import contextlib
import random as pseudo
import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from doctor import audit, heads, keyring, thinning
from doctor.audit import Verdict
from doctor.heads import HEADS_FILE, Head
from lab.faults.clinic import Clinic
from lab.faults.log_edits import EDITS, Copy, Edit, sign_head
from lab.faults.row import Row, Scale, Tally, Trial
from lab.faults.watch import Watch
from shared.crypto.signatures import Algorithm, SigningKey
from shared.errors import StorageError
from shared.net.stream import clock
from shared.storage.sqlite import open_reader

ORDERS = 60  # invitations and messages that make the log
HEAD_EVERY = 5  # orders
NEWEST = 4  # heads that are left when the file is thinned


@dataclass(frozen=True, slots=True)
class Log:
    """An audit log of a doctor that has stopped: its database, the directory of its heads, the key that verifies them."""

    database: Path
    audit_dir: Path
    key: SigningKey

    def verdict(self, database: Path, audit_dir: Path) -> Verdict:
        """What `telemed-doctor audit verify` finds there."""
        return audit.verify_file(database, audit_dir, self.key.public, self.key.algorithm)


async def run(trial: Trial) -> Tally:
    """Let a doctor write a log, then edit copies of it."""
    log = await _write_log(trial.directory)
    before = log.verdict(log.database, log.audit_dir)
    findings = (
        [] if before.first_bad is None else [f"the log does not verify before any edit: {before.reason}"]
    )
    survived = 0
    for number in range(trial.scale.count):
        edit = EDITS[number % len(EDITS)]
        finding = await asyncio.to_thread(
            attempt, log, edit, trial.directory / "copy", trial.seed * 100_003 + number
        )
        if finding is None:
            survived += 1
        else:
            findings.append(finding)
        trial.on_progress(number + 1, trial.scale.count)
    figures = (
        ("entries", float(before.entries)),
        ("heads", float(before.heads)),
        ("kinds", float(len(EDITS))),
    )
    return Tally(trial.scale.count, survived, findings=tuple(findings), figures=figures)


async def _write_log(directory: Path) -> Log:
    async with Clinic(directory, Watch()) as clinic:
        database = clinic.state_dir / "doctor.db"
        key = keyring.load_signing_key(clinic.state_dir, Algorithm.ECDSA_P256)
        head: Head | None = None
        for number in range(ORDERS):
            if number % 3:
                await clinic.broadcast(f"message {number}")
            else:
                await clinic.invite(f"bed-{number:02}")
            if number % HEAD_EVERY == HEAD_EVERY - 1:
                # The doctor's own function, with its key: waiting for its own heads would take minutes.
                with contextlib.closing(open_reader(database)) as db:
                    head = sign_head(db, clinic.audit_dir, key, head)
            if (
                number == ORDERS // 2
            ):  # so that edits meet both: what an old file has left, and what came since
                head = thinning.thin(clinic.audit_dir, key, clock().wall, NEWEST)
        await clinic.stop()
    with contextlib.closing(open_reader(database)) as db:
        sign_head(db, clinic.audit_dir, key, head)
    return Log(database, clinic.audit_dir, key)


def attempt(log: Log, edit: Edit, directory: Path, seed: int) -> str | None:
    """Make one edit on a fresh copy and have it verified; a sentence where it was not found, or the wrong entry named."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    database = directory / log.database.name
    shutil.copy(log.database, database)  # the doctor has stopped: all is in the one file
    shutil.copy(log.audit_dir / HEADS_FILE, directory)
    named = sorted({head.sequence for head in heads.read(directory)})
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as db:
        (entries,) = db.execute("SELECT count(*) FROM audit").fetchone()
        case = edit(Copy(db, directory / HEADS_FILE, entries, named, pseudo.Random(seed)))  # noqa: S311  edits, not secrets
    try:
        verdict = log.verdict(database, directory)
    except StorageError:  # it names the file and the line
        return None if case.first_bad is None else f"{case.what}: the heads were blamed"
    if verdict.first_bad is None:
        return f"{case.what}: not found"
    if case.first_bad is not None and verdict.first_bad != case.first_bad:
        return f"{case.what}: {verdict.first_bad} was named, {case.first_bad} is the first bad one"
    return None


ROW = Row(
    name="audit-edits",
    threat="T26",
    title="entries and signed heads of the audit log are changed, deleted, reordered, cut off, and hashed anew",
    passes="every edit is found; verify names the first bad entry",
    ci=Scale(count=100),
    release=Scale(count=1_000),
    run=run,
)

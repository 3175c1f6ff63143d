"""T15: single bits flip in what rests on a disk: the doctor's database and its log, its keys, name, journal and signed heads; a patient's
identity, inbox and reports.

Each flip is made in a copy. The real gateway, or what a device does at its start, must then find and name the damage; or everything that can
be asked of it must be as before: roster, groups, receipts, reports, invitations, messages to the byte, the audit log. Never a
content that has silently become another one.

One thing cannot be told: a flip in the last transaction of a log that a kill has left looks like the kill itself. Such flips are not drawn.
"""

from __future__ import annotations

import os
import random as pseudo
import shutil
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from structlog.testing import capture_logs

from doctor.answers import DepartureAnswer, GroupAnswer, MemberAnswer
from doctor.orders import GroupOrder, MemberOrder
from lab.faults.row import Row, Scale, Tally, Trial
from lab.faults.views import View, look_at_device, look_at_doctor
from lab.faults.ward import EVERYONE, Ward
from patient import outbox
from patient.identity import DeviceHome
from shared.errors import TelemedError
from shared.net.stream import clock
from shared.storage.sealed import Sealer
from shared.wire.messages import ReportKind

DEVICES = ("anna", "bert", "carl", "dora")
AWAY, RETIRED, REVOKED = "bert", "carl", "dora"
REPORTS = (b"better", b"much better", b"well")
PATIENCE = 60.0
WAL_HEADER, WAL_FRAME = 32, 24  # bytes; https://www.sqlite.org/fileformat2.html#walformat
VOLATILE = ("lock", "doctor.sock", "token")


@dataclass(frozen=True, slots=True)
class Subject:
    """Files to damage, and who reads them.

    Args:
        name: for findings.
        directory: where they are, whole.
        look: opens a copy and asks everything. Raises TelemedError for what is damaged.
    """

    name: str
    directory: Path
    look: Callable[[Path], Awaitable[View]]

    def files(self) -> list[Path]:
        """Relative to the directory; empty ones and what is made anew at each start are left out."""
        found = sorted(path for path in self.directory.rglob("*") if path.is_file() and path.stat().st_size)
        return [path.relative_to(self.directory) for path in found if path.name not in VOLATILE]


@dataclass(frozen=True, slots=True)
class Flip:
    """One bit of one file."""

    file: Path
    at: int
    bit: int

    def __str__(self) -> str:
        return f"{self.file}, byte {self.at}, bit {self.bit}"


@dataclass(slots=True)
class Count:
    """How the flips so far have turned out."""

    named: int = 0
    harmless: int = 0


async def run(trial: Trial) -> Tally:
    """Damage what a clinic has left behind, one bit at a time."""
    with capture_logs():  # what a damaged gateway says in its log is judged by its answers
        subjects = await _leave_behind(trial.directory)
        wholes = [await look_at_copy(subject, trial.directory / "copy", None) for subject in subjects]
        count, findings = Count(), [whole for whole in wholes if isinstance(whole, str)]
        dice = pseudo.Random(trial.seed)  # noqa: S311  places, not secrets
        for number in range(0 if findings else trial.scale.count):
            index = number % len(subjects)
            subject, whole = subjects[index], wholes[index]
            flip = draw(subject, dice)
            found = await look_at_copy(subject, trial.directory / "copy", flip)
            finding = judge(subject.name, flip, whole, found, count)
            findings += [finding] if finding else []
            trial.on_progress(number + 1, trial.scale.count)
    survived = count.named + count.harmless
    figures = (("named", float(count.named)), ("without_effect", float(count.harmless)))
    return Tally(trial.scale.count, survived, findings=tuple(findings), figures=figures)


def judge(name: str, flip: Flip, whole: View | str, found: View | str, count: Count) -> str | None:
    """What is wrong with what was found after a flip; counts what is right."""
    if isinstance(found, str):
        if found.startswith(NAMED):
            count.named += 1
            return None
        return f"{name}: {flip}: {found}"
    if found == whole:
        count.harmless += 1
        return None
    assert isinstance(whole, dict)  # noqa: S101  a whole subject that cannot be read is a finding by itself
    changed = sorted(key for key in whole.keys() | found.keys() if whole.get(key) != found.get(key))
    shown = "; ".join(f"{key}: {whole.get(key)!r:.150} became {found.get(key)!r:.150}" for key in changed[:2])
    return f"{name}: {flip}: undetected: {shown}"


NAMED = "named: "


async def look_at_copy(subject: Subject, copy: Path, flip: Flip | None) -> View | str:
    """What a copy says, with one flip in it or none; else how the damage was told."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(subject.directory, copy, ignore=shutil.ignore_patterns(*VOLATILE))
    if flip is not None:
        path = copy / flip.file
        content = bytearray(path.read_bytes())
        content[flip.at] ^= 1 << flip.bit
        path.write_bytes(content)
    try:
        return await subject.look(copy)
    except TelemedError as error:
        return f"{NAMED}{error}"
    except Exception as error:  # a traceback where a sentence belongs: that is the finding
        return f"{type(error).__name__}: {error}"


def draw(subject: Subject, dice: pseudo.Random) -> Flip:
    """Any bit, every file as likely as the next but the databases, which hold the most, four times so."""
    files = subject.files()
    weights = [4 if file.name.endswith((".db", "-wal")) else 1 for file in files]
    (file,) = dice.choices(files, weights)
    path = subject.directory / file
    size = _before_last_transaction(path.read_bytes()) if file.name.endswith("-wal") else path.stat().st_size
    return Flip(file, dice.randrange(size), dice.randrange(8))


def _before_last_transaction(log: bytes) -> int:
    """Where the last transaction of a database's log begins, in bytes."""
    (page,) = struct.unpack_from(">I", log, 8)
    ends, salts = [WAL_HEADER], log[16:24]
    for at in range(WAL_HEADER, len(log) - page - WAL_FRAME + 1, page + WAL_FRAME):
        if log[at + 8 : at + 16] == salts and any(log[at + 4 : at + 8]):
            ends.append(at + WAL_FRAME + page)
    return ends[-2] if len(ends) > 1 else WAL_HEADER


# What a clinic leaves behind


async def _leave_behind(directory: Path) -> list[Subject]:
    """A doctor that was killed and one that was stopped, and two devices of theirs."""
    ward_directory = directory / "ward"
    ward_directory.mkdir()
    async with Ward(ward_directory) as ward:
        await _live(ward)
        home = ward.rooms["main"].swarm.members["anna"].home.path
        shutil.copytree(home, directory / "device-running")
        await ward.clinic.kill()
        _keep_doctor(ward, directory / "doctor-killed")
        await ward.clinic.start()
        await ward.rooms["main"].swarm.until_connected({"anna"}, PATIENCE)
        await ward.rooms["main"].swarm.__aexit__(None, None, None)
        await ward.clinic.stop()
        shutil.copytree(home, directory / "device-stopped")
        _keep_doctor(ward, directory / "doctor-stopped")
    return [
        Subject("a doctor that was killed", directory / "doctor-killed", look_at_doctor),
        Subject("a device that was cut off", directory / "device-running", look_at_device),
        Subject("a doctor that was stopped", directory / "doctor-stopped", look_at_doctor),
        Subject("a device that was stopped", directory / "device-stopped", look_at_device),
    ]


async def _live(ward: Ward) -> None:
    """A little of everything that is ever stored."""
    room = await ward.open_room("main")
    await ward.create_group("ward-a")
    await ward.admit(room, DEVICES, ["ward-a"])
    swarm, orders = room.swarm, ward.clinic.orders
    for number in range(6):
        await ward.broadcast("ward-a" if number % 2 else EVERYONE)
        await ward.send("anna")
    await ward.until_arrived(set(DEVICES), PATIENCE)
    await swarm.stop(AWAY)
    await orders.post(f"/v1/patients/{RETIRED}/retire", None, DepartureAnswer)
    await orders.post(f"/v1/patients/{REVOKED}/revoke", None, DepartureAnswer)
    for gone in (AWAY, RETIRED, REVOKED):
        for group in (EVERYONE, "ward-a"):
            ward.members[group].discard(gone)
    await orders.post("/v1/groups", GroupOrder("empty"), GroupAnswer)
    await orders.post("/v1/groups/empty/members", MemberOrder("anna"), MemberAnswer)
    await orders.delete("/v1/groups/empty/members/anna", MemberAnswer)
    await ward.clinic.invite("eve", ["ward-a"])
    member = swarm.members["anna"]
    reports = outbox.Outbox(member.home.path / "reports.db", _sealer(member.home), os.urandom)
    for body in REPORTS:
        await reports.write(ReportKind.REPLY, body, clock().wall)
    await reports.close()
    for _ in range(4):
        await ward.broadcast()
        await ward.send(AWAY)
    await ward.until_arrived({"anna"}, PATIENCE)


def _keep_doctor(ward: Ward, directory: Path) -> None:
    directory.mkdir()
    shutil.copytree(ward.clinic.state_dir, directory / "doctor", ignore=shutil.ignore_patterns(*VOLATILE))
    shutil.copytree(ward.clinic.audit_dir, directory / "audit")


def _sealer(home: DeviceHome) -> Sealer:
    return Sealer(home.load().storage_key, os.urandom)


ROW = Row(
    name="byte-flips",
    threat="T15",
    title="single bits flip in the doctor's database, log, keys, journal and heads, and in a patient's identity and databases",
    passes="the damage is found and named, or nothing that can be asked has changed",
    ci=Scale(count=50),
    release=Scale(count=500),
    run=run,
)

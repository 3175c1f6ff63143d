"""The outbox keeps every report under one id until the doctor has it, whatever program wrote it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from patient import outbox
from patient.exit_codes import ExitCode, Refusal
from patient.outbox import Outbox, WrittenReport
from shared.errors import StorageError, UserError
from shared.storage.sealed import Sealer
from shared.wire.messages import BODY_LIMIT, ReportKind

SEALER = Sealer(bytes(32), os.urandom)
NOW = 1_800_000_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is."""
    return tmp_path / "outbox.db"


def using(path: Path, work: Callable[[Outbox], Awaitable[None]]) -> None:
    """Open an outbox, do something, close it."""

    async def main() -> None:
        box = Outbox(path, SEALER, os.urandom)
        try:
            await work(box)
        finally:
            await box.close()

    asyncio.run(main())


async def write(box: Outbox, *bodies: bytes) -> list[bytes]:
    """Write replies; their ids."""
    return [await box.write(ReportKind.REPLY, body, NOW) for body in bodies]


def bodies(reports: list[WrittenReport]) -> list[bytes]:
    """What is in them."""
    return [report.body for report in reports]


def test_a_report_is_on_the_disk_when_it_has_an_id(path: Path) -> None:
    """Readable by others at that moment, with all that goes out later."""

    async def work(box: Outbox) -> None:
        (report_id,) = await write(box, b"I feel better")

        assert outbox.read(path, SEALER) == [
            WrittenReport(1, report_id, ReportKind.REPLY, NOW, None, b"I feel better")
        ]
        assert len(report_id) == 16

    using(path, work)


def test_reports_wait_in_order_until_the_doctor_has_them(path: Path) -> None:
    """Across restarts; each is noted once."""

    async def first(box: Outbox) -> None:
        ids = await write(box, b"one", b"two", b"three")
        assert await box.note_kept([ids[1]], NOW + 5) == [ids[1]]
        assert await box.note_kept([ids[1], b"?" * 16], NOW + 9) == []

    async def second(box: Outbox) -> None:
        assert bodies(box.waiting(0, 10)) == [b"one", b"three"]
        assert bodies(box.waiting(0, 1)) == [b"one"]
        assert bodies(box.waiting(1, 10)) == [b"three"]

    using(path, first)
    using(path, second)

    assert [(each.body, each.kept) for each in outbox.read(path, SEALER)] == [
        (b"one", None),
        (b"two", NOW + 5),
        (b"three", None),
    ]


def test_a_device_that_never_reports_has_no_outbox(path: Path) -> None:
    """Also where a doctor receipts what was never sent."""

    async def work(box: Outbox) -> None:
        assert not box.changed()
        assert box.waiting(0, 10) == []
        assert await box.note_kept([bytes(16)], NOW) == []

    using(path, work)

    assert not path.exists()
    assert outbox.read(path, SEALER) == []


def test_what_another_program_writes_is_noticed(path: Path) -> None:
    """A running device looks for changes; a look that finds none costs no query."""

    async def work(box: Outbox) -> None:
        assert not box.changed()
        other = Outbox(path, SEALER, os.urandom)
        await write(other, b"one")
        assert box.changed()
        assert bodies(box.waiting(0, 10)) == [b"one"]
        box.changed()
        assert not box.changed()
        await write(other, b"two")
        await other.close()
        assert box.changed()
        assert bodies(box.waiting(1, 10)) == [b"two"]

    using(path, work)


def test_an_outbox_that_is_being_made_is_empty(path: Path) -> None:
    """The file is there before its tables are."""
    path.touch(0o600)

    async def work(box: Outbox) -> None:
        assert outbox.read(path, SEALER) == []
        assert box.waiting(0, 10) == []
        await write(box, b"one")
        assert bodies(box.waiting(0, 10)) == [b"one"]

    using(path, work)


def test_programs_that_write_at_once_lose_nothing(path: Path) -> None:
    """Each makes the database or finds it made."""

    async def main() -> None:
        boxes = [Outbox(path, SEALER, os.urandom) for _ in range(4)]
        await asyncio.gather(*(write(box, b"a", b"b") for box in boxes))
        for box in boxes:
            await box.close()

    asyncio.run(main())

    assert sorted(bodies(outbox.read(path, SEALER))) == [b"a"] * 4 + [b"b"] * 4


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        (ReportKind.REPLY, b"", "has 0 bytes; one has 1 to 32768"),
        (ReportKind.REPLY, bytes(BODY_LIMIT + 1), "has 32769 bytes; one has 1 to 32768"),
        (ReportKind.REPLY, b"\xff", "of kind reply is UTF-8 text"),
        (ReportKind.VITALS, b"pulse 70", "of kind vitals is JSON"),
        (ReportKind.VITALS, b'{"pulse": "\xff"}', "of kind vitals is JSON"),
        (ReportKind.VITALS, b"[" * 30_000, "of kind vitals is JSON"),
    ],
)
def test_what_the_doctor_would_not_take_is_refused_at_once(
    path: Path, kind: ReportKind, body: bytes, words: str
) -> None:
    """The limit is named, and nothing is kept."""

    async def work(box: Outbox) -> None:
        with pytest.raises(UserError, match=words):
            await box.write(kind, body, NOW)

    using(path, work)

    assert not path.exists()


def test_the_largest_report_and_any_json_are_kept(path: Path) -> None:
    """The bounds are those of the message."""

    async def work(box: Outbox) -> None:
        await write(box, b"x" * BODY_LIMIT)
        await box.write(ReportKind.VITALS, b'{"pulse": 70}', NOW)

    using(path, work)

    assert [len(each.body) for each in outbox.read(path, SEALER)] == [BODY_LIMIT, 13]


def test_more_than_a_thousand_do_not_wait(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that is cut off for long must not fill its disk; there is room again when the doctor has some."""
    monkeypatch.setattr(outbox, "WAITING_LIMIT", 2)

    async def work(box: Outbox) -> None:
        ids = await write(box, b"one", b"two")
        with pytest.raises(Refusal, match="not kept: 2 wait already on this device") as refused:
            await write(box, b"three")
        assert refused.value.code is ExitCode.STORAGE
        await box.note_kept(ids[:1], NOW)
        await write(box, b"three")

    using(path, work)

    assert bodies(outbox.read(path, SEALER)) == [b"one", b"two", b"three"]


def test_only_the_newest_that_the_doctor_has_stay(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is never erased, and no place is given a second time."""
    monkeypatch.setattr(outbox, "KEPT_LIMIT", 2)

    async def work(box: Outbox) -> None:
        ids = await write(box, b"one", b"waits", b"two", b"three", b"four")
        await box.note_kept([ids[0], *ids[2:]], NOW)
        await write(box, b"five")

    using(path, work)

    assert [(each.place, each.body) for each in outbox.read(path, SEALER)] == [
        (2, b"waits"),
        (4, b"three"),
        (5, b"four"),
        (6, b"five"),
    ]


def test_on_a_full_disk_nothing_is_kept_and_it_heals(path: Path) -> None:
    """The error says what to do; there is no id for what was not kept."""

    async def work(box: Outbox) -> None:
        await write(box, b"one")
        assert box._writer is not None
        await box._writer.submit(lambda db: db.execute("PRAGMA max_page_count=1"))
        with pytest.raises(StorageError, match=r"not accepted: .*outbox\.db: .*full; free some space"):
            await write(box, b"x" * 20_000)
        await box._writer.submit(lambda db: db.execute("PRAGMA max_page_count=1000000"))
        await write(box, b"two")

    using(path, work)

    assert bodies(outbox.read(path, SEALER)) == [b"one", b"two"]


def test_a_reader_that_failed_is_opened_again(path: Path) -> None:
    """The disk may be back."""

    async def work(box: Outbox) -> None:
        await write(box, b"one")
        assert bodies(box.waiting(0, 10)) == [b"one"]
        assert box._reader is not None
        box._reader.close()
        with pytest.raises(StorageError, match=r"outbox\.db cannot be read: "):
            box.waiting(0, 10)
        assert bodies(box.waiting(0, 10)) == [b"one"]
        box._reader.close()
        assert box.changed()
        assert bodies(box.waiting(0, 10)) == [b"one"]

    using(path, work)


def test_bodies_rest_sealed(path: Path) -> None:
    """The text is nowhere in the files, and in no repr."""

    async def work(box: Outbox) -> None:
        await write(box, b"canary in the outbox")
        files = b"".join(each.read_bytes() for each in path.parent.iterdir())
        assert b"canary" not in files
        assert "canary" not in repr(box.waiting(0, 1))

    using(path, work)


def damage(path: Path, change: str) -> None:
    """Change a row as a disk does, without its checksum."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA trusted_schema=ON")
        db.create_function("row_checksum", -1, lambda *_: b"8 bytes.", deterministic=True)
        db.execute(f"UPDATE reports SET {change}")


def test_a_damaged_report_is_named_and_does_not_hold_up_the_others(
    path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is not sent changed; whoever lists the outbox is told."""

    async def work(box: Outbox) -> None:
        await write(box, b"one", b"two", b"three", b"four", b"five")
        damage(path, "body = zeroblob(40) WHERE place = 1")
        damage(path, "kind = 70000 WHERE place = 2")
        damage(path, "created = -created WHERE place = 3")
        damage(path, "report_id = x'00' WHERE place = 4")
        assert bodies(box.waiting(0, 1)) == [b"five"]

    using(path, work)

    assert capfd.readouterr().err.count("report not sent") == 4
    with pytest.raises(StorageError, match="a row of reports is damaged"):
        outbox.read(path, SEALER)


def test_a_report_that_was_not_sealed_here_is_not_shown(path: Path) -> None:
    """Whoever changes the file on purpose can make its checksums, and not its seals."""

    async def work(box: Outbox) -> None:
        await write(box, b"one")

    using(path, work)

    with pytest.raises(StorageError, match=r"reports\.body of row .* does not open"):
        outbox.read(path, Sealer(b"k" * 32, os.urandom))


def test_a_foreign_database_is_an_error_that_names_it(path: Path) -> None:
    """Something else stands at the place."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE other (x)")
    path.chmod(0o600)

    with pytest.raises(StorageError, match=r"outbox\.db cannot be read"):
        outbox.read(path, SEALER)


_KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from patient.outbox import Outbox
from shared.storage.sealed import Sealer
from shared.wire.messages import ReportKind

async def main():
    box = Outbox(Path(sys.argv[1]), Sealer(bytes(32), os.urandom), os.urandom)
    for number in range(100):
        report_id = await box.write(ReportKind.REPLY, b"%d" % number, 0)
        os.write(1, report_id.hex().encode() + b"\\n")
        if number == 20:
            os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def test_what_was_told_is_there_after_a_kill(path: Path) -> None:
    """Every id that came out of a program which was then killed with -9 is that of a report that waits."""
    program = [sys.executable, "-c", _KILLED, str(path)]
    killed = subprocess.run(program, capture_output=True, cwd=Path(__file__).parents[3], check=False)

    assert killed.returncode == -9
    told = killed.stdout.decode().split()
    assert len(told) == 21
    assert [each.report_id.hex() for each in outbox.read(path, SEALER)] == told

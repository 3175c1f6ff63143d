"""A doctor starts with no clock that is behind, unless its operator has said that the clock was ahead before."""

from __future__ import annotations

import asyncio
import io
import sys
from pathlib import Path

import pytest

from doctor import cli, clock_check, clock_word, messaging
from doctor.audit import Action
from shared.errors import StorageError, UserError
from shared.net.stream import clock
from shared.protocol.clock import Instant
from tests.doctor_bench import Books, Doctor, on_a_loop, running, settings_for, verify_audit
from tests.protocol_bench import DAY

MONTH = 31 * DAY


async def accept_ahead(doctor: Doctor, ahead: int = MONTH) -> int:
    """A message while the clock is ahead, and another when it is right again; the number of the last."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(messaging, "clock", lambda: Instant(clock().wall + ahead, clock().elapsed))
        await doctor.broadcast("while the clock was wrong")
    return (await doctor.broadcast("and after")).number


def test_a_clock_behind_the_newest_message_is_refused(books: Books) -> None:
    """Numbers are taken from the clock; the message says how far it is off, and both things that can be done."""
    clock_check.require(books.db, books.sealer, 0)
    books.accept()

    clock_check.require(books.db, books.sealer, books.now)
    with pytest.raises(StorageError, match=r"clock is 60 s behind the newest message.*set it.*accept-clock"):
        clock_check.require(books.db, books.sealer, books.now - 60_000)


@on_a_loop
async def test_a_doctor_whose_clock_was_ahead_starts_again_when_the_operator_says_so(tmp_path: Path) -> None:
    """Once; numbers grow on one by one, messages are delivered, and the audit log has it."""
    settings = settings_for(tmp_path)
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        last = await accept_ahead(doctor)
    with pytest.raises(StorageError, match="behind the newest message"):
        async with running(tmp_path):
            raise AssertionError("it started")

    told = clock_word.look(settings)
    await clock_word.accept(settings)

    assert abs(told.behind_s - MONTH / 1000) < 60
    for _ in range(2):
        async with running(tmp_path) as doctor:
            said = await doctor.broadcast("as ever")
            assert said.number == last + 1
            last = said.number
            await doctor.reconnect(anna)
            await doctor.delivered(anna, said.number)
            assert [subject for subject, _ in doctor.audited(Action.CLOCK_ACCEPTED)] == ["clock"]
    assert verify_audit(tmp_path).first_bad is None


def test_a_clock_that_is_behind_is_still_refused_afterwards(books: Books) -> None:
    """Now by the last audit entry, which was written when the clock was right."""
    ahead = books.now + MONTH
    books.now = ahead
    books.accept()
    books.now = ahead - MONTH
    clock_check.accept(books.db, books.sealer, books.now, "operator")
    clock_check.require(books.db, books.sealer, books.now)

    with pytest.raises(StorageError, match=r"60 s behind .* the last audit entry"):
        clock_check.require(books.db, books.sealer, books.now - 60_000)


def test_the_word_is_good_for_one_time_that_the_clock_was_ahead(books: Books) -> None:
    """Should it be ahead once more, the operator is asked once more."""
    right = books.now
    books.now = right + MONTH
    books.accept()
    clock_check.accept(books.db, books.sealer, right, "operator")
    books.now = right + 2 * MONTH
    books.accept()
    books.now = right

    with pytest.raises(StorageError, match="accept-clock"):
        clock_check.require(books.db, books.sealer, right)


@on_a_loop
async def test_where_no_clock_is_behind_there_is_nothing_to_say(tmp_path: Path) -> None:
    """Nor where there is no database, nor beside a doctor that runs."""
    settings = settings_for(tmp_path)
    with pytest.raises(UserError, match="There is no database"):
        clock_word.look(settings)
    async with running(tmp_path) as doctor:
        with pytest.raises(UserError, match="not behind anything"):
            clock_word.look(settings)
        with pytest.raises(UserError, match="Another doctor is running"):
            await clock_word.accept(settings)
        await doctor.settled()
        assert doctor.audited(Action.CLOCK_ACCEPTED) == []


def test_the_command_shows_both_times_and_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A no changes nothing; a program says --yes."""

    async def before() -> None:
        async with running(tmp_path) as doctor:
            await accept_ahead(doctor)

    def run(*arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["telemed-doctor", "accept-clock", *arguments])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        capsys.readouterr()
        code = cli.main()
        return (code, *capsys.readouterr())

    asyncio.run(before())
    monkeypatch.setenv("TELEMED_DOCTOR_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("TELEMED_DOCTOR_AUDIT_DIR", str(tmp_path / "audit"))

    assert run("--json")[0] == 2
    code, out, err = run(stdin=b"n\n")
    assert (code, "clock shows 20" in out, "Nothing was changed." in err) == (1, True, True)
    code, out, _ = run(stdin=b"y\n")
    assert (code, "Start the doctor." in out) == (0, True)
    assert run("--yes")[0] == 1, "nothing is left to accept"

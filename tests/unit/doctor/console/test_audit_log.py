"""The audit log's page: read, filtered and verified, also where somebody has changed it."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from doctor import heads
from doctor.console.pages import audit_log
from tests.console_bench import Desk, console, text_of
from tests.doctor_bench import ME, on_a_loop

NASTY = "<img src=x onerror=alert(1)>"


def tamper(desk: Desk, statement: str, *values: object) -> None:
    """What somebody does who can write the database."""
    path = desk.doctor.gateway.database
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(statement, values)


def sequence_of(desk: Desk, action: str) -> int:
    """The entry of an action."""
    (found,) = desk.doctor.reader.execute(
        "SELECT max(sequence) FROM audit WHERE action = ?", (action,)
    ).fetchone()
    return int(found)


@on_a_loop
async def test_entries_are_listed_newest_first_and_filtered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By action and by object; a page at a time; what is asked for in vain is said."""
    monkeypatch.setattr(audit_log, "PAGE", 5)
    async with console(tmp_path) as desk:
        browser = await desk.admin()
        for name in ("ward-a", "ward-b", "ward-c", "ward-d"):
            await desk.doctor.gateway.commands.create_group(name, ME)
        await desk.doctor.settled()
        text = text_of(await browser.get("/audit"))
        assert text.index("ward-d") < text.index("ward-c")
        assert "ward-a" not in text
        monkeypatch.setattr(audit_log, "PAGE", 3)
        page = await browser.get("/audit?action=group-created&object=ward-b")
        rows = text_of(page).partition("Detail")[2]
        assert "testGroup createdward-b" in rows
        assert rows.count("Group created") == 1
        older = (await browser.get("/audit?action=group-created")).text
        path = older.partition('rel="next" href="')[2].partition('"')[0].replace("&amp;", "&")
        text = text_of(await browser.get(path)).partition("Detail")[2]
        assert "Group createdward-a" in text
        assert "Newest" in text
        for query in ("object=nobody", "action=revoked", "object=%3Cb%3E"):
            assert "No entry fits" in text_of(await browser.get(f"/audit/list?{query}")), query
        for query in ("before=-1", "before=x", "before=" + "9" * 30, "action=nonsense"):
            assert "ward-d" in text_of(await browser.get(f"/audit/list?{query}")), query
        assert "live-events" not in (await browser.get("/audit?before=3")).text


@on_a_loop
async def test_a_log_that_is_whole_verifies_in_words(tmp_path: Path) -> None:
    """The same words as on the command line; only by a form with its token."""
    async with console(tmp_path) as desk:
        browser = await desk.admin()
        await desk.doctor.settled()
        text = text_of(await browser.fill("/audit", "/audit/verify"))

        assert "✓ Nothing was changed." in text
        assert "entries and" in text
        assert "signed heads verify." in text
        assert (await browser.get("/audit/verify")).status_code == 405
        assert (await browser.post("/audit/verify", {"csrf": "guessed"})).status_code == 403


@pytest.mark.parametrize("how", ["changed", "missing", "time"])
def test_the_first_bad_entry_is_named_and_can_be_looked_at(tmp_path: Path, how: str) -> None:
    """Whatever it holds now: the page shows it as text, and as far as it is one."""

    async def scenario() -> None:
        async with console(tmp_path) as desk:
            browser = await desk.admin()
            await desk.doctor.gateway.commands.create_group("ward-a", ME)
            await desk.doctor.gateway.commands.create_group("ward-b", ME)
            bad = sequence_of(desk, "group-created") - 1
            if how == "changed":
                tamper(desk, "UPDATE audit SET object = ?, actor = ? WHERE sequence = ?", NASTY, NASTY, bad)
            elif how == "time":
                tamper(desk, "UPDATE audit SET time = ? WHERE sequence = ?", 2**62, bad)
            else:
                tamper(desk, "DELETE FROM audit WHERE sequence = ?", bad)

            page = await browser.fill("/audit", "/audit/verify")
            text = text_of(page)
            assert "✕ Something was changed." in text
            assert f"does not verify at entry {bad}: entry {bad} " in text
            assert "<img src=x" not in page.text
            for path in (f"/audit?before={bad + 1}", "/audit", "/events", "/protocol"):
                shown = await browser.get(path)
                assert shown.status_code == 200, path
                assert "<img src=x" not in shown.text, path
            if how == "time":
                assert f"time {2**62}" in text_of(await browser.get("/audit"))

    on_a_loop(scenario)()


@on_a_loop
async def test_a_log_that_cannot_be_read_is_told_and_can_be_verified_all_the_same(tmp_path: Path) -> None:
    """Bytes that are no text, and a file of heads that is none."""
    async with console(tmp_path) as desk:
        browser = await desk.admin()
        await desk.doctor.device("anna")
        await desk.doctor.gateway.commands.revoke("anna", ME)
        bad = sequence_of(desk, "revoked")
        tamper(desk, "UPDATE audit SET detail = CAST(x'ff' AS TEXT) WHERE sequence = ?", bad)
        for path in ("/audit", "/events"):
            page = await browser.get(path)
            assert (page.status_code, "cannot be read" in text_of(page)) == (200, True), path
        assert f"does not verify at entry {bad}" in text_of(await browser.fill("/audit", "/audit/verify"))
        for path in ("/", "/patients/anna"):
            assert "Revoked" in text_of(await browser.get(path)), path
    async with console(tmp_path / "another") as desk:
        browser = await desk.admin()
        (tmp_path / "another" / "audit" / heads.HEADS_FILE).write_text("rubbish\n")
        text = text_of(await browser.fill("/audit", "/audit/verify"))
        assert "cannot be verified" in text
        assert "line 1, is damaged" in text


@on_a_loop
async def test_one_verification_runs_at_a_time(tmp_path: Path) -> None:
    """It reads the whole log: whoever clicks often does not have it read often."""
    async with console(tmp_path) as desk:
        browser = await desk.admin()
        async with desk.console.verifying:
            answer = await browser.fill("/audit", "/audit/verify")
        assert (answer.status_code, "under way already" in text_of(answer)) == (409, True)
        both = await asyncio.gather(*(browser.fill("/audit", "/audit/verify") for _ in range(2)))
        assert 200 in [answer.status_code for answer in both]

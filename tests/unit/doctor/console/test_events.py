"""The security page: who was refused, why and from where, so that a clinician understands it, and what to do."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from doctor import chronicle, overview
from doctor.audit import Action
from doctor.chronicle import Entry
from doctor.console import incidents
from doctor.console.incidents import SECURITY, tell
from doctor.console.lessons import ADMISSION, FRAME, LESSONS
from doctor.console.pages import events
from doctor.console.reasons import LOGIN, REASONS, of_device, reason_of
from doctor.door import TurnedAway
from shared.wire.checks import Check
from shared.wire.opcodes import AlertCode
from tests.console_bench import console, text_of
from tests.doctor_bench import LOG, ME, learn, on_a_loop


def entry(action: Action, detail: str, subject: str = "anna", actor: str = "gateway") -> Entry:
    """One of the audit log's."""
    return Entry(7, 1_700_000_000_000, actor, action.value, subject, detail)


def test_whatever_the_doctor_refuses_has_its_sentence_and_its_advice() -> None:
    """Every check that it applies, every word of its door, every alert of a device, and the login."""
    applied = {check for lesson in LESSONS.values() if lesson.by_patient for check in lesson.checks}
    applied |= {*FRAME, *ADMISSION, Check.RECORD_OPENS, Check.RECEIPT_ISSUED}
    codes = {check.number for check in applied} | {why.name.lower() for why in TurnedAway} | {LOGIN}
    codes |= {of_device(code) for code in AlertCode}

    assert codes == set(REASONS)
    for code, reason in REASONS.items():
        assert reason.code == code
        for text in (reason.means, reason.advice):
            assert text[0].isupper(), text
            assert text.endswith("."), text
    for check in Check:
        assert reason_of(check.number).means.endswith(".")
    assert reason_of("V-999").means == "Refused: V-999."


@pytest.mark.parametrize(
    ("told", "title", "means", "where"),
    [
        (
            entry(Action.REFUSED, "V-037 patient anna from 192.0.2.1:50"),
            "anna was refused",
            "revoked",
            "192.0.2.1:50",
        ),
        (entry(Action.REFUSED, "V-038 its clock from here"), "anna was refused", "clock is off", "here"),
        (entry(Action.REFUSED, "V-038 of an older release"), "anna was refused", "clock is off", ""),
        (entry(Action.REFUSED, "rubbish"), "anna was refused", "", ""),
        (entry(Action.REFUSED, "V-123 rubbish"), "anna was refused", "Refused: V-123", ""),
        (
            entry(Action.RECEIPT_IMPOSSIBLE, "V-090 5 of 3 from a:1"),
            "anna confirmed what",
            "never sent",
            "a:1",
        ),
        (
            entry(Action.REPLACED_OFTEN, "a:1 by b:2"),
            "anna came from two places",
            "Two devices",
            "a:1 by b:2",
        ),
        (
            entry(Action.STRANGERS_REFUSED, "V-001:3 failed:2; from 192.0.2.7 (4), ::1 (1)", "door"),
            "Strangers were refused",
            "does not speak this system's language",
            "192.0.2.7 (4), ::1 (1)",
        ),
        (entry(Action.STRANGERS_REFUSED, "V-001:x : :5 V-002:1", "door"), "Strangers", "does not exist", ""),
        (entry(Action.LOGIN_FAILED, "from ::1"), "A wrong password for anna", "", "::1"),
        (entry(Action.REVOKED, "groups everyone", actor="bea"), "anna was revoked by bea", "", ""),
        (
            entry(Action.RETIRED, "groups everyone", actor="timer"),
            "anna was retired by the doctor itself",
            "",
            "",
        ),
        (
            entry(Action.INVITATIONS_VOIDED, "1 open ones", "rotation"),
            "Open invitations were made void, since the doctor's keys were rotated",
            "",
            "",
        ),
        (
            entry(Action.INVITATIONS_VOIDED, "1 open ones", "database"),
            "Open invitations were made void, since a database was restored",
            "",
            "",
        ),
        (
            entry(Action.KEYS_ROTATED, "", "3", "operator"),
            "The doctor's keys were rotated by operator",
            "",
            "",
        ),
        (
            entry(Action.ROTATION_COMPLETE, "", "3"),
            "Every patient has the doctor's new keys: rotation 3 is complete",
            "",
            "",
        ),
        (
            entry(Action.OPERATOR_ADDED, "", "bea", "{by}"),
            "bea was made an operator of this console by {by}",
            "",
            "",
        ),
    ],
)
def test_an_entry_is_told_in_plain_words(told: Entry, title: str, means: str, where: str) -> None:
    """Whom it is about, why and from where; an entry that is written otherwise than expected is told as far as it goes."""
    incident = tell(told)

    assert incident.title.startswith(title)
    assert incident.where == where
    assert means in " ".join(each.reason.means for each in incident.why)
    assert bool(means) == bool(incident.why)


def test_each_kind_of_event_can_be_told() -> None:
    """Of an empty entry too."""
    for action in SECURITY:
        assert tell(entry(action, "")).title


def test_a_trouble_is_told_in_the_same_words() -> None:
    """As far as it is a refusal with words of its own."""
    assert (
        incidents.plain("12:00: refused: V-038 off by 5")
        == "12:00: refused. Its clock is off by more than is allowed."
    )
    for other in ("12:00: reads too slowly", "12:00: refused: rubbish", ""):
        assert incidents.plain(other) == other


@on_a_loop
async def test_a_refusal_stands_on_the_page_and_where_the_patient_is(tmp_path: Path) -> None:
    """Who, why, from where, what to do; strangers are counted; the patients' pages say why a device is not there."""
    async with console(tmp_path) as desk:
        browser = await desk.admin()
        assert "admin was made an operator" in text_of(await browser.get("/events"))
        assert "Nobody was refused" in text_of(await browser.get("/events/counts"))
        anna = await desk.doctor.device("anna")
        address = anna.stream and anna.stream.peer
        await desk.doctor.gateway.commands.revoke("anna", ME)
        await anna.gone()
        assert address
        await desk.doctor.connect(anna)
        await LOG.until("refused", check="V-037", patient="anna")
        reader, writer = await asyncio.open_connection("127.0.0.1", desk.doctor.gateway.port)
        writer.write(b"GET / HTTP/1.1")
        await reader.read()
        writer.close()
        await LOG.until("refused", check="V-001")
        desk.doctor.house.ledger.sum_up()
        await desk.doctor.settled()

        text = text_of(await browser.get("/events/list"))
        assert "anna was refused" in text
        assert "It was revoked, and tried to come back. V-037 What to do: It gets in no more." in text
        assert "from 127.0.0.1:" in text
        assert "Strangers were refused" in text
        assert "from 127.0.0.1 (1)" in text
        assert "anna was revoked by test" in text
        counts = text_of(await browser.get("/events/counts"))
        assert "1 × It was revoked" in counts
        assert "1 × It does not speak this system's language. V-001last from 127.0.0.1:" in counts
        state = text_of(await browser.get("/patients/anna/state"))
        assert "anna was refused" in state
        assert "anna was revoked by test" in state
        assert "Latest trouble" in state
        first = text_of(await browser.get("/"))
        assert "by test" in first
        assert "UTC: refused. It was revoked, and tried to come back." in first


@on_a_loop
async def test_the_page_hears_of_entries_that_the_ledger_has_written(tmp_path: Path) -> None:
    """Not before they are there to be read."""
    async with console(tmp_path) as desk:
        with desk.doctor.house.feed.listening() as listener:
            await desk.stranger().log_in(password="wrong")
            await desk.doctor.settled()
            assert desk.doctor.audited(Action.LOGIN_FAILED)
            assert await listener.wait(5.0)
            assert "events" in [topic.value for topic in listener.take()]
        text = text_of(await (await desk.admin()).get("/events"))
        assert "A wrong password for admin" in text
        assert "from 127.0.0.1" in text


@on_a_loop
async def test_older_events_are_found_page_by_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a page's search ends before it has found enough; the newest page alone is live."""
    monkeypatch.setattr(events, "PAGE", 2)
    async with console(tmp_path) as desk:
        browser, ledger = await desk.admin(), desk.doctor.house.ledger
        for number in range(5):
            ledger.note(Action.REFUSED, f"p{number}", f"V-038 x from a:{number}")
        await desk.doctor.settled()
        seen, path = [], "/events"
        for _ in range(9):
            page = await browser.get(path)
            seen += [
                name for name in (f"p{number}" for number in range(4, -1, -1)) if f">{name} was" in page.text
            ]
            assert ("live-events" in page.text.partition('id="events"')[2].partition(">")[0]) == (
                path == "/events"
            )
            older = page.text.partition('rel="next" href="')[2].partition('"')[0]
            if not older:
                break
            path = older
        assert seen == ["p4", "p3", "p2", "p1", "p0"]
        assert "Newest" in text_of(await browser.get(path))

        monkeypatch.setattr(chronicle, "SEARCHED", 1)
        await desk.doctor.broadcast("x")
        text = text_of(await browser.get("/events"))
        assert "Nothing of this kind among the entries" in text
        assert "Look further back" in text
        assert incidents.tallied(desk.doctor.house) == []


@on_a_loop
async def test_the_page_says_for_whom_a_rotation_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never rotated; under way, since when and without whom; complete."""
    monkeypatch.setattr(overview, "MISSING", 1)
    async with console(tmp_path) as desk:
        browser, doctor = await desk.admin(), desk.doctor
        assert "never rotated" in text_of(await browser.get("/events"))
        anna, bob = await doctor.device("anna"), await doctor.device("bob")
        await doctor.gateway.commands.rotate_keys(ME)
        await bob.gone()

        text = text_of(await browser.get("/events"))
        assert "The doctor's keys were rotated by test" in text
        assert "Under way Rotation 1, since" in text
        assert "2 patients have not been back to confirm the new keys. anna and 1 more" in text
        await learn(doctor, anna)
        assert "1 patient has not been back to confirm the new keys. bob" in text_of(
            await browser.get("/events/rotation")
        )
        await doctor.gateway.commands.retire("bob", ME)
        text = text_of(await browser.get("/events"))
        assert "Complete Rotation 1, of" in text
        assert "rotation 1 is complete" in text

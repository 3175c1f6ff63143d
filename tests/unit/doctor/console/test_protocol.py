"""The protocol page: what it draws of a handshake, and what it never shows."""

from __future__ import annotations

import asyncio
from pathlib import Path
from urllib.parse import quote

import pytest

from doctor import epoch_history
from doctor.audit import Action
from doctor.chronicle import Entry
from doctor.console import handshakes, lengths
from doctor.console.handshakes import OUTCOMES, draw, outcome_of
from doctor.console.lessons import ADMISSION, EXPECTED, FRAME, LESSONS, MEANINGS, NEWCOMERS
from doctor.console.pages import protocol
from doctor.traces import Trace
from shared.crypto.suites import SUITES, Suite
from shared.protocol.events import Direction, Failed, Traced
from shared.wire.checks import Check
from shared.wire.opcodes import AlertCode
from tests.console_bench import console, text_of
from tests.doctor_bench import BELL, LOG, ME, Device, Doctor, on_a_loop


def step(message: str, size: int = 100, *checks: Check) -> Traced:
    """A message of a handshake."""
    lesson = LESSONS[message]
    way = Direction.RECEIVED if lesson.by_patient else Direction.SENT
    return Traced(way, message, lesson.opcode, size, checks)


def trace_of(*messages: str, failed: Check | None = None) -> Trace:
    """A handshake that has come so far."""
    trace = Trace(7, "192.0.2.1:5")
    for each in messages:
        trace.add(step(each))
    if failed:
        trace.fail(Failed(failed, "it was <b>bad</b>"))
    return trace


def marks(trace: Trace) -> dict[str, str]:
    """What became of each check, by number."""
    drawn = draw(trace, "doctor")
    found = [mark for message in drawn.messages for mark in message.marks] + drawn.admission
    return {mark.check.number: mark.result for mark in found}


def test_every_message_and_field_of_the_handshake_has_its_sentence() -> None:
    """Every field has a meaning and a length, every check that a side applies in a handshake stands with its message."""
    for lesson in LESSONS.values():
        for kind in (lesson.outer, *lesson.inner):
            for name in kind.__struct_fields__ if kind else ():
                assert name in MEANINGS, (lesson.name, name)
                assert lengths.of_fields(lesson.name, 2000, SUITES[next(iter(SUITES))]).get(name), name
    told = {check for lesson in LESSONS.values() for check in lesson.checks} | {*FRAME, *ADMISSION}
    assert told == {check for check in Check if check.number < "V-070"}
    assert set(LESSONS["AUTH_REQUEST"].checks) > NEWCOMERS
    assert set(EXPECTED.values()) == {name for name, lesson in LESSONS.items() if lesson.by_patient}


@on_a_loop
async def test_a_handshake_is_drawn_as_it_was(tmp_path: Path) -> None:
    """Five messages, the checks in the order in which they are applied, each length to the byte, in every suite."""
    async with console(tmp_path, suites=[suite.name for suite in SUITES.values()]) as desk:
        for suite in SUITES.values():
            name = f"p{suite.id.value}"
            await desk.doctor.device(name, suite=suite)
            trace = desk.doctor.house.traces.newest_first()[0]
            drawn = draw(trace, "doctor")

            assert (trace.patient, drawn.outcome.name, drawn.suite) == (name, "established", suite)
            assert [message.lesson.name for message in drawn.messages] == [
                each for each in LESSONS if each != "RETRY"
            ]
            for message, (_, traced) in zip(drawn.messages, trace.steps, strict=True):
                if message.lesson.by_patient:
                    assert message.lesson.checks == traced.checks, "all of them, since it enrolled"
                sealed = [field.shown for field in message.fields if field.name == "sealed"]
                assert sealed in ([], [lengths.written(suite.handshake_padding + 16)])
            told = {check: mark for check, mark in marks(trace).items() if mark != "skipped"}
            assert set(told.values()) == {"passed", "implied"}
            assert set(marks(trace)) - set(told) == {"V-024", "V-025", "V-026", "V-027"}, "no keys are new"


@pytest.mark.parametrize("suite", SUITES.values(), ids=lambda suite: suite.name)
def test_a_suite_is_known_by_lengths(suite: Suite) -> None:
    """By that of the greeting alone too, with a cookie and without; a length of no suite says so."""
    for size in lengths._greeting_sizes(suite, ""):
        assert lengths.suite_of([step("KEY_EXCHANGE", size)], "doctor") is suite
        cookie = lengths.of_fields("KEY_EXCHANGE", size, suite)["cookie"]
        assert cookie == ("empty" if size == lengths._greeting_sizes(suite, "")[0] else "40 bytes")
    assert lengths.suite_of([step("KEY_EXCHANGE", 61)], "doctor") is None


def test_a_check_that_failed_is_crossed_and_those_before_it_are_ticked() -> None:
    """Nothing is said of those behind it; what is asked of newcomers alone is not said to have been asked."""
    before = ("KEY_EXCHANGE", "KEY_EXCHANGE_REPLY")
    found = marks(trace_of(*before, failed=Check.REQUEST_CLOCK))
    assert (found["V-037"], found["V-038"], found["V-039"]) == ("passed", "failed", "unknown")
    assert (found["V-020"], "V-034" in found) == ("unknown", False)
    found = marks(trace_of(*before, failed=Check.INVITATION_UNUSED))
    assert (found["V-034"], found["V-040"], found["V-041"]) == ("passed", "passed", "failed")
    found = marks(trace_of(failed=Check.SUITE_ALLOWED))
    assert found == {"V-010": "failed", "V-011": "unknown"}
    assert marks(trace_of(failed=Check.FRAME_OPCODE)) == {"V-002": "failed"}
    whole = (*before, "AUTH_REQUEST", "AUTH_RESPONSE", "SESSION_VERIFIER")
    found = marks(trace_of(*whole, failed=Check.ADMISSION))
    assert (found["V-064"], found["V-063"]) == ("passed", "failed")
    assert marks(trace_of(*whole, failed=Check.NOT_REVOKED))["V-037"] == "failed"
    assert draw(trace_of(*whole, failed=Check.ADMISSION), "doctor").sealed_alert
    assert draw(trace_of(*before, failed=Check.NOT_REVOKED), "doctor").sealed_alert
    assert not draw(trace_of(*before, failed=Check.REQUEST_SIGNATURE), "doctor").sealed_alert


def test_how_a_handshake_ended() -> None:
    """Each way has a word of its own."""
    declined, broken = trace_of("KEY_EXCHANGE", "KEY_EXCHANGE_REPLY"), trace_of("KEY_EXCHANGE")
    declined.alerted = AlertCode.CLOCK
    broken.closed = True
    found = {
        "retried": trace_of("KEY_EXCHANGE", "RETRY"),
        "running": trace_of("KEY_EXCHANGE"),
        "declined": declined,
        "broken": broken,
        "refused": trace_of(failed=Check.FRAME_VERSION),
    }
    for name, trace in found.items():
        assert outcome_of(trace).name == name
        assert draw(trace, "doctor").outcome is OUTCOMES[name]
    assert draw(declined, "doctor").alert is AlertCode.CLOCK
    assert {mark for mark in marks(declined).values() if mark == "implied"} == set()
    assert found["running"].name != Trace(8, "").name


@on_a_loop
async def test_the_page_follows_what_happens(tmp_path: Path) -> None:
    """The newest is drawn; what is on the screen already is not drawn again; one that was refused says why."""
    async with console(tmp_path) as desk:
        browser = await desk.admin()
        assert "Nothing to see yet" in text_of(await browser.get("/protocol"))
        assert (await browser.get("/protocol/drawing?seen=none")).status_code == 204
        anna = await desk.doctor.device("anna")
        (trace,) = desk.doctor.house.traces.newest_first()
        text = text_of(await browser.get("/protocol/drawing?seen=none"))
        for each in ("anna", "AUTH_REQUEST", "V-036", "secret, 32 bytes", "Established", "31 GROUP_KEY"):
            assert each in text, each
        seen = draw(trace, "doctor").stamp
        assert (await browser.get(f"/protocol/drawing?seen={seen}")).status_code == 204
        assert (await browser.get(f"/protocol/{trace.name}/drawing?seen={seen}")).status_code == 204

        await desk.doctor.gateway.commands.revoke("anna", ME)
        await anna.gone()
        again = Device(anna.invitation, key=anna.key)
        await desk.doctor.connect(again)
        await LOG.until("refused", patient="anna")
        text = text_of(await browser.get(f"/protocol/drawing?seen={seen}"))
        assert "V-037 demands that neither the id nor the key is revoked" in text
        assert "ALERT REVOKED, sealed" in text
        assert "proved nothing" not in text, "V-036 comes before V-037: it has proved its key"
        assert 'href="/patients/anna"' in (await browser.get("/protocol")).text
        assert "anna ✕ Refused" in text_of(await browser.get("/protocol/list?patient=anna"))
        text = text_of(await browser.get(f"/protocol/{trace.name}"))
        assert "Both sides have proved who they are" in text
        assert "Follow the newest" in text


@on_a_loop
async def test_who_proves_a_key_and_is_on_no_roster_is_named_without_a_page(tmp_path: Path) -> None:
    """A revoked device that enrols anew under another name; there is no patient of that name to look at."""
    async with console(tmp_path) as desk:
        browser, doctor = await desk.admin(), desk.doctor
        anna = await doctor.device("anna")
        await doctor.gateway.commands.revoke("anna", ME)
        await anna.gone()
        await doctor.connect(Device(await doctor.invite("berta"), key=anna.key))
        await LOG.until("refused", check="V-037")

        page = await browser.get("/protocol")
        assert "berta ✕ Refused" in text_of(page)
        assert "/patients/berta" not in page.text


@on_a_loop
async def test_who_says_nonsense_is_drawn_too(tmp_path: Path) -> None:
    """With the check of the frame that it did not pass."""
    async with console(tmp_path) as desk:
        browser = await desk.admin()
        _, writer = await asyncio.open_connection("127.0.0.1", desk.doctor.gateway.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await LOG.until("refused", check="V-001")
        writer.close()
        traces = desk.doctor.house.traces
        await BELL.until(lambda: traces.newest_first()[0].closed)
        text = text_of(await browser.get("/protocol"))

        assert "Somebody who has proved nothing" in text
        assert "V-001 demands that the frame's version is 1" in text
        assert "KEY_EXCHANGE did not come as it should have" in text


@on_a_loop
async def test_handshakes_are_found_by_patient_and_outcome(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page at a time; nonsense finds nothing or everything, and fails nothing; nothing that is written there is markup."""
    monkeypatch.setattr(protocol, "PAGE", 1)
    async with console(tmp_path) as desk:
        browser = await desk.admin()
        await desk.doctor.device("anna")
        await desk.doctor.device("berta")
        trace = desk.doctor.house.traces.begin("<b>192.0.2.9</b>")
        trace.fail(Failed(Check.SUITE_ALLOWED, "<img src=x>\u202e"))
        for query, found in (
            ("", ["Somebody unproven"]),
            ("start=1", ["berta"]),
            ("start=99", ["anna"]),
            ("patient=ANN", ["anna"]),
            ("outcome=refused", ["Somebody unproven"]),
            ("outcome=established", ["berta"]),
            ("patient=nobody", []),
            ("patient=%00%ff&outcome=%3Cb%3E&start=-1", []),
            ("start=%C2%B2&outcome=nonsense", ["Somebody unproven"]),
        ):
            text = text_of(await browser.get(f"/protocol/list?{query}"))
            names = [each for each in ("anna", "berta", "Somebody unproven") if each in text]
            assert names == found, query
        text = (await browser.get("/protocol?start=1")).text
        assert ('rel="next"' in text, 'rel="prev"' in text) == (True, True)
        for page in (
            "/protocol",
            "/protocol/drawing",
            f"/protocol/{trace.name}",
            "/protocol?patient=<img src=x>",
        ):
            answer = await browser.get(page)
            assert (answer.status_code, "<img" in answer.text.replace('<img src="/static', "")) == (
                200,
                False,
            )
            assert "<b>192" not in answer.text
        for name in ("7-00000000", "x", quote("<b>", safe=""), "9" * 400):
            gone = await browser.get(f"/protocol/{name}")
            assert (gone.status_code, "not kept any more" in text_of(gone)) == (404, True)


async def noted(doctor: Doctor, *groups: str) -> None:
    """Wait until the present epoch of these groups stands in the audit log."""
    for group in groups:
        number = doctor.fanout.groups[group].epoch_number
        text = f"epoch {number}, "
        while not any(
            subject == group and detail.startswith(text)
            for subject, detail in doctor.audited(Action.EPOCH_BEGUN)
        ):
            await doctor.gateway.commands.storage_answers()


@on_a_loop
async def test_the_epochs_of_a_group_say_why_they_began(tmp_path: Path) -> None:
    """Who came, who left, that the group was made; newest first."""
    async with console(tmp_path) as desk:
        commands = desk.doctor.gateway.commands
        browser = await desk.admin()
        await commands.create_group("ward-a", ME)
        await desk.doctor.device("anna")
        await desk.doctor.device("berta", "ward-a")
        await noted(desk.doctor, "everyone", "ward-a")
        await commands.add_member("ward-a", "anna", ME)
        await BELL.until(lambda: desk.doctor.fanout.groups["ward-a"].timer is None)
        await noted(desk.doctor, "ward-a")
        await commands.remove_member("ward-a", "berta", ME)
        await commands.revoke("berta", ME)
        for group in ("everyone", "ward-a"):
            desk.doctor.fanout.next_epoch(desk.doctor.fanout.groups[group])
        await noted(desk.doctor, "everyone", "ward-a")
        found = epoch_history.history(desk.doctor.reader)
        assert [row.why.partition(",")[0] for row in found["everyone"]][:3] == [
            "Renewed: its time was over",
            "berta left",
            "berta joined",
        ]
        whys = [row.why for row in found["ward-a"]]
        assert whys[-2:] == ["1 joined.", "The group was made."]
        assert any(why.startswith("anna joined") for why in whys)
        assert any(why.startswith("berta left") for why in whys)
        assert "Epoch" in text_of(await browser.get("/protocol/epochs"))


def test_marks_are_told_by_more_than_colour() -> None:
    """Each result has a sign and words."""
    assert {"passed", "implied", "failed", "skipped", "unknown"} == set(handshakes.MARKS)


def test_what_was_ordered_since_an_epoch_began_is_the_cause_of_the_next_one() -> None:
    """Though its entry stands before that of the epoch, which is written a moment later."""
    entries = [
        Entry(1, 10, "gateway", "epoch-begun", "ward-a", "epoch 4, 1 members"),
        Entry(2, 30, "admin", "member-added", "anna", "group ward-a"),
        Entry(3, 20, "gateway", "epoch-begun", "ward-a", "epoch 5, 1 members"),
        Entry(4, 40, "gateway", "epoch-begun", "ward-a", "epoch 6, 2 members"),
        Entry(5, 50, "gateway", "epoch-begun", "ward-a", "epoch 7, 1 members"),
        Entry(6, 60, "gateway", "started", "doctor", ""),
        Entry(7, 70, "gateway", "epoch-begun", "ward-a", "epoch 8, 1 members"),
        Entry(8, 70, "gateway", "epoch-begun", "ward-a", "of another form"),
    ]
    assert [row.why.split(",")[0].split(":")[0] for row in epoch_history._rows(entries)["ward-a"]] == [
        "Renewed",
        "Renewed",
        "anna joined",
        "1 left.",
        "The doctor started",
    ]

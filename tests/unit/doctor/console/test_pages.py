"""What the pages show, and what each form answers."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from urllib.parse import quote

import pytest

from doctor.console.pages import messages, patients
from doctor.orders import BroadcastOrder, MessageOrder
from shared.protocol import invitations
from tests.console_bench import Fields, console, text_of
from tests.doctor_bench import LOG, ME, Device, on_a_loop

NASTY = "<img src=x onerror=alert(1)>\"'{{7*7}}</textarea>\u202egnp.exe\x1b[2J"
EDGE = [
    ("", False),
    (" ", False),
    ("ß", False),
    ("a b", False),
    ("A", False),
    ("-a", False),
    ("a" * 65, False),
    ("<script>", False),
    ("../x", False),
    ("a\x00", False),
    ("ward-a", True),
    ("a" * 64, True),
]


@on_a_loop
async def test_a_first_page_shows_everybody_and_how_they_are(tmp_path: Path) -> None:
    """State, groups with their epochs, the clock; filtered by state and by letters."""
    async with console(tmp_path) as desk:
        browser = await desk.admin()
        assert "Nobody is here yet" in text_of(await browser.get("/"))
        await desk.doctor.gateway.commands.create_group("ward-a", ME)
        anna = await desk.doctor.device("anna", "ward-a")
        await desk.doctor.device("berta")
        await desk.doctor.gateway.commands.revoke("berta", ME)

        await desk.doctor.invite("carla")
        text = text_of(await browser.get("/"))
        assert "1 connected" in text
        assert "1 invited" in text
        assert "1 revoked" in text
        assert f"ward-a {anna.epoch('ward-a')}" in text
        assert "in step" in text
        for query, found in (
            ("state=revoked", ["berta"]),
            ("state=established", ["anna"]),
            ("q=ANN", ["anna"]),
            ("q=ward", ["anna"]),
            ("q=%00%ff&start=-1", []),
            ("state=nonsense&start=99999999999", ["anna", "berta"]),
            ("start=1e3", ["anna", "berta"]),
        ):
            text = text_of(await browser.get(f"/patients/list?{query}"))
            assert [name for name in ("anna", "berta") if f" {name} " in text] == found, query


@on_a_loop
async def test_a_long_list_has_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a way to the next and back."""
    monkeypatch.setattr(patients, "PAGE", 1)
    async with console(tmp_path) as desk:
        browser = await desk.admin()
        for name in ("anna", "berta", "carla"):
            await desk.doctor.device(name)

        first, second = await browser.get("/"), await browser.get("/?start=1")
        assert "1 to 1 of 3" in text_of(first)
        assert ('rel="next"' in first.text, 'rel="prev"' in first.text) == (True, False)
        assert "berta" in second.text
        assert ('rel="next"' in second.text, 'rel="prev"' in second.text) == (True, True)


@on_a_loop
async def test_a_page_of_patients_asks_for_its_rows_however_many_patients_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten times as many patients are not one question more to the disk, nor one row more; and live updates name a topic, no patient."""
    monkeypatch.setattr(patients, "PAGE", 4)
    async with console(tmp_path) as desk:
        browser, doctor = await desk.admin(), desk.doctor
        asked: list[list[str]] = []
        for known in (range(10), range(10, 100)):

            def enrol(db: sqlite3.Connection, known: range = known) -> None:
                for number in known:
                    standing = "revoked" if number % 2 else "active"
                    values = (f"p-{number:03}", b"\x04" * 65, f"key {number}", standing)
                    db.execute(
                        "INSERT INTO patients (patient_id, algorithm, public_key, fingerprint, standing, enrolled_at, last_seen)"
                        " VALUES (?, 1, ?, ?, ?, 0, 0)",
                        values,
                    )

            await doctor.writer.submit(enrol)
            doctor.house.roster.load(doctor.reader, doctor.gateway.commands._office.sealer)
            statements: list[str] = []
            doctor.reader.set_trace_callback(statements.append)
            page = await browser.get("/patients/list")
            doctor.reader.set_trace_callback(None)
            asked.append(statements)
            assert page.text.count('<tr id="row-') == 4
        assert f"1 to 4 of {len(doctor.house.roster)}" in text_of(page)
        assert len(asked[0]) == len(asked[1])


@on_a_loop
async def test_a_message_is_sent_once_however_often_the_form_is(tmp_path: Path) -> None:
    """The preview says who can read it; the page behind it fills up as receipts come in."""
    async with console(tmp_path) as desk:
        browser = await desk.admin()
        anna = await desk.doctor.device("anna")
        gone = await desk.doctor.device("berta")
        gone.cut()
        await LOG.until("session ended", patient="berta")
        page = await browser.get("/messages/new")
        assert "1 get it now anna" in text_of(page)
        assert "1 get it when they come back in time berta" in text_of(page)
        fields = {
            **Fields(page.text).forms["/messages/new"],
            "to": "group:everyone",
            "text": "Noon.\r\nWater.",
            "hours": "1,5",
        }

        answers = [await browser.post("/messages/new", {**fields, "step": "send"}) for _ in range(3)]

        assert {answer.status_code for answer in answers} == {303}
        (place,) = {answer.headers["location"] for answer in answers}
        await anna.until(lambda it: it.bodies() == [b"Noon.\nWater."])
        await LOG.until("delivered", patient="anna", number=int(place.rpartition(".")[2]))
        text = text_of(await browser.get(place))
        assert "anna ✓ Delivered" in text
        assert "berta ◌ Waiting" in text
        assert "1 of 2 have it" in text_of(await browser.get(f"{place}/receipts"))
        assert text_of(await browser.get("/messages")).count("Noon.") == 1
        assert "Noon." in text_of(await browser.get("/patients/anna"))
        other = {**fields, "text": "Another"}
        answer = await browser.post("/messages/new", other)
        assert (answer.status_code, "used for another request" in text_of(answer)) == (422, True)


@on_a_loop
async def test_a_message_to_one_patient_is_for_it_alone(tmp_path: Path) -> None:
    """Chosen on the patient's page."""
    async with console(tmp_path) as desk:
        browser = await desk.admin()
        anna = await desk.doctor.device("anna")
        await desk.doctor.device("berta")
        page = "/messages/new?to=patient:anna"
        assert "anna, and nobody else" in text_of(await browser.get(page))

        seen = Fields((await browser.get(page)).text).forms["/messages/new"]
        answer = await browser.post("/messages/new", {**seen, "to": "patient:anna", "text": "Only you"})

        await anna.until(lambda it: it.private == [b"Only you"])
        text = text_of(await browser.get(answer.headers["location"]))
        assert "To anna alone" in text
        assert "berta" not in text


UNSENDABLE = [
    ({"text": ""}, "Write the message first"),
    ({"text": " \n "}, "Write the message first"),
    ({"text": "ü" * 16_385}, "at most 32768 bytes; this one has 32770"),
    ({"text": "x", "hours": "0"}, "a number of hours above 0"),
    ({"text": "x", "hours": "-1"}, "a number of hours above 0"),
    ({"text": "x", "hours": "nan"}, "a number of hours above 0"),
    ({"text": "x", "hours": "inf"}, "a number of hours above 0"),
    ({"text": "x", "hours": "soon"}, "a number of hours above 0"),
    ({"text": "x", "to": ""}, "Choose who is to read it"),
    ({"text": "x", "to": "everyone"}, "Choose who is to read it"),
    ({"text": "x", "to": "group:"}, "Choose who is to read it"),
    ({"text": "x", "to": "group:nowhere"}, "There is no group 'nowhere'"),
    ({"text": "x", "to": "patient:nobody"}, "There is no patient 'nobody'"),
    ({"text": "x", "to": "patient:<b>"}, "Choose who is to read it"),
]


@on_a_loop
async def test_a_message_that_cannot_be_sent_says_why_and_is_not_lost(tmp_path: Path) -> None:
    """Beside its field, with what was typed still there."""
    async with console(tmp_path) as desk:
        browser = await desk.admin()
        for fields, text in UNSENDABLE:
            answer = await browser.fill(
                "/messages/new", "/messages/new", **{"to": "group:everyone", **fields}
            )
            assert (answer.status_code, text in text_of(answer)) == (422, True), fields
            assert 'role="alert"' in answer.text
            assert fields["text"].strip() in text_of(answer)
        assert desk.doctor.gateway.commands.messages() == []


@on_a_loop
async def test_without_a_script_a_button_shows_who_will_read_it(tmp_path: Path) -> None:
    """And sends nothing."""
    async with console(tmp_path) as desk:
        browser = await desk.admin()
        await desk.doctor.device("anna")
        answer = await browser.fill(
            "/messages/new", "/messages/new", to="group:everyone", text="Wait", step="preview"
        )

        assert (answer.status_code, "1 get it now anna" in text_of(answer)) == (200, True)
        assert desk.doctor.gateway.commands.messages() == []
        for to, text in (
            ("group:everyone", "anna"),
            ("group:nowhere", "There is no group"),
            ("", "Choose who"),
        ):
            assert text in text_of(await browser.get(f"/messages/readers?to={to}"))


@on_a_loop
async def test_what_people_have_written_is_shown_as_text(tmp_path: Path) -> None:
    """Never as markup, a template, a terminal's escape or a change of direction: on no page that shows it."""
    async with console(tmp_path) as desk:
        browser, commands = await desk.admin(), desk.doctor.gateway.commands
        anna = await desk.doctor.device("anna")
        broadcast = await commands.broadcast(BroadcastOrder(NASTY), ME)
        await commands.send("anna", MessageOrder(NASTY), ME)
        assert anna.stream is not None
        commands._office.fanout.troubles.note("anna", NASTY, 0)
        pages = [
            "/",
            "/messages",
            f"/messages/{broadcast.id}",
            "/patients/anna",
            "/messages/new",
            "/groups/everyone",
        ]
        for page in pages:
            text = (await browser.get(page)).text
            assert not set(NASTY) & {"\u202e", "\x1b"} & set(text), page
            assert "<img src=x" not in text, page
            assert "onerror" not in text.replace("&lt;img src=x onerror=alert(1)&gt;", ""), page
        for action, fields in (
            ("/messages/new", {"text": NASTY, "hours": NASTY, "to": NASTY}),
            ("/groups", {"name": NASTY}),
            ("/invitations", {"patient": NASTY, "hours": NASTY, "group": NASTY}),
            ("/groups/everyone/members", {"patient": NASTY}),
            ("/patients/anna/revoke", {"name": NASTY}),
        ):
            seen = Fields((await browser.get("/groups")).text).forms["/groups"]
            answer = await browser.post(action, {**seen, **fields})
            assert answer.status_code == 422, action
            assert "<img src=x" not in answer.text
        for query in (
            f"/?q={quote(NASTY)}",
            f"/messages/new?to={quote(NASTY)}",
            f"/login?next={quote(NASTY)}",
            f"/patients/anna?done={quote(NASTY)}",
        ):
            assert "<img src=x" not in (await browser.get(query)).text


@on_a_loop
async def test_a_patient_is_revoked_by_who_types_its_name(tmp_path: Path) -> None:
    """And by nobody else; twice is said."""
    async with console(tmp_path) as desk:
        browser = await desk.admin()
        anna = await desk.doctor.device("anna")
        page = "/patients/anna/revoke"
        for typed in ("", "berta", "ANNA", " "):
            answer = await browser.fill(page, page, name=typed)
            assert (answer.status_code, "Type anna here" in text_of(answer)) == (422, True)
        assert anna.patient_id in desk.doctor.fanout.sessions

        answer = await browser.fill(page, page, name=" anna ")

        await anna.gone()
        text = text_of(await browser.get(answer.headers["location"]))
        assert "its connection is cut" in text
        assert "Write a message" not in text
        answer = await browser.fill(page, page, name="anna")
        assert (answer.status_code, "is revoked already" in text_of(answer)) == (422, True)


@on_a_loop
async def test_a_patient_is_retired_on_a_page_of_its_own(tmp_path: Path) -> None:
    """Its page says so; a message to it is refused with the reason."""
    async with console(tmp_path) as desk:
        browser = await desk.admin()
        await desk.doctor.device("anna")
        page = "/patients/anna/retire"
        answer = await browser.fill(page, page)
        assert "Retired: it is in no group any more" in text_of(await browser.get(answer.headers["location"]))
        assert "retired already" in text_of(await browser.fill(page, page))
        answer = await browser.fill("/messages/new", "/messages/new", to="patient:anna", text="x")
        assert (answer.status_code, "send the message when it has come back" in text_of(answer)) == (
            422,
            True,
        )


@on_a_loop
async def test_an_invitation_is_shown_as_text_and_as_a_picture(tmp_path: Path) -> None:
    """It enrols; no other page shows it; the open ones are listed."""
    async with console(tmp_path) as desk:
        browser = await desk.admin()
        await desk.doctor.gateway.commands.create_group("ward-a", ME)
        answer = await browser.fill(
            "/invitations", "/invitations", patient="anna", group=["ward-a"], hours="2"
        )

        made = answer.text.partition('id="invitation"')[2].partition(">")[2].partition("<")[0]
        assert "<svg" in answer.text
        assert "shown this once" in text_of(answer)
        page = await browser.get("/invitations")
        assert "anna" in text_of(page)
        assert made not in page.text
        device = Device(invitations.from_text(made))
        await desk.doctor.connect(device)
        await desk.doctor.attached(device, "everyone", "ward-a")
        for fields, text in (
            ({"patient": "anna"}, "anna"),
            ({"patient": "b", "hours": "x"}, "a number of hours"),
            ({"patient": "b", "group": ["nowhere"]}, "There is no group"),
            ({"patient": "b", "group": [f"g{number}" for number in range(70)]}, "at most 62 groups"),
        ):
            refused = await browser.fill("/invitations", "/invitations", **fields)
            assert (refused.status_code, text in text_of(refused)) == (422, True), fields


@on_a_loop
async def test_a_name_that_is_none_is_refused_beside_its_field(tmp_path: Path) -> None:
    """Of a group and of a patient; a group's name that is taken as well."""
    async with console(tmp_path) as desk:
        browser = await desk.admin()
        for name, good in EDGE:
            group = await browser.fill("/groups", "/groups", name=name)
            patient = await browser.fill("/invitations", "/invitations", patient=name)
            assert (group.status_code, patient.status_code) == ((303, 200) if good else (422, 422)), name
            if not good:
                assert "Use 1 to 64 of a-z" in text_of(group)
                assert "Use 1 to 64 of a-z" in text_of(patient)
        again = await browser.fill("/groups", "/groups", name="ward-a")
        assert (again.status_code, "already" in text_of(again)) == (422, True)


@on_a_loop
async def test_members_are_added_and_removed(tmp_path: Path) -> None:
    """Those that are not in it are offered; what cannot be done is said."""
    async with console(tmp_path) as desk:
        browser = await desk.admin()
        await desk.doctor.gateway.commands.create_group("ward-a", ME)
        await desk.doctor.device("anna")
        page, action = "/groups/ward-a", "/groups/ward-a/members"
        assert '<option value="anna">' in (await browser.get(page)).text
        for patient, text in (("", "Choose a patient"), ("nobody", "is not enrolled")):
            answer = await browser.fill(page, action, patient=patient)
            assert (answer.status_code, text in text_of(answer)) == (422, True)
        assert (await browser.fill(page, action, patient="anna")).status_code == 303
        assert "1 member, key epoch" in text_of(await browser.get(action))
        answer = await browser.fill(page, action, patient="anna")
        assert (answer.status_code, "a member of ward-a already" in text_of(answer)) == (422, True)

        remove = f"{action}/anna/remove"
        fields = Fields((await browser.get(page)).text).forms[remove]
        assert [(await browser.post(remove, fields)).status_code for _ in range(2)] == [303, 303]
        assert "Nobody is in this group yet" in text_of(await browser.get(page))
        everyone = await browser.post("/groups/everyone/members/anna/remove", {**fields, "key": ""})
        assert (everyone.status_code, "revoke or retire the patient" in text_of(everyone)) == (422, True)


@on_a_loop
async def test_of_a_large_group_those_without_it_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many by name, the rest by number."""
    monkeypatch.setattr(messages, "ROWS", 1)
    async with console(tmp_path) as desk:
        browser = await desk.admin()
        for name in ("anna", "berta"):
            await desk.doctor.device(name)
        desk.doctor.devices[1].cut()
        await LOG.until("session ended", patient="berta")
        sent = await desk.doctor.gateway.commands.broadcast(BroadcastOrder("x"), ME)
        await LOG.until("delivered", patient="anna", number=sent.number)
        text = text_of(await browser.get(f"/messages/{sent.id}"))

        assert "berta ◌ Waiting" in text
        assert "and 1 more" in text

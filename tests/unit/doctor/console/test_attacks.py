"""What a stranger on the console's network, or a former operator, might try; each was once possible."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from importlib import resources
from pathlib import Path
from urllib.parse import quote

import pytest

from doctor import answering
from doctor.audit import Action
from doctor.console.connection import ConsoleConnection
from doctor.console.pages.entrance import safe_target
from doctor.console.server import ConsoleServer
from doctor.console.throttle import FREE
from doctor.idempotency import Origin
from shared.protocol.events import Direction, Failed, Traced
from shared.wire.checks import Check
from shared.wire.messages import Report, ReportKind
from shared.wire.opcodes import AlertCode
from tests.console_bench import Fields, console, text_of
from tests.doctor_bench import LOG, on_a_loop
from tests.unit.doctor.console.test_server import listening

SCRIPT = b"GET /static/htmx.min.js HTTP/1.1\r\nHost: localhost\r\n\r\n"


def port_of(server: ConsoleServer) -> int:
    """Where it listens."""
    return int(server.address.rstrip("/").rpartition(":")[2])


@on_a_loop
async def test_a_page_left_open_does_not_end_the_login_after_it(tmp_path: Path) -> None:
    """A new password ends the logins before it; what still asks with one of those ends no other."""
    async with console(tmp_path) as desk:
        before = await desk.admin()
        made = await desk.doctor.gateway.commands.reset_password("admin", Origin("test"))
        after = desk.stranger()
        await after.log_in(password=made.password)

        assert (await before.get("/patients/list")).status_code == 303
        assert (await after.get("/")).status_code == 200


@pytest.mark.parametrize("end", ["remove", "reset"])
def test_an_order_that_arrives_slowly_is_not_carried_out_for_a_former_operator(
    tmp_path: Path, end: str
) -> None:
    """Its head came while the operator was one, the end of its form did not."""

    async def scenario() -> None:
        async with console(tmp_path) as desk:
            commands, bea = desk.doctor.gateway.commands, await desk.operator("bea")
            token = Fields((await bea.get("/groups")).text).forms["/groups"]["csrf"]

            async def slowly() -> AsyncIterator[bytes]:
                yield f"csrf={token}&name=".encode()
                if end == "remove":
                    await commands.remove_operator("bea", Origin("test"))
                else:
                    await commands.reset_password("bea", Origin("test"))
                yield b"ward"

            headers = {"Origin": desk.base, "Content-Type": "application/x-www-form-urlencoded"}
            answer = await bea.http.post("/groups", content=slowly(), headers=headers)

            assert answer.headers.get("location") == "/login"
            assert "ward" not in commands.group_names()

    on_a_loop(scenario)()


@on_a_loop
async def test_two_addresses_do_not_find_out_who_is_an_operator(tmp_path: Path) -> None:
    """One makes names that do not exist slow; at the other a name is looked at all the same, whether it exists or not."""
    async with console(tmp_path) as desk:
        for number in range(FREE):
            await desk.stranger("198.51.100.9").log_in(f"nobody-{number}", "wrong")
        answers = [await desk.stranger("198.51.100.10").log_in(name, "wrong") for name in ("admin", "bea")]

        assert ["Name or password is wrong" in text_of(answer) for answer in answers] == [True, True]


@pytest.mark.parametrize("target", ["//[", "http://[", "/\u65e5", "/a\u00e9"])
def test_a_link_that_leads_nowhere_leads_to_the_first_page(tmp_path: Path, target: str) -> None:
    """A login by it is a login; nothing fails of ours, which would fill the log."""

    async def scenario() -> None:
        async with console(tmp_path) as desk:
            browser = desk.stranger()
            page = await browser.http.get("/login", params={"next": target})
            fields = {**Fields(page.text).forms["/login"], "next": target}
            answer = await browser.post("/login", {**fields, "name": "admin", "password": desk.password})
            assert (answer.status_code, answer.headers["location"]) == (303, "/")
            assert safe_target(target) == "/"
        assert LOG.find("request failed") == []

    on_a_loop(scenario)()


@pytest.mark.parametrize(
    "sent",
    [
        SCRIPT + b"G",
        SCRIPT + b"rubbish\r\n\r\n",
        SCRIPT.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
    ],
    ids=["half a request", "no request", "the last request"],
)
def test_who_reads_nothing_holds_no_place_beyond_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    """Whether the connection is ended by half a request or by its own wish: what is not taken is thrown away."""
    monkeypatch.setattr(answering, "READ_DEADLINE", 0.05)
    monkeypatch.setattr("doctor.http.REQUEST_DEADLINE", 0.05)

    async def scenario() -> None:
        held: asyncio.Queue[ConsoleConnection] = asyncio.Queue()
        gone = asyncio.Event()
        made, lost = ConsoleConnection.connection_made, ConsoleConnection.connection_lost

        def note_made(self: ConsoleConnection, transport: asyncio.Transport) -> None:
            made(self, transport)
            held.put_nowait(self)

        def note_lost(self: ConsoleConnection, exc: Exception | None) -> None:
            lost(self, exc)
            gone.set()

        monkeypatch.setattr(ConsoleConnection, "connection_made", note_made)
        monkeypatch.setattr(ConsoleConnection, "connection_lost", note_lost)
        async with listening(tmp_path) as (_, server):
            with socket.socket() as thief:
                thief.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                thief.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(thief, ("127.0.0.1", port_of(server)))
                raw = (await held.get()).transport.get_extra_info("socket")
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
                await loop.sock_sendall(thief, sent)
                async with asyncio.timeout(5):
                    await gone.wait()

    on_a_loop(scenario)()


@on_a_loop
async def test_connections_beyond_the_limit_take_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger who opens thousands and says nothing leaves the doctor the descriptors that devices need."""
    monkeypatch.setattr(ConsoleConnection, "most", 3)
    async with listening(tmp_path) as (_, server):
        opened = [await asyncio.open_connection("127.0.0.1", port_of(server)) for _ in range(4)]
        try:
            with pytest.raises(ConnectionResetError):
                await opened[-1][0].readexactly(1)
            assert len(server.server_state.connections) == 3
        finally:
            for _, writer in opened:
                writer.close()


HOSTILE = "<img src=x onerror=alert(1)>\"'><script>alert(1)</script>{{7*7}}\u202e\x1b[2J javascript:alert(1)"


class Elements(HTMLParser):
    """What a browser would make of a page: what of it was not ours."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.strange: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A script of its own, a picture of another place, a handler, an address that is a script."""
        known = {name: value or "" for name, value in attrs}
        ours = known.get("src", "/static/").startswith("/static/")
        handlers = [name for name in known if name.startswith(("on", "hx-on", "style"))]
        leads = [known.get(name, "/")[:1] for name in ("href", "action", "hx-get")]
        if not ours or handlers or (tag == "script" and "src" not in known) or set(leads) - {"/", "#", ""}:
            self.strange.append(self.get_starttag_text() or tag)


def made_of_text(page: str) -> bool:
    """Whether what was hostile is text and nothing else: no tag, no attribute, no character that turns the direction."""
    return not Elements(page).strange and not {"\u202e", "\x1b"} & set(page)


@on_a_loop
async def test_the_drawn_protocol_shows_hostile_names_addresses_and_causes_as_text(tmp_path: Path) -> None:
    """Whatever a handshake's trace holds, and whatever somebody has written into the log that epochs and events are told from."""
    async with console(tmp_path) as desk:
        browser, house, ledger = await desk.admin(), desk.doctor.house, desk.doctor.house.ledger
        for number, check in enumerate(Check):
            trace = house.traces.begin(HOSTILE)
            trace.patient = HOSTILE if number % 2 else None
            if number % 3 == 0:
                trace.add(Traced(Direction.RECEIVED, "KEY_EXCHANGE", 10, 100, (Check.SUITE_ALLOWED,)))
            trace.fail(Failed(check, HOSTILE))
            trace.alerted = AlertCode.REFUSED
            trace.closed = True
        for action in Action:
            ledger.note(action, HOSTILE, HOSTILE)
        for action in (Action.REFUSED, Action.RECEIPT_IMPOSSIBLE, Action.STRANGERS_REFUSED):
            ledger.note(action, HOSTILE, f"V-036 {HOSTILE} from {HOSTILE.replace(' ', '')}")
        ledger.note(Action.STRANGERS_REFUSED, "door", f"{HOSTILE.replace(' ', '')}:5; from {HOSTILE}")
        for number in (1, 2, 3):
            ledger.note(Action.MEMBER_ADDED, HOSTILE, f"group {HOSTILE}")
            ledger.note(Action.EPOCH_BEGUN, HOSTILE, f"epoch {number}, {number} members")
        house.tally.refused.update(Check)
        await desk.doctor.settled()

        asked = quote(HOSTILE)
        shown = [f"/protocol/{trace.name}" for trace in house.traces.newest_first()]
        pages = ["/protocol", "/protocol/list", "/protocol/drawing", "/protocol/epochs", *shown]
        pages += [
            "/events",
            "/events/list",
            "/events/counts",
            "/audit",
            "/audit/list",
            f"/audit?object={asked}",
        ]
        pages += [
            f"/protocol?patient={asked}&outcome={asked}&start={asked}",
            f"/protocol/list?chosen={asked}",
        ]
        pages += [
            f"/protocol/{quote(HOSTILE, safe='')}",
            f"/audit?action={asked}&before={asked}",
            f"/events?before={asked}",
        ]
        seen = ""
        for page in pages:
            answer = await browser.get(page)
            assert answer.status_code in (200, 204, 404), page
            assert made_of_text(answer.text), page
            seen += answer.text
        assert "{{7*7}}" in seen, "no template either"
        assert seen.count("&lt;img src=x") > 100, "it was there to be seen"


def test_the_drawn_protocol_takes_nothing_as_it_is() -> None:
    """No template passes anything by the escaping; what a macro of ours has made is all that may."""
    folder = resources.files("doctor.console") / "templates"
    for template in folder.iterdir():
        text = template.read_text()
        for word in ("|safe", "| safe", "autoescape", "Markup", "hx-on", "style=", "<script>", "onclick"):
            assert word not in text, (template.name, word)
        assert re.findall(r"\s[a-z-]+=\{\{", text) == [], (template.name, "an attribute without quotes")


@pytest.mark.parametrize("page", ["patient", "vitals"])
def test_a_patients_words_are_text_wherever_they_are_shown(tmp_path: Path, page: str) -> None:
    """Replies, and reports of vitals that are none."""

    async def scenario() -> None:
        async with console(tmp_path) as desk:
            browser, reports = await desk.admin(), desk.doctor.house.reports
            await desk.doctor.device("anna")
            kind = ReportKind.REPLY if page == "patient" else ReportKind.VITALS
            made = Report(bytes(16), kind, 1, HOSTILE.encode())
            await desk.doctor.writer.submit(lambda db: reports.store(db, "anna", made, 2))
            places = (
                "/",
                "/patients/list",
                "/patients/anna",
                "/patients/anna/messages",
                "/patients/anna/readings?hours=720",
            )
            for place in places:
                assert made_of_text((await browser.get(place)).text), place

    on_a_loop(scenario)()

"""What every request passes, and what every answer bears."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Litestar

from doctor.console.gate import HEADERS, Gate
from doctor.console.rendering import environment, static_files
from doctor.http import BODY_LIMIT
from shared.errors import StorageError
from tests.console_bench import ADDRESS, Browser, Desk, console, text_of
from tests.doctor_bench import on_a_loop

NAMES = {
    "patient": "anna",
    "group": "ward",
    "handshake": "1-0",
    "message": "everyone.1",
    "name": "console.css",
    "alert": "1",
}


def routes(desk: Desk) -> list[tuple[str, str, bool]]:
    """Method, path and whether strangers may ask, of every page."""
    inner: Any = desk.app
    litestar: Litestar = inner._app.app
    return [
        (
            method,
            re.sub(r"\{(\w+):str\}", lambda found: NAMES[found[1]], route.path),
            bool(handler.opt.get("open")),
        )
        for route in litestar.routes
        for handler in getattr(route, "route_handlers", [])
        for method in sorted(handler.http_methods & {"GET", "POST"})
    ]


def orders(desk: Desk) -> list[tuple[str]]:
    """What was ordered so far, beside logins."""
    return desk.doctor.reader.execute("SELECT action FROM audit WHERE action != 'logged-in'").fetchall()


async def asked(browser: Browser, method: str, path: str) -> httpx.Response:
    """One request with nothing in it; of a stream the beginning alone."""
    if method == "POST":
        return await browser.post(path, {})
    return await browser.get(path)


@on_a_loop
async def test_strangers_see_the_login_and_nothing_else(tmp_path: Path) -> None:
    """On every page; and whatever is answered bears every header."""
    async with console(tmp_path) as desk:
        found = routes(desk)
        assert {path for _, path, is_open in found if is_open} == {"/login", "/static/console.css"}
        assert len(found) > 20
        for method, path, is_open in found:
            answer = await asked(desk.stranger(), method, path)
            if not is_open:
                assert (answer.status_code, answer.headers["location"][:6]) == (303, "/login"), path
            for name, value in HEADERS.items():
                expected = (
                    "public, max-age=31536000, immutable"
                    if (name, path[:8]) == ("cache-control", "/static/")
                    else value
                )
                assert answer.headers[name] == expected, (path, name)


@on_a_loop
async def test_every_form_needs_the_token_of_its_login(tmp_path: Path) -> None:
    """None, a wrong one, another login's: nothing is done, whatever the form."""
    async with console(tmp_path) as desk:
        browser, other = await desk.admin(), await desk.operator("bea")
        foreign = re.findall(r'name="csrf" value="([^"]+)"', (await other.get("/groups")).text)[0]
        before = orders(desk)
        for method, path, is_open in routes(desk):
            if method != "POST" or is_open:
                continue
            for token in ({}, {"csrf": ""}, {"csrf": "wrong"}, {"csrf": "\xe4"}, {"csrf": foreign}):
                answer = await browser.post(
                    path, {**token, "name": "anna", "patient": "anna", "text": "x", "to": "group:everyone"}
                )
                assert answer.status_code == 403, path
                assert "not from your present login" in text_of(answer)
        assert orders(desk) == before


@on_a_loop
async def test_a_form_from_elsewhere_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """Another site, a sandbox, no browser at all; also where it has the right token."""
    async with console(tmp_path) as desk:
        browser = await desk.admin()
        token = re.findall(r'name="csrf" value="([^"]+)"', (await browser.get("/groups")).text)[0]
        for headers in (
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Origin": "https://127.0.0.1:8080"},
            {"Origin": ADDRESS, "Sec-Fetch-Site": "cross-site"},
            {"Origin": ADDRESS, "Sec-Fetch-Site": "same-site"},
            {"Sec-Fetch-Site": "none"},
            {},
        ):
            answer = await browser.http.post("/groups", data={"csrf": token, "name": "ward"}, headers=headers)
            assert (answer.status_code, "nothing was done" in answer.text) == (403, True), headers
        assert len(desk.doctor.gateway.commands.list_groups()) == 1
        for headers in (
            {"Sec-Fetch-Site": "same-origin"},
            {"Origin": ADDRESS, "Sec-Fetch-Site": "same-origin"},
        ):
            answer = await browser.http.post(
                "/groups", data={"csrf": token, "name": f"ward-{len(headers)}"}, headers=headers
            )
            assert answer.status_code == 303


@pytest.mark.parametrize(
    ("address", "cookie", "status"), [(2000, 1, 414), (60_000, 1, 414), (1, 9000, 431), (900, 4000, 303)]
)
def test_what_has_a_long_head_is_refused_and_not_kept(
    tmp_path: Path, address: int, cookie: int, status: int
) -> None:
    """The latest thousand addresses and cookies are: a stranger could fill the memory with long ones."""

    async def scenario() -> None:
        async with console(tmp_path) as desk:
            inner: Any = desk.app
            kept = inner._app.app.asgi_router.handle_routing.cache_info
            browser, before = desk.stranger(), kept().currsize

            answer = await browser.http.get(
                f"/patients/{'a' * address}", headers={"Cookie": f"x={'b' * cookie}"}
            )

            assert answer.status_code == status
            assert answer.headers["content-security-policy"] == HEADERS["content-security-policy"]
            assert (kept().currsize > before) == (status == 303)

    on_a_loop(scenario)()


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1:8080", True),
        ("localhost", True),
        ("LOCALHOST:1", True),
        ("[::1]:8080", True),
        ("gateway.clinic.example", True),
        ("console.ward.example:8443", True),
        ("10.0.0.5", True),
        ("evil.example", False),
        ("a.b.ward.example", False),
        ("ward.example", False),
        ("127.0.0.1.evil.example", False),
        ("localhost@evil.example", False),
        ("127.0.0.1:80:80", False),
        ("", False),
    ],
)
def test_only_names_that_the_console_has_are_answered(host: str, known: bool) -> None:
    """Those of loopback and those in its certificate: a page of somebody else's cannot point its own name here."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"in", "more_body": False})

    async def scenario() -> None:
        gate: Any = Gate(answer, ("gateway.clinic.example", "*.ward.example", "10.0.0.5"), secure=True)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(gate), base_url="https://x") as http:
            found = await http.get("/", headers={"Host": host})
            assert found.status_code == (200 if known else 421)
            assert found.headers["content-security-policy"] == HEADERS["content-security-policy"]
            assert found.headers["strict-transport-security"].startswith("max-age=")

    on_a_loop(scenario)()


@on_a_loop
async def test_what_goes_wrong_is_said_on_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No page of that name, a method that it does not take, too much, no form, a bug: with a text, and no cause of ours in it."""
    async with console(tmp_path) as desk:
        browser = await desk.admin()
        token = re.findall(r'name="csrf" value="([^"]+)"', (await browser.get("/groups")).text)[0]

        async def sent(content: bytes, kind: str = "application/x-www-form-urlencoded") -> httpx.Response:
            headers = {"Origin": ADDRESS, "Content-Type": kind}
            return await browser.http.post("/groups", content=content, headers=headers)

        many = "&".join(f"a{number}=" for number in range(300))
        for answer, status, text in (
            (await browser.get("/nothing"), 404, "There is no such page"),
            (await browser.get("/static/nothing.js"), 404, "There is no such page"),
            (await browser.get("/static/..%2fapp.py"), 404, "There is no such page"),
            (await browser.get("/patients/nobody/state"), 404, "There is no such page"),
            (await browser.get("/patients/nobody"), 404, "There is no such page"),
            (await browser.get("/messages/everyone.9"), 404, "There is no such page"),
            (await browser.get("/messages/%20"), 404, "There is no such page"),
            (await browser.get("/groups/nowhere"), 404, "There is no such page"),
            (await browser.post("/messages", {}), 405, "does not take that"),
            (await sent(b"csrf=" + b"x" * BODY_LIMIT), 413, "too long"),
            (await sent(b"{}", "application/json"), 415, "URL-encoded"),
            (await sent(f"csrf={token}&name=%ff".encode()), 400, "not UTF-8"),
            (await sent(b"csrf=\xff"), 400, "not UTF-8"),
            (await sent(many.encode()), 400, "too many fields"),
        ):
            assert (answer.status_code, text in text_of(answer)) == (status, True), (text, answer.text)

        def full(*_: object) -> None:
            raise StorageError("the disk is full")

        monkeypatch.setattr(type(desk.doctor.gateway.commands), "list_groups", full)
        answer = await browser.get("/groups")
        assert (answer.status_code, "Nothing was done: the disk is full." in text_of(answer)) == (503, True)

        def broken(*_: object) -> None:
            raise ZeroDivisionError("a secret of ours")

        monkeypatch.setattr(type(desk.doctor.gateway.commands), "list_groups", broken)
        answer = await browser.get("/groups")
        assert (answer.status_code, "secret" in answer.text) == (500, False)
        assert "its log says why" in text_of(answer)


def test_no_page_has_a_script_or_a_style_of_its_own() -> None:
    """The policy would silently drop both; and nothing is loaded from elsewhere."""
    loader: Any = environment().loader
    for name in loader.list_templates():
        source = loader.get_source(environment(), name)[0]
        assert not re.search(
            r"<style|\sstyle=|\son[a-z]+=|<script(?! src=\"\{\{ static)|javascript:", source
        ), name
        assert not re.search(r"(src|href|action)=\"(https?:)?//", source), name
    for name, (content, _) in static_files().items():
        if name != "htmx.min.js":
            assert not re.search(rb"url\((?!#)|@import|https?://(?!www\.w3\.org)", content), name

"""A bench for the console: its application in front of a running doctor, and a browser without a screen.

The browser keeps cookies, says where its forms come from, and fills the hidden fields of the form that it has seen.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx

from doctor.console.app import create_app
from doctor.console.desk import Console
from doctor.console.logins import Logins
from doctor.console.passwords import Cost, Hasher
from doctor.idempotency import Origin
from tests.doctor_bench import Doctor, running

ADDRESS = "http://127.0.0.1:8080"
CHEAP = Cost(memory=8, iterations=1)


class Fields(HTMLParser):
    """The fields of each form on a page, by the form's action, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.forms: dict[str, dict[str, str]] = {}
        self.text = ""
        self._form: dict[str, str] = {}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """A form, or a field of it."""
        known = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._form = self.forms[known.get("action", "")] = {}
        elif tag == "input" and known.get("type") == "hidden":
            self._form[known["name"]] = known.get("value", "")

    def handle_data(self, data: str) -> None:
        """What people read."""
        self.text += data


class Clock:
    """A clock that goes forward when it is told to; milliseconds."""

    def __init__(self) -> None:
        self.elapsed = 1_000_000

    def __call__(self) -> int:
        return self.elapsed


class Browser:
    """Somebody at the console."""

    def __init__(self, app: Any, address: str = "127.0.0.1", base: str = ADDRESS) -> None:
        transport = httpx.ASGITransport(app, client=(address, 50_000))
        self.http = httpx.AsyncClient(transport=transport, base_url=base)

    async def get(self, path: str, **headers: str) -> httpx.Response:
        """Look at a page."""
        return await self.http.get(path, headers=headers)

    async def post(self, path: str, fields: dict[str, Any], **headers: str) -> httpx.Response:
        """Send a form as it is, from a page of the console."""
        sent = {"Origin": str(self.http.base_url).rstrip("/"), **headers}
        return await self.http.post(path, data=fields, headers=sent)

    async def fill(self, page: str, action: str, **fields: Any) -> httpx.Response:
        """Open a page, fill in a form of it and send it."""
        seen = Fields((await self.get(page)).text).forms[action]
        return await self.post(action, {**seen, **fields})

    async def log_in(self, name: str = "admin", password: str = "") -> httpx.Response:
        """By the form."""
        return await self.fill("/login", "/login", name=name, password=password)


class Desk:
    """A running doctor with a console, and its first operator's password."""

    def __init__(self, doctor: Doctor, password: str, secure: bool) -> None:
        self.doctor = doctor
        self.password = password
        self.clock = Clock()
        gateway = doctor.gateway
        self.console = Console(
            gateway.commands, gateway.house, "doctor", secure, Logins(self.clock), now=self.clock
        )
        self.app = create_app(self.console)
        self.base = ADDRESS.replace("http:", "https:") if secure else ADDRESS

    def stranger(self, address: str = "127.0.0.1") -> Browser:
        """A browser that nobody has logged in at."""
        return Browser(self.app, address, self.base)

    async def admin(self) -> Browser:
        """A browser at which the first operator is logged in."""
        browser = self.stranger()
        answer = await browser.log_in(password=self.password)
        assert answer.status_code == 303, answer.text
        return browser

    async def operator(self, name: str) -> Browser:
        """One at which another operator is logged in, who is made for it."""
        made = await self.doctor.gateway.commands.add_operator(name, Origin("test"))
        browser = self.stranger()
        assert (await browser.log_in(name, made.password)).status_code == 303
        return browser


@asynccontextmanager
async def console(directory: Path, secure: bool = False, **changes: Any) -> AsyncIterator[Desk]:
    """A doctor and its console, without a socket in between, whose passwords are cheap."""
    async with running(directory, **changes) as doctor:
        commands = doctor.gateway.commands
        commands.hasher = Hasher(CHEAP)
        made = await commands.provide_first_operator()
        assert made is not None
        yield Desk(doctor, made.password, secure)


def text_of(answer: httpx.Response) -> str:
    """What people read on a page, with single blanks."""
    return re.sub(r"\s+", " ", Fields(answer.text).text)

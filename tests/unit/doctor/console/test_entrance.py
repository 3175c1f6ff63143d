"""Who comes in, who does not, and how long it lasts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from doctor.audit import Action
from doctor.console import logins, passwords
from doctor.console.logins import IDLE, LONGEST, Login, Logins
from doctor.console.pages.entrance import safe_target
from doctor.console.passwords import Hasher
from doctor.console.throttle import FREE
from doctor.idempotency import Origin
from doctor.noise import IN_FULL
from shared.errors import UserError
from tests.console_bench import CHEAP, Browser, Clock, Desk, Fields, console, text_of
from tests.doctor_bench import LIMIT_S, LOG, on_a_loop


def entries(desk: Desk, action: Action) -> list[tuple[str, str, str]]:
    """Actor, object and detail of the audit's entries about an action."""
    rows = desk.doctor.reader.execute(
        "SELECT actor, object, detail FROM audit WHERE action = ?", (action.value,)
    )
    return rows.fetchall()


async def until_audited(desk: Desk, action: Action, count: int) -> list[tuple[str, str, str]]:
    """Wait for so many of them."""
    while len(found := entries(desk, action)) < count:
        await desk.doctor.writer.submit(lambda db: None)
    return found


async def until_pending(desk: Desk, count: int) -> None:
    """Wait until so many orders wait for their commit."""
    async with asyncio.timeout(LIMIT_S):
        while desk.doctor.writer.pending < count:  # noqa: ASYNC110  nothing tells of it
            await asyncio.sleep(0)


@on_a_loop
async def test_the_first_operator_logs_in_and_the_first_password_goes(tmp_path: Path) -> None:
    """Its file is erased, the password stays good; the audit log names who came and went."""
    async with console(tmp_path) as desk:
        commands = desk.doctor.gateway.commands
        assert commands.first_password() == desk.password
        browser = desk.stranger()

        assert (await browser.log_in(password=desk.password)).headers["location"] == "/"

        assert commands.first_password() is None
        page = await browser.get("/")
        assert "Patients" in text_of(page)
        assert (await browser.post("/logout", Fields(page.text).forms["/logout"])).headers[
            "location"
        ] == "/login"
        assert (await browser.get("/")).status_code == 303
        assert await until_audited(desk, Action.LOGGED_IN, 1) == [("admin", "console", "from 127.0.0.1")]
        assert await until_audited(desk, Action.LOGGED_OUT, 1) == [("admin", "console", "")]
        await desk.admin()


@on_a_loop
async def test_an_order_bears_its_operators_name(tmp_path: Path) -> None:
    """In the audit log, as the one who acted."""
    async with console(tmp_path) as desk:
        browser = await desk.operator("bea")
        assert (await browser.fill("/groups", "/groups", name="ward")).status_code == 303

        assert [actor for actor, *_ in entries(desk, Action.GROUP_CREATED)] == ["gateway", "bea"]


@on_a_loop
async def test_a_login_ends_after_fifteen_idle_minutes_whatever_the_page_fetches(tmp_path: Path) -> None:
    """What a person asks for keeps it alive, what an open page fetches by itself does not."""
    async with console(tmp_path) as desk:
        browser = await desk.admin()
        for _ in range(3):
            desk.clock.elapsed += IDLE - 1
            assert (await browser.get("/")).status_code == 200
        desk.clock.elapsed += IDLE - 1
        assert (await browser.get("/here")).status_code == 204  # somebody types
        desk.clock.elapsed += IDLE - 1
        assert (await browser.get("/patients/list")).status_code == 200
        desk.clock.elapsed += 1

        assert (await browser.get("/messages/new")).headers["location"] == "/login?next=/messages/new"
        part = await browser.get("/patients/list", **{"HX-Request": "true"})
        assert (part.status_code, part.headers["hx-redirect"]) == (401, "/login")
        assert IDLE == 15 * 60 * 1000


@on_a_loop
async def test_wrong_passwords_are_slowed_down_and_nobody_is_locked_out(tmp_path: Path) -> None:
    """A name that exists and one that does not are answered alike; another address is not slowed down for long."""
    async with console(tmp_path) as desk:
        operator = await desk.admin()
        thief = desk.stranger("198.51.100.9")
        for name in ("admin", "nobody", "admin"):
            answer = await thief.log_in(name, "wrong")
            assert (answer.status_code, "Name or password is wrong" in text_of(answer)) == (422, True)
        answer = await thief.log_in("admin", desk.password)
        assert (answer.status_code, "Wait 1 seconds" in text_of(answer)) == (429, True)
        desk.clock.elapsed += 1000
        assert (await thief.log_in("admin", desk.password)).status_code == 303

        for _ in range(20):
            await desk.stranger("198.51.100.10").log_in("admin", "wrong")
            desk.clock.elapsed += 61_000
        assert (await desk.stranger().log_in("admin", desk.password)).status_code == 303
        assert (await operator.get("/")).status_code == 303  # idle meanwhile
        failures = await until_audited(desk, Action.LOGIN_FAILED, FREE - 1)
        assert failures[0] == ("gateway", "admin", "from 198.51.100.9")
        assert "nobody" not in {subject for _, subject, _ in failures}


@on_a_loop
async def test_wrong_passwords_write_so_many_lines_and_no_more(tmp_path: Path) -> None:
    """Wherever they come from, and whoever is named."""
    async with console(tmp_path) as desk:
        for number in range(IN_FULL + 5):
            answer = await desk.stranger(f"192.0.2.{number}").log_in(f"name-{number}", "wrong")
            assert answer.status_code == 422
        warnings = [line for line in LOG.find("login failed") if line["level"] == "warning"]
        assert [line["host"] for line in warnings] == [f"192.0.2.{number}" for number in range(IN_FULL)]


@on_a_loop
async def test_the_form_says_what_is_missing(tmp_path: Path) -> None:
    """Beside the field; the name stays, the password does not."""
    async with console(tmp_path) as desk:
        browser = desk.stranger()
        for name, password, texts in (
            ("", "x", ["Enter the operator's name"]),
            ("bea", "", ["Enter the password"]),
            ("", "", ["Enter the operator's name", "Enter the password"]),
            ("b" * 100, "secret-x" * 100, ["Name or password is wrong"]),
            ("<script>", "secret-x", ["Name or password is wrong"]),
            ("Ädmin\x00", "secret-x", ["Name or password is wrong"]),
        ):
            answer = await browser.log_in(name, password)
            desk.clock.elapsed += 61_000
            assert answer.status_code == 422
            assert all(text in text_of(answer) for text in texts)
            assert "secret-x" not in answer.text
            assert "<script>" not in answer.text


@on_a_loop
async def test_the_login_form_is_tied_to_the_browser_that_asked_for_it(tmp_path: Path) -> None:
    """Another one's token, and a browser without the cookie, are refused."""
    async with console(tmp_path) as desk:
        fields = {"name": "admin", "password": desk.password, "next": "/"}
        first = Fields((await desk.stranger().get("/login")).text).forms["/login"]
        second = desk.stranger()
        await second.get("/login")

        assert (await second.post("/login", {**first, **fields})).status_code == 403
        answer = await desk.stranger().post("/login", {**first, **fields})
        assert (answer.status_code, "keeps no cookies" in text_of(answer)) == (403, True)


@pytest.mark.parametrize("secure", [False, True])
def test_the_cookie_is_for_this_console_alone(tmp_path: Path, secure: bool) -> None:
    """No script reads it, no other site sends it, and with TLS no plain connection does; it changes with each login."""

    async def scenario() -> None:
        async with console(tmp_path, secure=secure) as desk:
            browser = desk.stranger()
            answers = [await browser.log_in(password=desk.password) for _ in range(2)]
            cookies = [answer.headers.get_list("set-cookie")[0] for answer in answers]
            names = [cookie.partition("=")[0] for cookie in cookies]

            assert names == (["__Host-login"] * 2 if secure else ["login-8080"] * 2)
            for cookie in cookies:
                attributes = {part.strip().lower() for part in cookie.split(";")[1:]}
                assert {"httponly", "samesite=strict", "path=/"} <= attributes
                assert ("secure" in attributes) == secure
                assert not any(part.startswith("domain") for part in attributes)
            assert cookies[0] != cookies[1]
            assert ("strict-transport-security" in answers[0].headers) == secure

    on_a_loop(scenario)()


@on_a_loop
async def test_a_new_password_or_a_removed_account_ends_its_logins(tmp_path: Path) -> None:
    """Everywhere, at the next click; the others stay."""
    async with console(tmp_path) as desk:
        commands, admin = desk.doctor.gateway.commands, await desk.admin()
        bea = await desk.operator("bea")
        await commands.reset_password("admin", Origin("test"))
        assert (await admin.get("/")).status_code == 303
        assert (await bea.get("/")).status_code == 200
        await commands.remove_operator("bea", Origin("test"))
        assert (await bea.get("/")).status_code == 303
        with pytest.raises(UserError, match="the last operator"):
            await commands.remove_operator("admin", Origin("test"))


@on_a_loop
async def test_an_operator_changes_the_password(tmp_path: Path) -> None:
    """With the present one; this login goes on, the others end, and only the new one opens."""
    async with console(tmp_path) as desk:
        here, there = await desk.admin(), await desk.admin()
        new = "four words nobody puts together"
        for fields, text in (
            ({"old": "wrong", "new": new, "again": new}, "not your present password"),
            ({"old": desk.password, "new": "short", "again": "short"}, "12 to 256 characters"),
            ({"old": desk.password, "new": new, "again": new + "x"}, "not the same"),
        ):
            answer = await here.fill("/account", "/account/password", **fields)
            assert (answer.status_code, text in text_of(answer)) == (422, True)

        answer = await here.fill("/account", "/account/password", old=desk.password, new=new, again=new)

        assert answer.headers["location"] == "/account?done"
        assert "is changed" in text_of(await here.get("/account?done"))
        assert (await there.get("/")).status_code == 303
        assert (await desk.stranger().log_in(password=desk.password)).status_code == 422
        assert (await desk.stranger().log_in(password=new)).status_code == 303


THIEFS = "four words that the thief has chosen"


async def change_as_thief(desk: Desk, thief: Browser, old: str) -> httpx.Response:
    """Somebody who knows the password and has a login gives the account one of its own."""
    return await thief.fill("/account", "/account/password", old=old, new=THIEFS, again=THIEFS)


@on_a_loop
async def test_a_reset_is_not_undone_by_a_change_that_was_verified_before_it(tmp_path: Path) -> None:
    """While the new password waited to be hashed somebody was to be locked out: it is not written, and that is said."""
    async with console(tmp_path) as desk:
        commands, thief, verified = desk.doctor.gateway.commands, await desk.admin(), asyncio.Event()

        class Slow(Hasher):
            """Verifies for a long time."""

            async def verify(self, password: str, expected: str | None) -> bool:
                """Until the reset is committed."""
                right = await super().verify(password, expected)
                verified.set()
                await reset
                return right

            @asynccontextmanager
            async def turn(self) -> AsyncIterator[None]:
                """At once."""
                yield

        async def reset_password() -> str:
            await verified.wait()
            commands.hasher = Hasher(CHEAP)
            return (await commands.reset_password("admin", Origin("operator"))).password

        commands.hasher = Slow(CHEAP)
        reset = asyncio.ensure_future(reset_password())
        answer = await change_as_thief(desk, thief, desk.password)

        assert (answer.status_code, "by somebody else meanwhile" in text_of(answer)) == (422, True)
        assert (await thief.get("/")).status_code == 303
        assert (await desk.stranger().log_in(password=THIEFS)).status_code == 422
        assert (await desk.stranger().log_in(password=await reset)).status_code == 303


@on_a_loop
async def test_a_reset_ends_the_login_of_a_change_that_was_committed_with_it(tmp_path: Path) -> None:
    """The change comes first, the reset behind it, both before the change is answered."""
    async with console(tmp_path) as desk:
        commands, thief = desk.doctor.gateway.commands, await desk.admin()
        await desk.doctor.settled()
        async with desk.doctor.held_writer():
            before = desk.doctor.writer.pending
            change = asyncio.ensure_future(change_as_thief(desk, thief, desk.password))
            await until_pending(desk, before + 1)
            reset = asyncio.ensure_future(commands.reset_password("admin", Origin("operator")))
            await until_pending(desk, before + 2)

        await asyncio.gather(change, reset)

        assert (await thief.get("/")).status_code == 303
        assert (await desk.stranger().log_in(password=reset.result().password)).status_code == 303


@on_a_loop
async def test_who_guesses_at_an_open_browser_is_slowed_down(tmp_path: Path) -> None:
    """Without slowing down a login elsewhere."""
    async with console(tmp_path) as desk:
        browser = await desk.admin()
        new = "four words nobody puts together"
        texts = []
        for _ in range(FREE + 1):
            answer = await browser.fill("/account", "/account/password", old="wrong", new=new, again=new)
            texts.append(text_of(answer))

        assert "Wait 1 seconds" in texts[-1]
        assert (await desk.stranger().log_in(password=desk.password)).status_code == 303


@on_a_loop
async def test_more_than_can_wait_are_told_to_come_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crowd at the login takes neither memory nor the loop."""
    monkeypatch.setattr(passwords, "QUEUE", 1)
    async with console(tmp_path) as desk:
        async with desk.doctor.gateway.commands.hasher.turn():
            answer = await desk.stranger().log_in(password=desk.password)
        assert (answer.status_code, "Too many people" in text_of(answer)) == (429, True)
        await desk.admin()


def test_who_is_sent_on_after_the_login_stays_at_this_console() -> None:
    """Whatever a link says."""
    assert safe_target("/messages/new") == "/messages/new"
    assert safe_target("/patients/a?done=x") == "/patients/a?done=x"
    for elsewhere in (
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "evil",
        "",
        "/\n/evil",
        "javascript:1",
    ):
        assert safe_target(elsewhere) == "/"


def begun(it: Logins, operator: str) -> tuple[str, Login]:
    """A login and its token."""
    token = it.begin(operator, 1)
    found = it.find(token, by_person=True)
    assert found is not None
    return token, found


def test_logins_have_a_longest_life_and_an_end() -> None:
    """However busy; and what was ended is not found again."""
    now = Clock()
    it = Logins(now)
    token, login = begun(it, "bea")
    for _ in range(LONGEST // (IDLE - 1) + 1):
        now.elapsed += IDLE - 1
        it.find(token, by_person=True)
    assert it.find(token, by_person=True) is None
    assert it.ended(login)
    token, login = begun(it, "bea")
    it.end(token)
    assert it.find(token, by_person=True) is None
    assert it.ended(login)
    assert it.find("wrong", by_person=True) is None


def test_there_are_so_many_logins_and_the_oldest_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one operator, and of all."""
    monkeypatch.setattr(logins, "LIMIT_EACH", 2)
    monkeypatch.setattr(logins, "LIMIT", 3)
    now = Clock()
    it = Logins(now)
    tokens = []
    for operator in ("bea", "bea", "bea", "carl", "dora"):
        now.elapsed += 1
        tokens.append(it.begin(operator, 1))

    assert [it.find(token, by_person=False) is not None for token in tokens] == [
        False,
        False,
        True,
        True,
        True,
    ]

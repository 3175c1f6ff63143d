"""Live updates: what changes is told to the pages that are open, for as long as their login lasts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from doctor.console.desk import View
from doctor.console.logins import IDLE, Login
from doctor.console.pages import live
from doctor.feed import Topic
from doctor.idempotency import Origin
from doctor.orders import BroadcastOrder
from shared.wire.messages import Report, ReportKind
from tests.console_bench import Desk, console, text_of
from tests.doctor_bench import ME, on_a_loop


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes need not gather for a test."""
    monkeypatch.setattr(live, "PAUSE", 0.0)


def begin(desk: Desk, operator: str = "admin") -> tuple[Login, AsyncIterator[bytes]]:
    """A login and its stream."""
    logins = desk.console.logins
    token = logins.begin(operator, desk.doctor.gateway.commands.version(operator) or 0)
    login = logins.find(token, by_person=True)
    assert login is not None
    return login, live._changes(View(desk.console, login, "/live", ()))


async def until_said(stream: AsyncIterator[bytes], *topics: str) -> None:
    """Read until every one of these topics has come."""
    missing = {f"event: {topic}\n".encode() for topic in topics}
    async for part in stream:
        missing -= {each for each in missing if each in part}
        if not missing:
            return
    raise AssertionError(f"the stream ended without {missing}")


@on_a_loop
async def test_a_page_hears_of_patients_messages_and_handshakes(tmp_path: Path) -> None:
    """Of a device that comes, a message and its receipt, a device that goes; nothing of what they are."""
    async with console(tmp_path) as desk:
        _, stream = begin(desk)
        assert await anext(stream) == b"retry: 2000\n\n"
        anna = await desk.doctor.device("anna")
        await until_said(stream, "patients", "handshakes")
        await desk.doctor.gateway.commands.broadcast(BroadcastOrder("a secret"), ME)
        await until_said(stream, "messages")
        await anna.until(lambda it: it.bodies() == [b"a secret"])
        await until_said(stream, "messages")
        assert anna.stream is not None
        anna.stream.connection.report(Report(bytes(16), ReportKind.REPLY, 1, b"another secret"))
        anna.stream.flush()
        await until_said(stream, "reports")
        anna.cut()
        await until_said(stream, "patients")
        desk.console.commands.feed.close()
        assert b"secret" not in b"".join([part async for part in stream])


@on_a_loop
async def test_a_stream_ends_with_its_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By idling, by a new password, by the doctor's end; and it does not keep the login alive."""
    monkeypatch.setattr(live, "HEARTBEAT", 0.01)
    async with console(tmp_path) as desk:
        login, stream = begin(desk)
        assert [await anext(stream) for _ in range(3)][1:] == [b": still here\n\n"] * 2
        assert login.streams == 1
        desk.clock.elapsed += IDLE
        assert (await anext(stream), [part async for part in stream]) == (live._ENDED, [])
        assert login.streams == 0

        await desk.operator("bea")
        _, stream = begin(desk, "bea")
        await anext(stream)
        await desk.doctor.gateway.commands.remove_operator("bea", Origin("test"))
        assert live._ENDED in [part async for part in stream]

        _, stream = begin(desk)
        await anext(stream)
        reading = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        desk.console.commands.feed.close()
        await reading
        assert [part async for part in stream] == []


@on_a_loop
async def test_a_login_has_so_many_streams(tmp_path: Path) -> None:
    """One more is told why."""
    async with console(tmp_path) as desk:
        browser = await desk.admin()
        (login,) = desk.console.logins._logins.values()
        login.streams = live.STREAMS_EACH
        answer = await browser.get("/live")

        assert (answer.status_code, "watching already" in text_of(answer)) == (409, True)


@on_a_loop
async def test_one_operator_does_not_take_all_streams(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by many logins, and not by asking for all of them at once, before any of them counts; others watch all the while."""
    monkeypatch.setattr(live, "STREAMS_OF_OPERATOR", 3)
    monkeypatch.setattr(live, "HEARTBEAT", 0.01)
    async with console(tmp_path) as desk:
        await desk.operator("bea")
        begun = [begin(desk)[1] for _ in range(5)]
        first = [await anext(stream) for stream in begun]
        assert first == [b"retry: 2000\n\n"] * 3 + [live._LATER] * 2
        assert [part async for part in begun[3]] == []
        login, other = begin(desk, "bea")
        assert await anext(other) == b"retry: 2000\n\n"
        assert (await (await desk.admin()).get("/live")).status_code == 409
        desk.console.commands.feed.close()
        for stream in (*begun, other):
            assert live._ENDED not in [part async for part in stream]
        assert (login.streams, desk.console.logins.streams_of("admin")) == (0, 0)


@on_a_loop
async def test_the_more_pages_watch_the_less_often_each_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All together ask the doctor so often, however many they are."""
    paused: list[float] = []

    async def note(seconds: float) -> None:
        paused.append(round(seconds / live.SHARE))

    async with console(tmp_path) as desk:
        begun = [begin(desk)[1] for _ in range(4)]
        for stream in begun:
            await anext(stream)
        monkeypatch.setattr("doctor.console.pages.live.asyncio.sleep", note)
        desk.console.commands.feed.tell(Topic.EVENTS)
        assert await anext(begun[0]) == b"event: events\ndata: \n\n"
        monkeypatch.undo()
        assert paused == [3]
        desk.console.commands.feed.close()
        for stream in begun:
            async for _ in stream:
                pass

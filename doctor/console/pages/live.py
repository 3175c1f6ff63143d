"""Live updates: a stream that says what has changed. Pages that are open then fetch the part that shows it.

Law: a stream ends with its login, and does not keep that alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from litestar import get
from litestar.response import Stream

from doctor.console.desk import View, Viewed
from doctor.feed import Listener
from shared.errors import UserError

HEARTBEAT = 15.0  # seconds; also how long an ended login is still told what changes
PAUSE = 0.25  # seconds in which changes gather
STREAMS_EACH = 8  # of one login

_ENDED = b"event: ended\ndata: \n\n"


@get("/live", opt={"quiet": True})
async def live(view: Viewed) -> Stream:
    """What changes, from now on."""
    if view.login.streams >= STREAMS_EACH:
        raise UserError(f"{STREAMS_EACH} pages of this login are watching already; close some of them.")
    headers = {"X-Accel-Buffering": "no"}
    return Stream(_changes(view), media_type="text/event-stream", headers=headers)


@get("/here", status_code=204)
async def here(view: Viewed) -> None:
    """A person is at work, though nothing was sent yet: a page asks this now and then while somebody types."""


async def _changes(view: View) -> AsyncIterator[bytes]:
    login = view.login
    with view.commands.feed.listening() as listener:
        login.streams += 1
        try:
            yield b"retry: 2000\n\n"
            while not listener.ended:
                changed = await listener.wait(HEARTBEAT)
                if view.console.logins.ended(login) or not view.account_stands():
                    yield _ENDED
                    return
                yield await _gathered(listener) if changed else b": still here\n\n"
        finally:
            login.streams -= 1


async def _gathered(listener: Listener) -> bytes:
    await asyncio.sleep(PAUSE)
    return b"".join(b"event: %s\ndata: \n\n" % topic.value.encode() for topic in listener.take())


HANDLERS = [live, here]

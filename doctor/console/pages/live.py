"""Live updates: a stream that says what has changed. Pages that are open then fetch the part that shows it.

Law: a stream ends with its login, and does not keep that alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from litestar import get
from litestar.response import Stream

from doctor.console.desk import View, Viewed
from doctor.feed import LISTENERS, Listener
from shared.errors import UserError

HEARTBEAT = 15.0  # seconds; also how long an ended login is still told what changes
PAUSE = 0.25  # seconds in which changes gather
SHARE = 0.1  # seconds that they gather longer for each page that watches, so that all pages together are told so often and no more
STREAMS_EACH = 8  # of one login
STREAMS_OF_OPERATOR = 24  # of all logins of one operator: nobody takes all that there are

_ENDED = b"event: ended\ndata: \n\n"
_LATER = b"retry: 60000\n\n"


@get("/live", opt={"quiet": True})
async def live(view: Viewed) -> Stream:
    """What changes, from now on."""
    if not _has_room(view):
        raise UserError("Too many of your pages are watching already; close some of them.")
    headers = {"X-Accel-Buffering": "no"}
    return Stream(_changes(view), media_type="text/event-stream", headers=headers)


@get("/here", status_code=204)
async def here(view: Viewed) -> None:
    """A person is at work, though nothing was sent yet: a page asks this now and then while somebody types."""


def _has_room(view: View) -> bool:
    mine = view.console.logins.streams_of(view.login.operator)
    full = view.commands.feed.listeners >= LISTENERS
    return view.login.streams < STREAMS_EACH and mine < STREAMS_OF_OPERATOR and not full


async def _changes(view: View) -> AsyncIterator[bytes]:
    login, feed = view.login, view.commands.feed
    if not _has_room(view):  # many have asked at once, and each was let in before any of them counted
        yield _LATER
        return
    with feed.listening() as listener:
        login.streams += 1
        try:
            yield b"retry: 2000\n\n"
            while not listener.ended:
                changed = await listener.wait(HEARTBEAT)
                if view.console.logins.ended(login) or not view.account_stands():
                    yield _ENDED
                    return
                yield await _gathered(listener, feed.listeners) if changed else b": still here\n\n"
        finally:
            login.streams -= 1


async def _gathered(listener: Listener, listeners: int) -> bytes:
    await asyncio.sleep(PAUSE + SHARE * (listeners - 1))
    return b"".join(b"event: %s\ndata: \n\n" % topic.value.encode() for topic in listener.take())


HANDLERS = [live, here]

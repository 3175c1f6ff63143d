"""How the API waits for a request to arrive: whole, or nothing of it is carried out; and so long, from the connection or the answer before.

Law: a deadline, and what makes its answer true. uvicorn waits without end for a request whose head or body comes byte by byte; whoever
does that would hold a descriptor of the doctor's for each one. It also calls the application when the head has come, and an order
that needs no body would be carried out although its sender never finished it. How long that may take is not limited here.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, cast

import h11
from litestar.types import ASGIApp, HTTPReceiveMessage, HTTPRequestEvent, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

BODY_LIMIT = 256 * 1024  # bytes; an order's text may be written in escapes, six for a byte, a form's in three
REQUEST_DEADLINE = 10.0  # seconds
LAST_LOOK = 0.1  # seconds

_TOO_LATE = b"".join(
    (
        b"HTTP/1.1 408 Request Timeout\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n",
        b"Content-Length: 76\r\n\r\n",
        b"The request had not come whole within ten seconds: nothing was carried out.\n",
    )
)


class ApiConnection(H11Protocol):
    """One connection to the API. It is ended when no whole request has come by the deadline, however many bytes have; who has sent
    some of one, or has come and was held up before its first byte, is told so. Only after an answer, silence is no request.
    """

    _deadline: asyncio.TimerHandle | None = None
    _may_be_silent = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.app = partial(when_whole, cast(ASGIApp, self.app))

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """The time for the first request begins."""
        super().connection_made(transport)
        self._await_request()

    def data_received(self, data: bytes) -> None:
        """More of a request: that moves no deadline, only its end does."""
        super().data_received(data)
        if self._received():
            self._stop()

    def on_response_complete(self) -> None:
        """The time for the next request begins; where nothing comes at all, uvicorn closes sooner."""
        self._stop()
        self._may_be_silent = True
        super().on_response_complete()
        if not self._received() and not self.transport.is_closing():
            self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is awaited any more."""
        self._stop()
        super().connection_lost(exc)

    def _received(self) -> bool:
        return self.conn.their_state not in {h11.IDLE, h11.SEND_BODY}

    def _await_request(self) -> None:
        loop = asyncio.get_running_loop()
        self._deadline = loop.call_later(REQUEST_DEADLINE, self._look_again)

    def _look_again(self) -> None:
        """Where the loop was held up, it serves timers before it reads what had come in time: read once more, then no more."""
        self._deadline = asyncio.get_running_loop().call_later(LAST_LOOK, self._end)

    def _end(self) -> None:
        begun = self.conn.their_state is h11.SEND_BODY or self.conn.trailing_data[0]
        if begun or not self._may_be_silent:
            self.transport.write(_TOO_LATE)
        self.transport.close()

    def _stop(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


async def when_whole(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Call an application when the whole request has come; one that breaks off it never sees.

    Of a body that is too long it sees the beginning, which is too long already.
    """
    body, more = bytearray(), True
    while more:
        message = cast(HTTPReceiveMessage, await receive())
        if message["type"] == "http.disconnect":
            return
        if len(body) <= BODY_LIMIT:
            body += message["body"]
        more = message["more_body"]
    whole: list[HTTPRequestEvent] = [{"type": "http.request", "body": bytes(body), "more_body": False}]

    async def again() -> Any:
        return whole.pop() if whole else await receive()

    await app(scope, again, send)

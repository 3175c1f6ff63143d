"""How long the head of a request may be that comes to a TCP port of the doctor's: its address, and its headers together.

Law: refused before Litestar sees it, which keeps the latest thousand addresses and cookies, of whatever length, of whoever asks.
"""

from __future__ import annotations

from litestar.types import ASGIApp, Receive, Scope, Send

ADDRESS_LIMIT = 1024  # bytes; many times the longest of ours
HEADERS_LIMIT = 8192  # bytes; a browser may bring cookies of others that are served from the same host


class ShortHeads:
    """Passes on what has a short head; answers 414 or 431 to the rest."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        address = len(scope["raw_path"]) + len(scope["query_string"])
        headers = sum(len(name) + len(value) for name, value in scope["headers"])
        if address > ADDRESS_LIMIT:
            await answer(send, 414, f"This address is longer than {ADDRESS_LIMIT} bytes: nothing was done.")
        elif headers > HEADERS_LIMIT:
            await answer(
                send, 431, f"The request's headers are longer than {HEADERS_LIMIT} bytes: nothing was done."
            )
        else:
            await self.app(scope, receive, send)


async def answer(send: Send, status: int, text: str) -> None:
    """Answer a request with a sentence, and without what stands behind."""
    body = text.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})

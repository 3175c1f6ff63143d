"""What every request passes before any page sees it, and what every answer bears.

Law: nothing here depends on a page, and no answer, not even of a failure, goes out without these headers.
"""

from __future__ import annotations

from collections.abc import Collection

from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from doctor import hosts, request_heads

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # with less, browsers do not say either where our own forms come from
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}
STRICT_TRANSPORT = ("strict-transport-security", "max-age=31536000")


class Gate:
    """The outermost application.

    Args:
        app: what stands behind the gate.
        names: the host names under which the console may be addressed, lower case, an IPv6 address in brackets; `*.` in front stands
            for one label. Another name is a page of somebody else's that has pointed its name here.
        secure: whether the console speaks TLS.
    """

    def __init__(self, app: ASGIApp, names: Collection[str], secure: bool) -> None:
        self._app = app
        self._names = frozenset(names)
        headers = [*HEADERS.items(), *([STRICT_TRANSPORT] if secure else [])]
        self._headers = [(name.encode(), value.encode()) for name, value in headers]
        self._scheme = "https" if secure else "http"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] == ScopeType.WEBSOCKET:  # there are none
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = {name.lower() for name, _ in message["headers"]}
                added = [pair for pair in self._headers if pair[0] not in own]
                message["headers"] = [*message["headers"], *added]
            await send(message)

        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, send_guarded)
        else:
            await request_heads.answer(send_guarded, *refusal)

    def _refusal(self, scope: HTTPScope) -> tuple[int, str] | None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "").lower()
        name = hosts.name_in(host)
        if name is None or not hosts.is_known(name, self._names):
            return (
                421,
                "This console is not known under that name. Open it under the address that it was given.",
            )
        if scope["method"] in ("GET", "HEAD"):
            return None
        # Browsers say where a form comes from, in one of these headers or both; what says nothing is no browser.
        origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site")
        same_origin = origin == f"{self._scheme}://{host}" or (origin is None and site == "same-origin")
        if not same_origin or site not in (None, "same-origin"):
            return 403, "This was sent by another site, or by no browser: nothing was done."
        return None

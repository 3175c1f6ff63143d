"""The two cookies: of a login, and before it of a visitor to the login form."""

from __future__ import annotations

from litestar.datastructures import Cookie
from litestar.types import Scope


def login_name(secure: bool, scope: Scope) -> str:
    """With TLS the browser itself guards the prefix; without it, two doctors on one machine differ by their port."""
    return "__Host-login" if secure else f"login-{_port(scope)}"


def visitor_name(secure: bool, scope: Scope) -> str:
    """The same before anybody is logged in."""
    return "__Host-visitor" if secure else f"visitor-{_port(scope)}"


def make(name: str, value: str, secure: bool) -> Cookie:
    """A cookie that no script reads and no other site sends; it goes when the browser is closed."""
    return Cookie(name, "/", value, httponly=True, samesite="strict", secure=secure)


def erase(name: str, secure: bool) -> Cookie:
    """Take a cookie away."""
    return Cookie(name, "/", "", max_age=0, httponly=True, samesite="strict", secure=secure)


def _port(scope: Scope) -> int:
    server = scope.get("server")
    return server[1] or 0 if server else 0

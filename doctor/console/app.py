"""The console's application: pages, who may see them, and what is answered when something goes wrong.

To add a page: a module in `doctor.console.pages` with `HANDLERS` and, if it is in the menu, `NAV`; its name in PAGES below;
its template. A handler that takes `view` is for people who are logged in; one that takes `form` is answered only with a valid token.
What a page fetches by itself is marked `opt={"quiet": True}`, so that it does not keep the login alive.
"""

from __future__ import annotations

import sqlite3
from typing import Any, TypeAlias

from litestar import Litestar
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.handlers.base import BaseRouteHandler
from litestar.response import Response
from litestar.types import ASGIApp

from doctor.console import cookies, forms
from doctor.console.desk import Console, HtmlRequest, Served, View, html, see
from doctor.console.forms import Form
from doctor.console.gate import Gate
from doctor.console.logins import Login
from doctor.console.pages import (
    account,
    alerts,
    audit_log,
    entrance,
    events,
    groups,
    invitations,
    live,
    messages,
    patient,
    patients,
    protocol,
    static,
    vitals,
)
from doctor.console.rendering import render
from doctor.http import BODY_LIMIT
from doctor.request_heads import ShortHeads
from doctor.restoration import Unconfirmed
from shared.errors import StorageError, TelemedError, UserError
from shared.logs import get_logger

PAGES = (
    entrance,
    live,
    static,
    patients,
    alerts,
    patient,
    vitals,
    invitations,
    messages,
    groups,
    events,
    audit_log,
    protocol,
    account,
)

_log = get_logger("console")
_Connection: TypeAlias = ASGIConnection[Any, Login, Any, State]


class NotLoggedIn(TelemedError):
    """A page was asked for that only operators see."""


def create_app(console: Console, names: tuple[str, ...] = ()) -> ASGIApp:
    """The ASGI application. `names`: under which it may be addressed, beside those of loopback."""
    nav = tuple(entry for page in PAGES for entry in getattr(page, "NAV", ()))

    # Asynchronous, or Litestar would run it on another thread, where the database does not answer.
    async def require_login(connection: _Connection, handler: BaseRouteHandler) -> None:
        login = find_login(console, connection, by_person=not handler.opt.get("quiet"))
        connection.scope["user"] = login
        if login is None and not handler.opt.get("open"):
            raise NotLoggedIn

    def view(request: HtmlRequest) -> View:
        return View(console, request.user, request.url.path, nav)

    app = Litestar(
        route_handlers=[handler for page in PAGES for handler in page.HANDLERS],
        guards=[require_login],
        dependencies={
            "console": Provide(lambda: console, sync_to_thread=False),
            "view": Provide(view, sync_to_thread=False),
            "form": Provide(read_form),
        },
        exception_handlers={
            NotLoggedIn: _ask_to_log_in,
            Unconfirmed: lambda request, error: _failed(request, 503, str(error)),
            UserError: lambda request, error: _failed(request, 409, str(error)),
            StorageError: _refuse_storage_error,
            sqlite3.Error: _refuse_storage_error,
            HTTPException: _refuse_http_error,
            500: _confess_bug,
        },
        openapi_config=None,
        request_max_body_size=BODY_LIMIT,
        debug=False,
        logging_config=None,
    )
    return Gate(ShortHeads(app), names, console.secure)


def find_login(console: Console, connection: _Connection, by_person: bool) -> Login | None:
    """Who asks: an operator whose login is alive and whose account is still the same."""
    token = connection.cookies.get(cookies.login_name(console.secure, connection.scope), "")
    login = console.logins.find(token, by_person)
    if login is not None and console.commands.version(login.operator) != login.version:
        console.logins.end(token)
        return None
    return login


async def read_form(request: HtmlRequest, console: Served) -> Form:
    """The form of somebody who is logged in, and still is when all of it has come: that may take as long as its sender likes."""
    form = await forms.read(request)
    if find_login(console, request, by_person=False) is None:
        raise NotLoggedIn
    form.require_token(request.user.csrf)
    return form


def _ask_to_log_in(request: HtmlRequest, _: NotLoggedIn) -> Response[bytes]:
    target = entrance.login_address(request.url.path if request.method == "GET" else "/")
    if request.headers.get("hx-request"):
        # A part of a page that is open: the whole page goes to the login.
        return Response(b"", status_code=401, headers={"HX-Redirect": "/login"})
    return see(target)


def _refuse_storage_error(request: HtmlRequest, error: Exception) -> Response[str]:
    _log.error("not accepted", cause=str(error))
    return _failed(request, 503, f"Nothing was done: {str(error).rstrip('.')}.")


def _refuse_http_error(request: HtmlRequest, error: HTTPException) -> Response[str]:
    texts = {
        404: "There is no such page.",
        405: "This page does not take that.",
        413: f"This is too long: a form has at most {BODY_LIMIT // 1024} KiB.",
    }
    return _failed(request, error.status_code, texts.get(error.status_code, error.detail))


def _confess_bug(request: HtmlRequest, error: Exception) -> Response[str]:
    """Whatever else was raised is a bug of ours: its cause is for our log alone."""
    _log.error("request failed", path=request.url.path, exc_info=error)
    return _failed(request, 500, "The doctor failed to carry this out; its log says why.")


def _failed(request: HtmlRequest, status: int, text: str) -> Response[str]:
    # The layout needs somebody who is logged in, and a request that failed early has nobody.
    return html(render("failed.html", status=status, text=text), status)

"""Login and logout."""

from __future__ import annotations

import re
from urllib.parse import quote

from litestar import get, post
from litestar.response import Response

from doctor import audit
from doctor.audit import Action
from doctor.console import cookies, forms
from doctor.console.desk import Console, Filled, HtmlRequest, Served, Viewed, html, see
from doctor.console.forms import Form
from doctor.console.passwords import LONGEST, Busy
from doctor.console.rendering import render
from shared.logs import get_logger
from shared.net.stream import clock

_OWN = re.compile(
    r"\A/(?!/)[!-\[\]-~]*\Z"
)  # what prints in ASCII, as a header takes it; browsers read `\` as `/`

_log = get_logger("console")


def login_address(path: str) -> str:
    """The login, which goes on at `path`."""
    return "/login" if path == "/" else f"/login?next={quote(path, safe='/')}"


def safe_target(text: str) -> str:
    """A path of this console; anything else is the first page."""
    return text if _OWN.match(text) else "/"


@get("/login", opt={"open": True})
async def show_login(request: HtmlRequest, console: Served) -> Response[str]:
    """The form."""
    target = safe_target(request.query_params.get("next", "/"))
    return _form(console, request, Form({"next": [target]}))


@post("/login", opt={"open": True})
async def log_in(request: HtmlRequest, console: Served) -> Response[str] | Response[bytes]:
    """Look at name and password; on success the browser gets a fresh login."""
    form = await forms.read(request)
    visitor = request.cookies.get(cookies.visitor_name(console.secure, request.scope), "")
    if not visitor:
        form.wrong(
            "", "Your browser keeps no cookies for this page, or kept it open for long. Try once more."
        )
        return _form(console, request, form, 403)
    form.require_token(console.visitors.form_token(visitor))
    name, password = form.text("name"), form.raw("password")[: LONGEST + 1]
    if not name:
        form.wrong("name", "Enter the operator's name, for example admin.")
    if not password:
        form.wrong("password", "Enter the password.")
    if not form.valid:
        return _form(console, request, form, 422)
    address = request.client.host if request.client else "?"
    token = await _try(console, form, name, password, address)
    if token is None:
        return _form(console, request, form, 429 if "" in form.errors else 422)
    response = see(safe_target(form.text("next") or "/"))
    response.cookies.append(
        cookies.make(cookies.login_name(console.secure, request.scope), token, console.secure)
    )
    response.cookies.append(
        cookies.erase(cookies.visitor_name(console.secure, request.scope), console.secure)
    )
    return response


@post("/logout")
async def log_out(view: Viewed, form: Filled, request: HtmlRequest) -> Response[bytes]:
    """End this login."""
    name = cookies.login_name(view.console.secure, request.scope)
    view.console.logins.end(request.cookies[name])
    _note(view.console, view.login.operator, Action.LOGGED_OUT, "")
    response = see("/login")
    response.cookies.append(cookies.erase(name, view.console.secure))
    return response


async def _try(console: Console, form: Form, name: str, password: str, address: str) -> str | None:
    """A login's token; None: what is wrong stands in the form."""
    operators = console.commands
    throttled = name if len(name) <= 64 else ""  # whether it exists or not, or the delay would tell
    try:
        async with operators.hasher.turn():
            if wait := console.throttle.wait(throttled, address, console.now()):
                form.wrong("", f"Too many wrong passwords. Wait {-(-wait // 1000)} seconds, then try again.")
                return None
            account = operators.account(name) if throttled else None  # as it is when its turn has come
            secret = account.secret if account is not None else None
            right = await operators.hasher.verify(password, secret)
    except Busy as error:
        form.wrong("", str(error))
        return None
    if not right or account is None:
        console.throttle.failed(throttled, address, console.now())
        _note_failure(console, account is not None, name, address)
        form.wrong("password", "Name or password is wrong.")
        return None
    console.throttle.succeeded(name, address)
    _log.info("operator logged in", address=address)
    _note(console, name, Action.LOGGED_IN, f"from {address}")
    await operators.forget_first_password(name)
    return console.logins.begin(name, account.version)


def _note(console: Console, operator: str, action: Action, detail: str) -> None:
    now = clock().wall
    console.house.ledger.carry_out(lambda db: audit.append(db, now, operator, action, "console", detail))


def _note_failure(console: Console, known: bool, name: str, address: str) -> None:
    """Anybody can type names: those that exist get so many entries a minute, all others are counted."""
    console.house.noise.tell("login failed", address, clock().elapsed)
    if known and console.house.entries.take(f"console {name}", console.now()):
        console.house.ledger.note(Action.LOGIN_FAILED, name, f"from {address}")
    else:
        console.house.ledger.count_stranger("login", address)


def _form(console: Console, request: HtmlRequest, form: Form, status: int = 200) -> Response[str]:
    name = cookies.visitor_name(console.secure, request.scope)
    visitor = request.cookies.get(name) or console.visitors.greet()
    token = console.visitors.form_token(visitor)
    text = render("login.html", form=form, csrf=token, doctor_id=console.doctor_id, plain=not console.secure)
    response = html(text, status)
    response.cookies.append(cookies.make(name, visitor, console.secure))
    return response


HANDLERS = [show_login, log_in, log_out]

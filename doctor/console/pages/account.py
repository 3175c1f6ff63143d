"""The account of who is logged in: a password of one's own."""

from __future__ import annotations

from litestar import get, post
from litestar.response import Response

from doctor.console import cookies
from doctor.console.desk import Filled, HtmlRequest, View, Viewed, see
from doctor.console.forms import Form
from doctor.console.passwords import LONGEST, SHORTEST
from shared.errors import UserError


@get("/account")
async def show_account(request: HtmlRequest, view: Viewed) -> Response[str]:
    """The form."""
    changed = "done" in request.query_params
    return _form(
        view,
        Form(),
        notice="Your password is changed. Every other login of yours has ended." if changed else None,
    )


@post("/account/password")
async def change_password(
    request: HtmlRequest, view: Viewed, form: Filled
) -> Response[str] | Response[bytes]:
    """Change it; every other login of this operator ends, and this one goes on under a new name."""
    commands, operator = view.commands, view.login.operator
    new = form.raw("new")
    if not SHORTEST <= len(new) <= LONGEST:
        form.wrong(
            "new",
            f"Use {SHORTEST} to {LONGEST} characters; several words that do not belong together are good.",
        )
    if form.raw("again") != new:
        form.wrong("again", "This is not the same as the line above.")
    if form.errors:
        return _form(view, form, 422)
    try:
        verified = await _verified(view, form)
        if verified is None:
            return _form(view, form, 422)
        version = await commands.change_password(operator, new, view.origin(form), verified)
    except UserError as error:
        form.wrong("", str(error))
        return _form(view, form, 422)
    view.console.logins.end_all(operator)
    response = see("/account?done")
    # Of the version that was written, not of the present one: a reset that came behind it ends this login too.
    token = view.console.logins.begin(operator, version)
    name = cookies.login_name(view.console.secure, request.scope)
    response.cookies.append(cookies.make(name, token, view.console.secure))
    return response


async def _verified(view: View, form: Form) -> int | None:
    """The account's version whose password was shown; None: what is wrong stands in the form.

    Whoever finds an open browser must not take the account over; nor guess without end.
    """
    commands, operator = view.commands, view.login.operator
    place = f"login {view.login.csrf}"  # its own guesses slow down this login and nobody else
    async with commands.hasher.turn():
        if wait := view.console.throttle.wait(place, place, view.console.now()):
            form.wrong("old", f"Too many wrong passwords. Wait {-(-wait // 1000)} seconds, then try again.")
            return None
        account = commands.account(operator)
        secret = account.secret if account else None
        right = await commands.hasher.verify(form.raw("old")[: LONGEST + 1], secret)
        if right and account is not None:
            return account.version
        view.console.throttle.failed(place, place, view.console.now())
        form.wrong("old", "This is not your present password.")
        return None


def _form(view: View, form: Form, status: int = 200, notice: str | None = None) -> Response[str]:
    return view.page("account.html", status, form=form, notice=notice, shortest=SHORTEST)


HANDLERS = [show_account, change_password]

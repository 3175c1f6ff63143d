"""Invitations: one for a patient, shown once as text and as a picture to scan; and which are open."""

from __future__ import annotations

import asyncio

from litestar import get, post
from litestar.response import Response

from doctor import groups
from doctor.console.desk import Filled, View, Viewed
from doctor.console.forms import Form
from doctor.console.rendering import qr
from doctor.orders import InviteOrder
from shared.errors import UserError

GROUPS = 62  # with `everyone`, as many as an invitation holds


@get("/invitations")
async def show_invitations(view: Viewed) -> Response[str]:
    """The form, and the open ones."""
    return _form(view, Form())


@post("/invitations")
async def invite(view: Viewed, form: Filled) -> Response[str]:
    """Make an invitation, once for each form, and show it."""
    name, hours = form.text("patient"), form.number("hours", 0, 87_600, "hours")
    chosen = form.all("group")
    if not groups.is_name(name):
        form.wrong(
            "patient",
            "Use 1 to 64 of a-z, 0-9, '.', '_' and '-', a letter or digit first: for example bed-07.",
        )
    if len(chosen) > GROUPS:
        form.wrong("group", f"An invitation holds at most {GROUPS} groups; the others can be added later.")
    if not form.valid:
        return _form(view, form, 422)
    try:
        made = await view.commands.invite(InviteOrder(name, chosen, hours), view.origin(form))
    except UserError as error:
        form.wrong("", str(error))
        return _form(view, form, 422)
    picture = await asyncio.to_thread(qr, made.invitation)  # as long as a hundred handshakes
    return view.page("invitation.html", made=made, picture=picture, section="/")


def _form(view: View, form: Form, status: int = 200) -> Response[str]:
    return view.page(
        "invitations.html",
        status,
        form=form,
        key=view.new_key(),
        groups=[name for name in view.commands.group_names() if name != groups.EVERYONE],
        hours=view.commands.invitation_hours,
        waiting=view.commands.invitations(),
        section="/",
    )


HANDLERS = [show_invitations, invite]

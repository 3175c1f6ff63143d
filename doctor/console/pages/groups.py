"""Groups and who is in them."""

from __future__ import annotations

from litestar import get, post
from litestar.exceptions import NotFoundException
from litestar.params import FromPath
from litestar.response import Response

from doctor import groups
from doctor.console.desk import Filled, NavEntry, View, Viewed, see
from doctor.console.forms import Form
from shared.errors import UserError

NAV = (NavEntry("/groups", "Groups"),)
ROWS = 200  # members that are shown
CHOICES = 500  # patients that are offered by name; any other can be typed


@get("/groups")
async def show_groups(view: Viewed) -> Response[str]:
    """All of them."""
    return _all(view, Form())


@post("/groups")
async def create_group(view: Viewed, form: Filled) -> Response[str] | Response[bytes]:
    """Make one."""
    name = form.text("name")
    if not groups.is_name(name):
        form.wrong(
            "name", "Use 1 to 64 of a-z, 0-9, '.', '_' and '-', a letter or digit first: for example ward-a."
        )
        return _all(view, form, 422)
    try:
        await view.commands.create_group(name, view.origin(form))
    except UserError as error:
        form.wrong("name", str(error))
        return _all(view, form, 422)
    return see(f"/groups/{name}")


@get("/groups/{group:str}")
async def show_group(group: FromPath[str], view: Viewed) -> Response[str]:
    """One of them."""
    return _one(view, group, Form())


@get("/groups/{group:str}/members", opt={"quiet": True})
async def list_members(group: FromPath[str], view: Viewed) -> Response[str]:
    """The part of it that changes."""
    return _one(view, group, Form(), template="group_members.html")


@post("/groups/{group:str}/members")
async def add_member(group: FromPath[str], view: Viewed, form: Filled) -> Response[str] | Response[bytes]:
    """Add a patient: it reads what is accepted from now on."""
    patient = form.text("patient")
    if not patient:
        form.wrong("patient", "Choose a patient, or type its name.")
        return _one(view, group, form, 422)
    try:
        await view.commands.add_member(group, patient, view.origin(form))
    except UserError as error:
        form.wrong("patient", str(error))
        return _one(view, group, form, 422)
    return see(f"/groups/{group}")


@post("/groups/{group:str}/members/{patient:str}/remove")
async def remove_member(
    group: FromPath[str], patient: FromPath[str], view: Viewed, form: Filled
) -> Response[str] | Response[bytes]:
    """Remove a patient: it reads nothing that is accepted from now on."""
    try:
        await view.commands.remove_member(group, patient, view.origin(form))
    except UserError as error:
        form.wrong("", str(error))
        return _one(view, group, form, 422)
    return see(f"/groups/{group}")


def _all(view: View, form: Form, status: int = 200) -> Response[str]:
    return view.page("groups.html", status, form=form, key=view.new_key(), groups=view.commands.list_groups())


def _one(
    view: View, group: str, form: Form, status: int = 200, template: str = "group.html"
) -> Response[str]:
    found = view.commands.group_members(group, ROWS)
    if found is None:
        raise NotFoundException
    members, count = found
    return view.page(
        template,
        status,
        form=form,
        key=view.new_key(),
        group=group,
        members=members,
        epoch=view.commands.epoch_of(group),
        count=count,
        outside=view.commands.outside(group, CHOICES),
        everyone=groups.EVERYONE,
        section="/groups",
    )


HANDLERS = [show_groups, create_group, show_group, list_members, add_member, remove_member]

"""Security events: who was refused, why, from where, and what to do; from the audit log and from what the doctor counts. And how far a
rotation of the doctor's keys is."""

from __future__ import annotations

from litestar import get
from litestar.response import Response

from doctor.console import incidents, log_reading
from doctor.console.desk import HtmlRequest, NavEntry, View, Viewed
from doctor.console.incidents import SECURITY
from doctor.console.log_reading import place_in

NAV = (NavEntry("/events", "Security"),)
PAGE = 30  # events


@get("/events")
async def show_events(request: HtmlRequest, view: Viewed) -> Response[str]:
    """The page."""
    return _page(request, view, "events.html")


@get("/events/list", opt={"quiet": True})
async def list_events(request: HtmlRequest, view: Viewed) -> Response[str]:
    """The part of it that changes."""
    return _page(request, view, "events_list.html")


@get("/events/counts", opt={"quiet": True})
async def show_counts(view: Viewed) -> Response[str]:
    """What was counted since the start."""
    return view.page("events_counts.html", tallied=incidents.tallied(view.console.house))


@get("/events/rotation", opt={"quiet": True})
async def show_rotation(view: Viewed) -> Response[str]:
    """Whether all patients have the doctor's present keys."""
    return view.page("events_rotation.html", rotation=view.commands.rotation_progress())


def _page(request: HtmlRequest, view: View, template: str) -> Response[str]:
    before = place_in(request)
    read = log_reading.read(view, PAGE, before, SECURITY)
    return view.page(
        template,
        before=before,
        found=read.found,
        unreadable=read.unreadable,
        events=[incidents.tell(entry) for entry in read.entries],
        tallied=incidents.tallied(view.console.house),
        rotation=view.commands.rotation_progress(),
        section="/events",
    )


HANDLERS = [show_events, list_events, show_counts, show_rotation]

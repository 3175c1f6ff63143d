"""All patients with what is known of each right now: the first page."""

from __future__ import annotations

from litestar import get
from litestar.response import Response

from doctor.console.desk import HtmlRequest, NavEntry, View, Viewed
from doctor.console.states import PATIENT_STATES

NAV = (NavEntry("/", "Patients"),)
PAGE = 100  # rows


@get("/")
async def show_patients(request: HtmlRequest, view: Viewed) -> Response[str]:
    """The page."""
    return _page(request, view, "patients.html")


@get("/patients/list", opt={"quiet": True})
async def list_patients(request: HtmlRequest, view: Viewed) -> Response[str]:
    """The part of it that changes."""
    return _page(request, view, "patients_list.html")


def _page(request: HtmlRequest, view: View, template: str) -> Response[str]:
    asked = request.query_params
    state, start = asked.get("state", ""), asked.get("start", "0")
    state = state if state in PATIENT_STATES else ""
    query = asked.get("q", "").strip().lower()[:64]
    place = int(start) if start.isascii() and start.isdecimal() and len(start) < 10 else 0
    found = view.commands.find_patients(state, query, place, PAGE)
    invited = sum(each.patient is not None for each in view.commands.invitations())
    return view.page(
        template,
        found=found,
        invited=invited,
        state=state,
        query=query,
        size=PAGE,
        states=PATIENT_STATES,
        section="/",
    )


HANDLERS = [show_patients, list_patients]

"""Clinical alerts: vitals beyond a patient's thresholds, until somebody says to have seen them."""

from __future__ import annotations

from dataclasses import dataclass

from litestar import get, post
from litestar.params import FromPath
from litestar.response import Response

from doctor.answers import AlertAnswer
from doctor.console.desk import Filled, HtmlRequest, View, Viewed, see
from doctor.console.forms import Form
from doctor.orders import AcknowledgeOrder
from shared.errors import UserError

FIRST = 5  # of all patients, on the first page
PAGE = 100  # on a page of their own
SEEN = "Noted that you have seen it. The audit log says so, with your name."


@dataclass(frozen=True, slots=True)
class Waiting:
    """Alerts of all patients that nobody has seen: the newest, and how many there are."""

    rows: list[AlertAnswer]
    count: int


def waiting(view: View, limit: int) -> Waiting:
    """Ask for them.

    Raises:
        StorageError: one does not open.
    """
    rows = view.commands.unseen_alerts(limit)
    return Waiting(rows, view.commands.count_unseen_alerts() if len(rows) == limit else len(rows))


@get("/alerts")
async def show_alerts(request: HtmlRequest, view: Viewed) -> Response[str]:
    """All that wait, as far as there is room."""
    return _all(view, request.query_params.get("done", ""))


@get("/alerts/list", opt={"quiet": True})
async def list_alerts(request: HtmlRequest, view: Viewed) -> Response[str]:
    """The part that changes: a few of them for the first page, or all."""
    brief = "brief" in request.query_params
    found = waiting(view, FIRST if brief else PAGE)
    return view.page("alerts_list.html", alerts=found, brief=brief, key=view.new_key())


@get("/patients/{patient:str}/alerts", opt={"quiet": True})
async def list_alerts_of(patient: FromPath[str], view: Viewed) -> Response[str]:
    """Those of one patient."""
    view.require_patient(patient)
    return view.page(
        "patient_alerts.html", patient_id=patient, alerts=view.commands.alerts(patient), key=view.new_key()
    )


@post("/alerts/{alert:str}/acknowledge")
async def acknowledge(alert: FromPath[str], view: Viewed, form: Filled) -> Response[str] | Response[bytes]:
    """Say that one has seen it; back to where the button was."""
    number = int(alert) if alert.isascii() and alert.isdecimal() and len(alert) < 19 else 0
    try:
        done = await view.commands.acknowledge(
            number, AcknowledgeOrder(view.login.operator), view.origin(form)
        )
    except UserError as error:
        form.wrong("", str(error))
        return _all(view, form=form, status=422)
    places = {"patient": f"/patients/{done.patient}?done=seen", "first": "/?done=seen"}
    return see(places.get(form.text("back"), "/alerts?done=seen"))


def _all(view: View, done: str = "", form: Form | None = None, status: int = 200) -> Response[str]:
    return view.page(
        "alerts.html",
        status,
        form=form or Form(),
        notice=SEEN if done == "seen" else None,
        alerts=waiting(view, PAGE),
        brief=False,
        key=view.new_key(),
        section="/",
    )


HANDLERS = [show_alerts, list_alerts, list_alerts_of, acknowledge]

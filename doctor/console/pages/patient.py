"""One patient: how it is and why, its alerts and vitals, what was sent to it, what it has said; and how it is removed."""

from __future__ import annotations

from typing import Any

from litestar import get, post
from litestar.params import FromPath
from litestar.response import Response

from doctor.answers import PatientAnswer
from doctor.console import incidents, log_reading
from doctor.console.desk import Filled, HtmlRequest, View, Viewed, see
from doctor.console.forms import Form
from doctor.console.incidents import OF_PATIENTS
from doctor.console.pages.alerts import SEEN
from doctor.console.pages.vitals import PERIODS, course_of, hours_in
from shared.errors import UserError

DONE = {
    "revoked": "Revoked: its connection is cut, and its groups have new keys that it never held.",
    "retired": "Retired: it is in no group any more. The same device may come back.",
    "thresholds": "The thresholds are changed. They count from the next reading on.",
    "seen": SEEN,
}
EVENTS = 3  # security events of a patient that are shown


@get("/patients/{patient:str}")
async def show_patient(patient: FromPath[str], request: HtmlRequest, view: Viewed) -> Response[str]:
    """The page."""
    found, hours = view.require_patient(patient), hours_in(request)
    return view.page(
        "patient.html",
        notice=DONE.get(request.query_params.get("done", "")),
        **_state(view, found),
        **_messages(view, found),
        patient_id=patient,
        alerts=view.commands.alerts(patient),
        key=view.new_key(),
        course=await course_of(view, patient, hours),
        periods=PERIODS,
        section="/",
    )


@get("/patients/{patient:str}/state", opt={"quiet": True})
async def show_state(patient: FromPath[str], view: Viewed) -> Response[str]:
    """How it is, as far as it changes."""
    return view.page("patient_state.html", **_state(view, view.require_patient(patient)))


@get("/patients/{patient:str}/messages", opt={"quiet": True})
async def show_messages_of(patient: FromPath[str], view: Viewed) -> Response[str]:
    """What was sent to it, and what it has said."""
    return view.page("patient_messages.html", **_messages(view, view.require_patient(patient)))


@get("/patients/{patient:str}/revoke")
async def ask_revoke(patient: FromPath[str], view: Viewed) -> Response[str]:
    """What revoking means, and a field that nobody fills in by mistake."""
    return _ask(view, view.require_patient(patient), "revoke", Form())


@post("/patients/{patient:str}/revoke")
async def revoke(patient: FromPath[str], view: Viewed, form: Filled) -> Response[str] | Response[bytes]:
    """Expel a patient for good."""
    found = view.require_patient(patient)
    if form.text("name") != patient:
        form.wrong("name", f"Type {patient} here, exactly as it is written above.")
        return _ask(view, found, "revoke", form, 422)
    try:
        await view.commands.revoke(patient, view.origin(form))
    except UserError as error:
        form.wrong("", str(error))
        return _ask(view, found, "revoke", form, 422)
    return see(f"/patients/{patient}?done=revoked")


@get("/patients/{patient:str}/retire")
async def ask_retire(patient: FromPath[str], view: Viewed) -> Response[str]:
    """What retiring means."""
    return _ask(view, view.require_patient(patient), "retire", Form())


@post("/patients/{patient:str}/retire")
async def retire(patient: FromPath[str], view: Viewed, form: Filled) -> Response[str] | Response[bytes]:
    """Remove a patient that is gone."""
    found = view.require_patient(patient)
    try:
        await view.commands.retire(patient, view.origin(form))
    except UserError as error:
        form.wrong("", str(error))
        return _ask(view, found, "retire", form, 422)
    return see(f"/patients/{patient}?done=retired")


def _state(view: View, patient: PatientAnswer) -> dict[str, Any]:
    read = log_reading.read(view, EVENTS, actions=OF_PATIENTS, subject=patient.patient)
    return {"patient": patient, "events": [incidents.tell(entry) for entry in read.entries]}


def _messages(view: View, patient: PatientAnswer) -> dict[str, Any]:
    name = patient.patient
    return {"messages": view.commands.messages_of(name), "replies": view.commands.replies(name)}


def _ask(view: View, patient: PatientAnswer, verb: str, form: Form, status: int = 200) -> Response[str]:
    return view.page(
        "departure.html", status, patient=patient, verb=verb, form=form, key=view.new_key(), section="/"
    )


HANDLERS = [show_patient, show_state, show_messages_of, ask_revoke, revoke, ask_retire, retire]

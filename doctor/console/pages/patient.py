"""One patient: who it is, what was sent to it, what it has said; and how it is removed."""

from __future__ import annotations

from litestar import get, post
from litestar.exceptions import NotFoundException
from litestar.params import FromPath
from litestar.response import Response

from doctor.answers import PatientAnswer
from doctor.console.desk import Filled, HtmlRequest, View, Viewed, see
from doctor.console.forms import Form
from shared.errors import UserError

DONE = {
    "revoked": "Revoked: its connection is cut, and its groups have new keys that it never held.",
    "retired": "Retired: it is in no group any more. The same device may come back.",
}


@get("/patients/{patient:str}")
async def show_patient(patient: FromPath[str], request: HtmlRequest, view: Viewed) -> Response[str]:
    """The page."""
    notice = DONE.get(request.query_params.get("done", ""))
    return _show(view, "patient.html", patient, notice)


@get("/patients/{patient:str}/state", opt={"quiet": True})
async def show_state(patient: FromPath[str], view: Viewed) -> Response[str]:
    """The part of it that changes."""
    return _show(view, "patient_state.html", patient)


@get("/patients/{patient:str}/revoke")
async def ask_revoke(patient: FromPath[str], view: Viewed) -> Response[str]:
    """What revoking means, and a field that nobody fills in by mistake."""
    return _ask(view, require(view, patient), "revoke", Form())


@post("/patients/{patient:str}/revoke")
async def revoke(patient: FromPath[str], view: Viewed, form: Filled) -> Response[str] | Response[bytes]:
    """Expel a patient for good."""
    found = require(view, patient)
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
    return _ask(view, require(view, patient), "retire", Form())


@post("/patients/{patient:str}/retire")
async def retire(patient: FromPath[str], view: Viewed, form: Filled) -> Response[str] | Response[bytes]:
    """Remove a patient that is gone."""
    found = require(view, patient)
    try:
        await view.commands.retire(patient, view.origin(form))
    except UserError as error:
        form.wrong("", str(error))
        return _ask(view, found, "retire", form, 422)
    return see(f"/patients/{patient}?done=retired")


def require(view: View, patient: str) -> PatientAnswer:
    """The patient of this id. Raises NotFoundException where there is none."""
    found = view.commands.patient(patient)
    if found is None:
        raise NotFoundException
    return found


def _show(view: View, template: str, patient: str, notice: str | None = None) -> Response[str]:
    return view.page(
        template,
        notice=notice,
        patient=require(view, patient),
        messages=view.commands.messages_of(patient),
        replies=view.commands.replies(patient),
        section="/",
    )


def _ask(view: View, patient: PatientAnswer, verb: str, form: Form, status: int = 200) -> Response[str]:
    return view.page(
        "departure.html", status, patient=patient, verb=verb, form=form, key=view.new_key(), section="/"
    )


HANDLERS = [show_patient, show_state, ask_revoke, revoke, ask_retire, retire]

"""All patients with what is known of each right now, and the alerts that wait: the first page.

Law: however many patients there are, a page asks for the rows that it shows and no more; who fits is counted in memory.
"""

from __future__ import annotations

from dataclasses import dataclass

from litestar import get
from litestar.response import Response

from doctor.answers import PatientAnswer
from doctor.chronicle import Entry
from doctor.console import incidents, log_reading
from doctor.console.desk import HtmlRequest, NavEntry, View, Viewed
from doctor.console.incidents import DEPARTURES
from doctor.console.pages.alerts import FIRST, SEEN, waiting
from doctor.console.states import PATIENT_STATES
from doctor.watching import Reading
from shared.errors import StorageError

NAV = (NavEntry("/", "Patients"),)
PAGE = 100  # rows
DEPARTED = 200  # of those who were revoked or retired last, who did it is told in the list


@dataclass(frozen=True, slots=True)
class Row:
    """One patient. `reading`: the last, None where there is none; `damaged`: it cannot be read.

    `alerts`: how many nobody has seen; `why`: of one that was revoked or retired lately, by whom, and `when` in milliseconds.
    """

    patient: PatientAnswer
    reading: Reading | None
    damaged: bool
    alerts: int
    why: str = ""
    when: int = 0


@get("/")
async def show_patients(request: HtmlRequest, view: Viewed) -> Response[str]:
    """The page."""
    seen = request.query_params.get("done") == "seen"
    return _page(request, view, "patients.html", notice=SEEN if seen else None)


@get("/patients/list", opt={"quiet": True})
async def list_patients(request: HtmlRequest, view: Viewed) -> Response[str]:
    """The part of it that changes."""
    return _page(request, view, "patients_list.html")


def _page(request: HtmlRequest, view: View, template: str, notice: str | None = None) -> Response[str]:
    asked = request.query_params
    state, start = asked.get("state", ""), asked.get("start", "0")
    state = state if state in PATIENT_STATES else ""
    query = asked.get("q", "").strip().lower()[:64]
    place = int(start) if start.isascii() and start.isdecimal() and len(start) < 10 else 0
    found = view.commands.find_patients(state, query, place, PAGE)
    whole = template == "patients.html"
    return view.page(
        template,
        found=found,
        rows=_rows(view, found.rows),
        invited=sum(each.patient is not None for each in view.commands.invitations()),
        state=state,
        query=query,
        size=PAGE,
        states=PATIENT_STATES,
        alerts=waiting(view, FIRST) if whole else None,
        brief=True,
        key=view.new_key(),
        notice=notice,
        section="/",
    )


def _rows(view: View, patients: list[PatientAnswer]) -> list[Row]:
    gone = _departures(view) if any(each.state in ("revoked", "retired") for each in patients) else {}
    return [_row(view, each, gone.get(each.patient)) for each in patients]


def _row(view: View, patient: PatientAnswer, departure: Entry | None) -> Row:
    reading, damaged = None, False
    try:
        reading = view.commands.last_vitals(patient.patient)
    except StorageError:  # of one patient: the others are shown all the same
        damaged = True
    alerts = view.commands.count_unseen_alerts(patient.patient)
    if departure is None or departure.action != patient.state:
        return Row(patient, reading, damaged, alerts)
    why = incidents.actor_of(departure)
    return Row(patient, reading, damaged, alerts, why, departure.time)


def _departures(view: View) -> dict[str, Entry]:
    """The last entry of each that was revoked or retired lately."""
    entries = log_reading.read(view, DEPARTED, actions=DEPARTURES).entries
    return {entry.subject: entry for entry in reversed(entries)}


HANDLERS = [show_patients, list_patients]

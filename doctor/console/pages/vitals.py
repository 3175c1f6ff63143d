"""A patient's vitals: their course as drawings and as a table, and the thresholds beyond which a value raises an alert."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import msgspec
from litestar import get, post
from litestar.params import FromPath
from litestar.response import Response

from doctor.console import charts
from doctor.console.charts import Chart
from doctor.console.desk import Filled, HtmlRequest, View, Viewed, see
from doctor.console.forms import Form
from doctor.console.measures import NAMES, UNITS, watched
from doctor.thresholds import Bounds, Thresholds, ThresholdsOrder
from doctor.watching import COURSE, Reading
from shared.errors import UserError
from shared.net.stream import clock
from shared.vitals import Measure

PERIODS = {6: "6 hours", 24: "24 hours", 168: "7 days", 720: "30 days"}  # by their hours
USUAL = 24
ROWS = 100  # readings in the table
HIGHEST = 400  # of a threshold
_HOUR = 3_600_000


@dataclass(frozen=True, slots=True)
class Course:
    """What a patient's vitals were in the last so many `hours`.

    Attributes:
        readings: oldest first; `whole`: there are no others in that time.
        bounds: what raises an alert.
        start, end: what the drawings show, in milliseconds since the Unix epoch.
        stamp: another one as soon as anything is different.
    """

    hours: int
    readings: list[Reading]
    bounds: Thresholds
    start: int
    end: int
    stamp: str

    @property
    def charts(self) -> list[Chart]:
        """The drawings; made at each look."""
        return charts.draw(self.readings, self.bounds, self.start, self.end)

    @property
    def watched(self) -> list[tuple[str, str]]:
        """Each measure's name, and what raises an alert."""
        return [(NAMES[measure], watched(measure, self.bounds.of(measure))) for measure in Measure]

    @property
    def whole(self) -> bool:
        """Whether nothing was left out."""
        return len(self.readings) < COURSE

    @property
    def rows(self) -> list[Reading]:
        """The newest, for the table."""
        return self.readings[: -ROWS - 1 : -1]

    @property
    def middle(self) -> int:
        """Half-way."""
        return (self.start + self.end) // 2


def hours_in(request: HtmlRequest) -> int:
    """For how long the vitals are asked for."""
    text = request.query_params.get("hours", "")
    hours = int(text) if text.isascii() and text.isdecimal() and len(text) < 5 else USUAL
    return hours if hours in PERIODS else USUAL


async def course_of(view: View, patient: str, hours: int) -> Course:
    """Ask for all that is shown of them.

    Raises:
        StorageError: a reading does not open.
    """
    bounds = view.commands.thresholds(patient).bounds
    stamp = stamp_of(
        view, patient, hours, bounds
    )  # before they are read: what comes meanwhile is then told once more
    end = clock().wall
    start = end - hours * _HOUR
    readings = await view.commands.vitals_course_aside(patient, start, COURSE)
    if len(readings) >= COURSE:
        start = readings[0].time  # more than are drawn: what is left out is not shown as a pause
    return Course(hours, readings, bounds, start, end, stamp)


def stamp_of(view: View, patient: str, hours: int, bounds: Thresholds) -> str:
    """Another one as soon as there is another reading, or other thresholds: one look into an index."""
    last = view.commands.last_vitals(patient)
    seen = f"{hours} {last.received if last else 0} {last.time if last else 0}".encode()
    return hashlib.sha256(seen + msgspec.json.encode(bounds)).hexdigest()[:16]


@get("/patients/{patient:str}/vitals", opt={"quiet": True})
async def show_vitals(patient: FromPath[str], request: HtmlRequest, view: Viewed) -> Response[str]:
    """The drawings alone, unless they are those that were seen."""
    return await _part(view, request, patient, "vitals.html")


@get("/patients/{patient:str}/readings", opt={"quiet": True})
async def show_readings(patient: FromPath[str], request: HtmlRequest, view: Viewed) -> Response[str]:
    """The table alone, unless it is the one that was seen."""
    return await _part(view, request, patient, "readings.html")


async def _part(view: View, request: HtmlRequest, patient: str, template: str) -> Response[str]:
    found, hours = view.require_patient(patient), hours_in(request)
    bounds = view.commands.thresholds(patient).bounds
    if request.query_params.get("seen") == stamp_of(view, patient, hours, bounds):
        return Response("", status_code=204)
    return view.page(template, patient=found, course=await course_of(view, patient, hours), periods=PERIODS)


@get("/patients/{patient:str}/thresholds")
async def ask_thresholds(patient: FromPath[str], view: Viewed) -> Response[str]:
    """The form, as the thresholds are."""
    view.require_patient(patient)
    bounds = view.commands.thresholds(patient).bounds
    values = {}
    for measure in Measure:
        own = bounds.of(measure)
        for side, value in (("low", own.low), ("high", own.high)):
            values[_field(measure, side)] = ["" if value is None else f"{value:g}"]
    return _form(view, patient, Form(values))


@post("/patients/{patient:str}/thresholds")
async def set_thresholds(
    patient: FromPath[str], view: Viewed, form: Filled
) -> Response[str] | Response[bytes]:
    """Change them: from the next reading on."""
    view.require_patient(patient)
    bounds = {_attribute(measure): _bounds(form, measure) for measure in Measure}
    if not form.valid:
        return _form(view, patient, form, 422)
    try:
        await view.commands.set_thresholds(patient, ThresholdsOrder(**bounds), view.origin(form))
    except UserError as error:
        form.wrong("", str(error))
        return _form(view, patient, form, 422)
    return see(f"/patients/{patient}?done=thresholds")


def _bounds(form: Form, measure: Measure) -> Bounds:
    """Both sides of one measure; what is wrong with them is said in the form."""
    low, high = (_limit(form, _field(measure, side)) for side in ("low", "high"))
    if low is not None and high is not None and low >= high:
        form.wrong(
            _field(measure, "high"), "This has to be above the other one, or every value raises an alert."
        )
        return Bounds()
    return Bounds(low, high)


def _limit(form: Form, name: str) -> float | None:
    text = form.text(name).replace(",", ".")
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value <= HIGHEST:
        form.wrong(name, f"Enter a number from 0 to {HIGHEST}, or leave it empty for none.")
        return None
    return value


def _form(view: View, patient: str, form: Form, status: int = 200) -> Response[str]:
    usual = Thresholds()
    rows = [
        (NAMES[each], UNITS[each], _field(each, "low"), _field(each, "high"), watched(each, usual.of(each)))
        for each in Measure
    ]
    return view.page(
        "thresholds.html", status, patient=patient, form=form, rows=rows, key=view.new_key(), section="/"
    )


def _attribute(measure: Measure) -> str:
    return measure.value.replace("-", "_")


def _field(measure: Measure, side: str) -> str:
    return f"{measure.value}-{side}"


HANDLERS = [show_vitals, show_readings, ask_thresholds, set_thresholds]

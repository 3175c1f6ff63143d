"""The protocol at work: the last handshakes as sequence diagrams that draw themselves, and the epochs of each group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from litestar import get
from litestar.params import FromPath
from litestar.response import Response

from doctor import epoch_history
from doctor.console import handshakes
from doctor.console.desk import HtmlRequest, NavEntry, View, Viewed
from doctor.console.handshakes import OUTCOMES, Handshake
from doctor.traces import Trace

NAV = (NavEntry("/protocol", "Protocol"),)
PAGE = 12  # rows of the list


@dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for: a part of a patient's name, an outcome, "" for any; and a place in the list."""

    patient: str
    outcome: str
    start: int

    def query(self, **other: object) -> str:
        """As an address has it."""
        asked = {"patient": self.patient, "outcome": self.outcome, "start": self.start or "", **other}
        return urlencode({name: value for name, value in asked.items() if value != ""})

    def fits(self, trace: Trace) -> bool:
        """Whether a handshake is one of them."""
        named = not self.patient or self.patient in (trace.patient or "")
        return named and (not self.outcome or handshakes.outcome_of(trace).name == self.outcome)


@get("/protocol")
async def show_protocol(request: HtmlRequest, view: Viewed) -> Response[str]:
    """The newest one, and the list of the others."""
    return _page(view, _wanted(request))


@get("/protocol/drawing", opt={"quiet": True})
async def show_newest(request: HtmlRequest, view: Viewed) -> Response[str]:
    """The newest one alone, unless it is the one that was seen."""
    wanted = _wanted(request)
    found = _fitting(view, wanted)
    return _drawing(view, request, wanted, found[0] if found else None, pinned=False)


@get("/protocol/list", opt={"quiet": True})
async def list_handshakes(request: HtmlRequest, view: Viewed) -> Response[str]:
    """The list alone."""
    wanted = _wanted(request)
    return view.page("handshakes.html", **_listed(view, wanted), chosen=request.query_params.get("chosen"))


@get("/protocol/epochs", opt={"quiet": True})
async def show_epochs(view: Viewed) -> Response[str]:
    """The epochs alone."""
    return view.page("epochs.html", epochs=epoch_history.history(view.commands.reader))


@get("/protocol/{handshake:str}")
async def show_handshake(handshake: FromPath[str], request: HtmlRequest, view: Viewed) -> Response[str]:
    """One of them, as long as it is kept."""
    return _page(view, _wanted(request), handshake)


@get("/protocol/{handshake:str}/drawing", opt={"quiet": True})
async def show_one(handshake: FromPath[str], request: HtmlRequest, view: Viewed) -> Response[str]:
    """One of them alone, unless nothing of it has changed."""
    return _drawing(view, request, _wanted(request), _find(view, handshake), pinned=True)


def _wanted(request: HtmlRequest) -> Wanted:
    asked = request.query_params
    start, outcome = asked.get("start", ""), asked.get("outcome", "")
    return Wanted(
        asked.get("patient", "").strip().lower()[:64],
        outcome if outcome in OUTCOMES else "",
        int(start) if start.isascii() and start.isdecimal() and len(start) < 5 else 0,
    )


def _fitting(view: View, wanted: Wanted) -> list[Trace]:
    return [trace for trace in view.console.house.traces.newest_first() if wanted.fits(trace)]


def _find(view: View, name: str) -> Trace | None:
    return next((each for each in view.console.house.traces.newest_first() if each.name == name), None)


def _listed(view: View, wanted: Wanted) -> dict[str, Any]:
    fitting = _fitting(view, wanted)
    start = min(wanted.start, (len(fitting) - 1) // PAGE * PAGE) if fitting else 0
    rows = [(trace, handshakes.outcome_of(trace)) for trace in fitting[start : start + PAGE]]
    return {"rows": rows, "start": start, "total": len(fitting), "size": PAGE, "wanted": wanted}


def _drawn(view: View, trace: Trace | None) -> Handshake | None:
    return None if trace is None else handshakes.draw(trace, view.console.doctor_id)


def _page(view: View, wanted: Wanted, name: str | None = None) -> Response[str]:
    listed = _listed(view, wanted)
    if name is None:
        fitting = _fitting(view, wanted)
        chosen = fitting[0] if fitting else None
    else:
        chosen = _find(view, name)
    status = 200 if name is None or chosen is not None else 404
    return view.page(
        "protocol.html",
        status,
        **listed,
        shown=_drawn(view, chosen),
        pinned=name is not None,
        chosen=chosen.name if chosen else None,
        outcomes=OUTCOMES,
        epochs=epoch_history.history(view.commands.reader),
        section="/protocol",
    )


def _drawing(
    view: View, request: HtmlRequest, wanted: Wanted, trace: Trace | None, pinned: bool
) -> Response[str]:
    shown = _drawn(view, trace)
    if request.query_params.get("seen") == (shown.stamp if shown else "none"):
        return Response("", status_code=204)  # what is on the screen stays as it is, unfolded details too
    return view.page("handshake.html", shown=shown, pinned=pinned, wanted=wanted)


HANDLERS = [show_protocol, show_newest, list_handshakes, show_epochs, show_handshake, show_one]

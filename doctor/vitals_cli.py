"""The commands of `telemed-doctor` about vitals: thresholds and alerts."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from doctor.answers import AlertAnswer, ThresholdsAnswer
from doctor.orders import AcknowledgeOrder
from doctor.terminal import (
    CONSOLE,
    AsJson,
    Patient,
    calling,
    counted,
    part,
    show_answer,
    show_table,
    time_text,
)
from doctor.thresholds import Bounds, ThresholdsOrder
from shared.vitals import Measure


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    for command in (thresholds, alerts, acknowledge):
        app.command()(command)


def _option(name: str, unit: str) -> Any:
    return typer.Option(name, metavar="LOW:HIGH", help=f"In {unit}; a side that is empty raises no alert.")


def thresholds(
    patient: Patient,
    heart_rate: Annotated[str | None, _option("--heart-rate", "/min")] = None,
    systolic: Annotated[str | None, _option("--systolic", "mmHg")] = None,
    diastolic: Annotated[str | None, _option("--diastolic", "mmHg")] = None,
    spo2: Annotated[str | None, _option("--spo2", "%")] = None,
    temperature: Annotated[str | None, _option("--temperature", "°C")] = None,
    as_json: AsJson = False,
) -> None:
    """Show, or change, between which values the vitals of a PATIENT raise no alert."""
    order = ThresholdsOrder(
        heart_rate=_bounds(heart_rate),
        systolic=_bounds(systolic),
        diastolic=_bounds(diastolic),
        spo2=_bounds(spo2),
        temperature=_bounds(temperature),
    )
    path = f"/v1/patients/{part(patient)}/thresholds"
    with calling() as client:
        if order == ThresholdsOrder():
            answer = client.get(path, ThresholdsAnswer)
        else:
            answer = client.post(path, order, ThresholdsAnswer)
    rows = [[each.value, *_sides(answer.bounds.of(each)), each.unit] for each in Measure]
    columns = ["measure", "low", "high", "unit"]
    show_answer(answer, as_json, lambda: show_table(f"Thresholds of {answer.patient}", columns, rows))


def _bounds(text: str | None) -> Bounds | None:
    if text is None:
        return None
    low, colon, high = text.partition(":")
    try:
        if not colon:
            raise ValueError("there is no colon")
        given = {name: float(side) for name, side in (("low", low), ("high", high)) if side.strip()}
        return msgspec.convert(given, Bounds)
    except (ValueError, msgspec.ValidationError) as error:
        raise typer.BadParameter(f"{text!r} is not LOW:HIGH, such as 40:130 or 90: ({error})") from None


def _sides(bounds: Bounds) -> list[str]:
    return ["" if each is None else f"{each:g}" for each in (bounds.low, bounds.high)]


def alerts(
    patient: Annotated[str | None, typer.Argument(help="Only those of this patient.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Also those that are over and acknowledged.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the clinical alerts that wait for somebody, or for their end."""
    query = f"?all={str(every).lower()}" + (f"&patient={part(patient)}" if patient is not None else "")
    with calling() as client:
        found = client.get(f"/v1/alerts{query}", list[AlertAnswer])
    rows = [
        [
            str(each.id),
            each.patient,
            f"{each.measure} {each.side} {each.limit:g}",
            f"{each.worst:g} {each.unit}",
            str(each.reports),
            time_text(each.raised),
            "goes on" if each.ended is None else time_text(each.ended),
            each.acknowledged_by or "",
        ]
        for each in found
    ]
    columns = ["alert", "patient", "what", "worst", "reports", "since", "until", "acknowledged by"]
    show_answer(found, as_json, lambda: show_table(counted(len(found), "alert"), columns, rows))


def acknowledge(
    alert: Annotated[int, typer.Argument(min=1, help="Its number, as `alerts` shows it.")],
    by: Annotated[str | None, typer.Option("--by", help="Who has seen it.")] = None,
    as_json: AsJson = False,
) -> None:
    """Note that somebody has seen an ALERT."""
    with calling() as client:
        answer = client.post(f"/v1/alerts/{alert}/acknowledge", AcknowledgeOrder(by), AlertAnswer)
    text = f"Alert {answer.id} of {answer.patient} is acknowledged by {answer.acknowledged_by}."
    show_answer(answer, as_json, lambda: CONSOLE.print(text, markup=False))

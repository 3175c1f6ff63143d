"""Vitals, thresholds and alerts in words for people."""

from __future__ import annotations

from doctor.answers import AlertAnswer
from doctor.thresholds import Bounds
from shared.vitals import Measure, Vitals

NAMES = {
    Measure.HEART_RATE: "Heart rate",
    Measure.SYSTOLIC: "Systolic pressure",
    Measure.DIASTOLIC: "Diastolic pressure",
    Measure.SPO2: "Oxygen saturation",
    Measure.TEMPERATURE: "Temperature",
}
UNITS = {
    Measure.HEART_RATE: "/min",
    Measure.SYSTOLIC: "mmHg",
    Measure.DIASTOLIC: "mmHg",
    Measure.SPO2: "%",
    Measure.TEMPERATURE: "°C",
}


def brief(vitals: Vitals) -> list[str]:
    """A reading in as little room as there is in a list."""
    found = []
    if vitals.heart_rate is not None:
        found.append(f"HR {vitals.heart_rate}")
    if vitals.systolic is not None or vitals.diastolic is not None:
        found.append(f"BP {vitals.systolic or '?'}/{vitals.diastolic or '?'}")
    if vitals.spo2 is not None:
        found.append(f"SpO₂ {vitals.spo2:g} %")
    if vitals.temperature is not None:
        found.append(f"{vitals.temperature:g} °C")
    return found


def with_unit(measure: Measure, value: float) -> str:
    """A value."""
    return f"{value:g} {UNITS[measure]}"


def told(alert: AlertAnswer) -> str:
    """What an alert has found."""
    measure = Measure(alert.measure)
    limit, worst = with_unit(measure, alert.limit), with_unit(measure, alert.worst)
    extreme = "lowest" if alert.side == "below" else "highest"
    reports = "one report" if alert.reports == 1 else f"{alert.reports} reports"
    return f"{NAMES[measure]} {alert.side} {limit}: {worst} at the {extreme}, in {reports}"


def watched(measure: Measure, bounds: Bounds) -> str:
    """What raises an alert."""
    parts = []
    if bounds.low is not None:
        parts.append(f"below {bounds.low:g}")
    if bounds.high is not None:
        parts.append(f"above {bounds.high:g}")
    return f"{' or '.join(parts)} {UNITS[measure]}" if parts else "never"

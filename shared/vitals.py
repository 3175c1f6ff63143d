"""What a device measures: the JSON in the body of a report of kind VITALS.

Law: the one definition for both sides, and strict: a value that is no number of its kind, lies outside what a sensor can show, or is
of a name that is not here makes the whole report something that is not understood. When it was measured is the report's own time.
"""

from __future__ import annotations

from enum import Enum, unique
from typing import Annotated

import msgspec
from msgspec import Meta


@unique
class Measure(Enum):
    """What is measured; the value is its name in thresholds, alerts and identifiers."""

    HEART_RATE = "heart-rate"
    SYSTOLIC = "systolic"
    DIASTOLIC = "diastolic"
    SPO2 = "spo2"
    TEMPERATURE = "temperature"

    @property
    def unit(self) -> str:
        """Its UCUM unit."""
        return _UNITS[self]


_UNITS = {
    Measure.HEART_RATE: "/min",
    Measure.SYSTOLIC: "mm[Hg]",
    Measure.DIASTOLIC: "mm[Hg]",
    Measure.SPO2: "%",
    Measure.TEMPERATURE: "Cel",
}


class Vitals(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """One reading, with at least one value. The bounds are those of sensors, not of health.

    Attributes:
        heart_rate: beats a minute.
        systolic, diastolic: blood pressure in mm[Hg]; of both the first is the higher one.
        spo2: oxygen saturation by pulse oximetry, in %.
        temperature: of the body, in degrees Celsius.
    """

    heart_rate: Annotated[int, Meta(ge=10, le=350)] | None = None
    systolic: Annotated[int, Meta(ge=20, le=350)] | None = None
    diastolic: Annotated[int, Meta(ge=10, le=250)] | None = None
    spo2: Annotated[float, Meta(ge=20, le=100)] | None = None
    temperature: Annotated[float, Meta(ge=20, le=46)] | None = None

    def __post_init__(self) -> None:
        """Refuse what no sensor says; ValueError becomes a msgspec.ValidationError."""
        if not self.values():
            raise ValueError("there is no value")
        if self.systolic is not None and self.diastolic is not None and self.systolic <= self.diastolic:
            raise ValueError("the systolic pressure is not above the diastolic one")

    def values(self) -> dict[Measure, float]:
        """What was measured."""
        found = {
            Measure.HEART_RATE: self.heart_rate,
            Measure.SYSTOLIC: self.systolic,
            Measure.DIASTOLIC: self.diastolic,
            Measure.SPO2: self.spo2,
            Measure.TEMPERATURE: self.temperature,
        }
        return {measure: value for measure, value in found.items() if value is not None}

    def __str__(self) -> str:
        """For people."""
        parts = []
        if self.heart_rate is not None:
            parts.append(f"heart rate {self.heart_rate} /min")
        if self.systolic is not None or self.diastolic is not None:
            upper, lower = (_shown(value) for value in (self.systolic, self.diastolic))
            parts.append(f"blood pressure {upper}/{lower} mmHg")
        if self.spo2 is not None:
            parts.append(f"SpO₂ {self.spo2:g} %")
        if self.temperature is not None:
            parts.append(f"temperature {self.temperature:g} °C")
        return ", ".join(parts)


def _shown(value: int | None) -> str:
    return "?" if value is None else str(value)


_decoder = msgspec.json.Decoder(Vitals)


def encode(vitals: Vitals) -> bytes:
    """The body of a report."""
    return msgspec.json.encode(vitals)


def decode(body: bytes) -> Vitals | None:
    """What a report says; None: it is not understood."""
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None

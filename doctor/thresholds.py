"""Between which values a patient's vitals need nobody's attention: the same for all, until somebody sets others for one patient."""

from __future__ import annotations

import sqlite3
from typing import Annotated

import msgspec
from msgspec import Meta

from doctor import audit
from doctor.audit import Action
from shared.storage import cells
from shared.vitals import Measure

Limit = Annotated[float, Meta(ge=0, le=400)]


class Bounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The lowest and the highest value that raise no alert; null: there is none."""

    low: Limit | None = None
    high: Limit | None = None

    def __post_init__(self) -> None:
        """Refuse what every value would break."""
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError("low is not below high")

    def broken_by(self, value: float) -> float | None:
        """The bound that a value is beyond; None: it is within."""
        if self.low is not None and value < self.low:
            return self.low
        if self.high is not None and value > self.high:
            return self.high
        return None

    def __str__(self) -> str:
        """As the command line takes it."""
        return ":".join("" if each is None else f"{each:g}" for each in (self.low, self.high))


class Thresholds(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The bounds of each measure, in its unit (`shared.vitals`)."""

    heart_rate: Bounds = Bounds(40, 130)
    systolic: Bounds = Bounds(90, 180)
    diastolic: Bounds = Bounds()
    spo2: Bounds = Bounds(90, None)
    temperature: Bounds = Bounds(35, 39)

    def of(self, measure: Measure) -> Bounds:
        """The bounds of one measure."""
        return {
            Measure.HEART_RATE: self.heart_rate,
            Measure.SYSTOLIC: self.systolic,
            Measure.DIASTOLIC: self.diastolic,
            Measure.SPO2: self.spo2,
            Measure.TEMPERATURE: self.temperature,
        }[measure]


class ThresholdsOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """New bounds; null: they stay as they are. Bounds without low and high: nothing is watched."""

    heart_rate: Bounds | None = None
    systolic: Bounds | None = None
    diastolic: Bounds | None = None
    spo2: Bounds | None = None
    temperature: Bounds | None = None


def load(db: sqlite3.Connection, patient_id: str) -> Thresholds:
    """The thresholds of a patient.

    Raises:
        StorageError: what is stored is none.
    """
    row = db.execute("SELECT bounds FROM thresholds WHERE patient_id = ?", (patient_id,)).fetchone()
    if row is None:
        return Thresholds()
    return cells.record(Thresholds, row[0], "thresholds", "bounds", patient_id)


def change(
    db: sqlite3.Connection, patient_id: str, order: ThresholdsOrder, now: int, actor: str
) -> Thresholds:
    """Set what the order names, inside the caller's transaction; returns what counts from now on."""
    changes = {name: bounds for name, bounds in msgspec.structs.asdict(order).items() if bounds is not None}
    new = msgspec.structs.replace(load(db, patient_id), **changes)
    if changes:
        text = msgspec.json.encode(new).decode()
        db.execute(
            "INSERT INTO thresholds VALUES (?1, ?2, ?3)"
            " ON CONFLICT (patient_id) DO UPDATE SET bounds = ?2, changed = ?3",
            (patient_id, text, now),
        )
        detail = ", ".join(f"{name.replace('_', '-')} {bounds}" for name, bounds in changes.items())
        audit.append(db, now, actor, Action.THRESHOLDS_CHANGED, patient_id, detail)
    return new

"""Vitals as Observations: one for each measure, blood pressure as a panel; LOINC codes, UCUM units, the vital-signs profiles of FHIR R4."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from doctor.fhir.resources import (
    CodeableConcept,
    Coding,
    Component,
    Identifier,
    Meta,
    Observation,
    Quantity,
    Reference,
    instant,
    patient,
)
from doctor.reports import StoredReport
from shared.vitals import Measure

LOINC = "http://loinc.org"
PROFILES = "http://hl7.org/fhir/StructureDefinition/"


@dataclass(frozen=True, slots=True)
class Kind:
    """An Observation: its part of the id, its profile, its LOINC codes; one measure, or those of its components."""

    name: str
    profile: str
    codes: tuple[tuple[str, str], ...]
    measures: tuple[Measure, ...]


KINDS = (
    Kind("heart-rate", "heartrate", (("8867-4", "Heart rate"),), (Measure.HEART_RATE,)),
    Kind(
        "blood-pressure",
        "bp",
        (("85354-9", "Blood pressure panel with all children optional"),),
        (Measure.SYSTOLIC, Measure.DIASTOLIC),
    ),
    Kind(
        "spo2",
        "oxygensat",
        (
            # The profile wants the first; the second says how it was measured.
            ("2708-6", "Oxygen saturation in Arterial blood"),
            ("59408-5", "Oxygen saturation in Arterial blood by Pulse oximetry"),
        ),
        (Measure.SPO2,),
    ),
    Kind("temperature", "bodytemp", (("8310-5", "Body temperature"),), (Measure.TEMPERATURE,)),
)
_COMPONENTS = {
    Measure.SYSTOLIC: ("8480-6", "Systolic blood pressure"),
    Measure.DIASTOLIC: ("8462-4", "Diastolic blood pressure"),
}
_CATEGORY = CodeableConcept(
    coding=(
        Coding(
            system="http://terminology.hl7.org/CodeSystem/observation-category",
            code="vital-signs",
            display="Vital Signs",
        ),
    )
)
_UNKNOWN = CodeableConcept(
    coding=(
        Coding(
            system="http://terminology.hl7.org/CodeSystem/data-absent-reason",
            code="unknown",
            display="Unknown",
        ),
    )
)


def observations(report: StoredReport, key_fingerprint: str) -> Iterator[Observation]:
    """What a report says; nothing where it is not understood.

    Args:
        key_fingerprint: names the device.
    """
    values = report.vitals.values() if report.vitals is not None else {}
    device = Reference(
        type="Device", identifier=Identifier(value=key_fingerprint), display=f"device of {report.patient_id}"
    )
    for kind in KINDS:
        if not any(measure in values for measure in kind.measures):
            continue
        single = len(kind.measures) == 1
        yield Observation(
            id=f"{report.report_id.hex()}-{kind.name}",
            meta=Meta(profile=(PROFILES + kind.profile,)),
            status="final",
            category=(_CATEGORY,),
            code=_concept(*kind.codes),
            subject=patient(report.patient_id),
            effective_date_time=instant(report.time),
            issued=instant(report.received),
            device=device,
            value_quantity=_quantity(kind.measures[0], values[kind.measures[0]]) if single else None,
            component=() if single else tuple(_component(each, values.get(each)) for each in kind.measures),
        )


def _component(measure: Measure, value: float | None) -> Component:
    code = _concept(_COMPONENTS[measure])
    if value is None:
        return Component(code=code, data_absent_reason=_UNKNOWN)
    return Component(code=code, value_quantity=_quantity(measure, value))


def _concept(*codes: tuple[str, str]) -> CodeableConcept:
    return CodeableConcept(
        coding=tuple(Coding(system=LOINC, code=code, display=display) for code, display in codes),
        text=codes[-1][1],
    )


def _quantity(measure: Measure, value: float) -> Quantity:
    return Quantity(value=value, unit=measure.unit, code=measure.unit)

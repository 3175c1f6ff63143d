"""Vitals as FHIR Observations, as a client reads them over HTTP; the judge is `fhir.resources`."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from shared.vitals import Vitals, encode
from tests.doctor_bench import on_a_loop
from tests.fhir_bench import NOON, keep, report, serving

WHOLE = Vitals(heart_rate=72, systolic=121, diastolic=79, spo2=97.5, temperature=36.6)


@on_a_loop
async def test_each_measure_is_an_observation_with_its_codes_and_units(tmp_path: Path) -> None:
    """By the device's time; the ids are the report's, so that the same question has the same answer."""
    async with serving(tmp_path) as it:
        await keep(it.doctor, "anna", report(1, encode(WHOLE), NOON))

        pulse, pressure, oxygen, heat = found = await it.search("Observation?patient=anna")

        assert {each["resourceType"] for each in found} == {"Observation"}
        assert [each["id"].partition("-")[2] for each in found] == [
            "heart-rate",
            "blood-pressure",
            "spo2",
            "temperature",
        ]
        assert pulse["valueQuantity"] == {
            "value": 72,
            "unit": "/min",
            "code": "/min",
            "system": "http://unitsofmeasure.org",
        }
        codes = [[coding["code"] for coding in each["code"]["coding"]] for each in found]
        assert codes == [["8867-4"], ["85354-9"], ["2708-6", "59408-5"], ["8310-5"]]
        parts = [(each["code"]["coding"][0]["code"], each["valueQuantity"]) for each in pressure["component"]]
        assert [(code, value["value"], value["code"]) for code, value in parts] == [
            ("8480-6", 121, "mm[Hg]"),
            ("8462-4", 79, "mm[Hg]"),
        ]
        assert (oxygen["valueQuantity"]["value"], oxygen["valueQuantity"]["code"]) == (97.5, "%")
        assert (heat["valueQuantity"]["value"], heat["valueQuantity"]["code"]) == (36.6, "Cel")
        for each in found:
            assert each["effectiveDateTime"] == "2026-11-23T12:00:00.000Z"
            assert each["issued"] == "2026-11-23T13:00:00.000Z"
            assert each["category"][0]["coding"][0]["code"] == "vital-signs"
            assert each["subject"]["reference"] == "Patient/anna"
            assert each["device"]["display"] == "device of anna"
            assert each["status"] == "final"


@on_a_loop
async def test_half_a_blood_pressure_says_that_the_other_half_is_unknown(tmp_path: Path) -> None:
    """As the profile wants it."""
    async with serving(tmp_path) as it:
        await keep(it.doctor, "anna", report(1, b'{"systolic":121}', NOON))

        (pressure,) = await it.search("Observation?patient=Patient/anna")

        assert "valueQuantity" in pressure["component"][0]
        assert pressure["component"][1]["dataAbsentReason"]["coding"][0]["code"] == "unknown"


@on_a_loop
async def test_vitals_that_are_not_understood_are_kept_and_shown_as_that(tmp_path: Path) -> None:
    """No Observation comes of them, and no request fails."""
    async with serving(tmp_path) as it:
        await keep(it.doctor, "anna", report(1, b'{"heart_rate":"fast"}', NOON))
        await keep(it.doctor, "anna", report(2, b'"\xff', NOON))

        assert await it.search("Observation?patient=anna") == []
        answer = await it.http.get("/v1/patients/anna/reports")
        assert [each["understood"] for each in answer.json()] == [False, False]
        assert 'not understood: {"heart_rate":"fast"}' in {each["shown"] for each in answer.json()}


@on_a_loop
async def test_a_search_is_for_a_time_and_a_number_newest_first(tmp_path: Path) -> None:
    """What a device says of the future counts as when it came."""
    async with serving(tmp_path) as it:
        readings = [report(n, encode(Vitals(heart_rate=60 + n)), NOON + n * 60_000) for n in range(3)]
        ahead = report(9, encode(Vitals(heart_rate=99)), 2**62)
        await keep(it.doctor, "anna", *readings, ahead)

        async def rates(query: str) -> list[int]:
            found = await it.search(f"Observation?patient=anna{query}")
            return [each["valueQuantity"]["value"] for each in found]

        assert await rates("") == [99, 62, 61, 60]
        assert await rates("&_count=2") == [99, 62]
        assert await rates("&date=2026-11-23T12:01Z") == [61]
        assert await rates("&date=2026-11-23T12:01:00.000Z") == [61]
        assert await rates("&date=lt2026-11-23T12:01:00Z") == [60]
        assert await rates("&date=le2026-11-23T12:01:00Z") == [61, 60]
        assert await rates("&date=gt2026-11-23T12:01:00Z&date=lt2026-11-23T12:30:00Z") == [62]
        assert await rates(f"&date={quote('ge2026-11-23T13:02:00+01:00')}") == [99, 62]
        for whole in ("2026", "2026-11", "2026-11-23"):
            assert len(await rates(f"&date={whole}")) == 4
        assert await rates("&date=2025&_count=1000") == []
        assert await it.search("Observation?patient=nobody") == []


@on_a_loop
async def test_an_id_that_fhir_does_not_take_is_an_identifier_alone(tmp_path: Path) -> None:
    """It has a `_`; one asks by it all the same."""
    async with serving(tmp_path) as it:
        await it.doctor.device("bed_1")
        await keep(it.doctor, "bed_1", report(1, b'{"spo2":97}', NOON))

        (found,) = await it.search("Observation?patient=bed_1")

        assert found["subject"] == {"type": "Patient", "identifier": {"value": "bed_1"}}


@on_a_loop
async def test_other_refusals_are_operation_outcomes_too(tmp_path: Path) -> None:
    """A parameter that is not understood, a body on the disk that somebody has changed, no token."""
    async with serving(tmp_path) as it:
        assert "patient is missing" in await it.refused("Observation")
        assert "'code' is not supported" in await it.refused("Observation?patient=anna&code=%00")
        await keep(it.doctor, "anna", report(1, encode(WHOLE), NOON))
        await it.doctor.writer.submit(lambda db: db.execute("UPDATE reports SET body = zeroblob(40)"))
        assert "reports.body" in await it.refused("Observation?patient=anna", 503)

        it.http.headers["Authorization"] = "Bearer wrong"
        assert "token" in await it.refused("Observation?patient=anna", 401)

"""The simulated sensor: plausible, repeatable, and no burden on a doctor that takes nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import msgspec
import pytest

from patient import vitals
from patient.outbox import Outbox
from patient.settings import PatientSettings
from patient.vitals import WAITING_LIMIT, Sensor
from shared.errors import StorageError
from shared.vitals import Measure, decode
from shared.wire.messages import ReportKind
from tests.patient_bench import Bench
from tests.small_doctor import SmallDoctor

MIDNIGHT = 1_800_000_000 // 86_400 * 86_400


def test_the_same_seed_measures_the_same() -> None:
    """Another one does not."""

    def day(seed: str) -> list[object]:
        sensor = Sensor(seed)
        return [sensor.read(MIDNIGHT + 15 * number) for number in range(500)]

    assert day("bed-01") == day("bed-01") != day("bed-02")


def test_a_day_is_plausible_low_at_night_and_not_without_episodes() -> None:
    """Every reading is one that the doctor understands, whoever it is of."""
    for seed in map(str, range(5)):
        sensor = Sensor(seed)
        readings = [sensor.read(MIDNIGHT + 60 * minute) for minute in range(3 * 1440)]
        assert all(decode(msgspec.json.encode(reading)) == reading for reading in readings)
        rates = [reading.values()[Measure.HEART_RATE] for reading in readings]
        nights = [rate for minute, rate in enumerate(rates) if 180 <= minute % 1440 < 300]
        noons = [rate for minute, rate in enumerate(rates) if 900 <= minute % 1440 < 1020]
        assert sum(nights) / len(nights) + 5 < sum(noons) / len(noons)
        assert sorted(rates)[len(rates) // 2] in range(50, 95)
        assert any(
            rate > 120 or reading.values()[Measure.SPO2] < 90 or reading.values()[Measure.SYSTOLIC] > 175
            for rate, reading in zip(rates, readings, strict=True)
        )


async def test_readings_are_reported_in_the_interval(bench: Bench) -> None:
    """As reports of vitals, and not at all where no interval is set."""
    settings = msgspec.structs.replace(bench.settings, vitals_interval_s=15.0)
    async with SmallDoctor() as doctor, bench.in_session(doctor) as alice:
        async with vitals.reporting(alice, bench.settings, bench.conditions):
            assert alice.waiting_reports(1) == 0
        async with vitals.reporting(alice, settings, bench.conditions):
            await doctor.until(lambda: len(doctor.last.reports) >= 2)

        assert {each.kind for each in doctor.last.reports} == {ReportKind.VITALS}
        assert all(decode(each.body) is not None for each in doctor.last.reports)
        assert set(bench.conditions.pause.taken) == {15.0}  # type: ignore[attr-defined]  # it is the bench's


async def test_a_doctor_that_takes_nothing_is_not_flooded(bench: Bench) -> None:
    """What a person writes still finds room in the outbox."""
    enough = asyncio.Event()
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 2 * WAITING_LIMIT:
            enough.set()
        await asyncio.sleep(0)

    conditions = replace(bench.conditions, pause=pause)
    async with SmallDoctor() as doctor, bench.device(doctor) as alice:
        work = asyncio.create_task(vitals.report_vitals(alice, Sensor("alice"), 15.0, conditions))
        await enough.wait()
        work.cancel()
        await asyncio.wait({work})

        assert alice.waiting_reports(10 * WAITING_LIMIT) == WAITING_LIMIT


async def test_a_disk_that_refuses_costs_one_reading(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next is reported as ever."""
    write, refusals = Outbox.write, [StorageError("the disk is full")]

    async def refusing(self: Outbox, kind: ReportKind, body: bytes, now: int) -> bytes:
        if refusals:
            raise refusals.pop()
        return await write(self, kind, body, now)

    monkeypatch.setattr(Outbox, "write", refusing)
    settings = msgspec.structs.replace(bench.settings, vitals_interval_s=15.0)
    async with SmallDoctor() as doctor, bench.in_session(doctor) as alice:
        async with vitals.reporting(alice, settings, bench.conditions):
            await doctor.until(lambda: doctor.last.reports)

        assert refusals == []


def test_an_interval_below_a_second_is_refused() -> None:
    """It would fill a doctor's quota within hours."""
    with pytest.raises(ValueError, match="at least 1"):
        PatientSettings(vitals_interval_s=0.5)

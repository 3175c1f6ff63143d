"""A simulated sensor, and what has its readings reported.

Law: this is no measurement, and says so: readings are plausible, and the same for the same seed. A person's day goes through them
(lowest at four in the morning), noise that remembers a little, and now and then an episode that a doctor would want to see.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass

from patient.device import Conditions, Device
from patient.settings import PatientSettings
from shared import vitals
from shared.errors import StorageError, UserError
from shared.logs import get_logger
from shared.vitals import Vitals
from shared.wire.messages import ReportKind

DAY_S = 86_400.0
LOWEST_AT_S = 4 * 3600.0  # by UTC: the sensor knows no place
EPISODE_EVERY_S = 1800.0  # on average
WAITING_LIMIT = 40  # reports of any kind that wait for the doctor: with more, none is added, so that texts still find room

_log = get_logger("vitals")


@dataclass(frozen=True, slots=True)
class Episode:
    """How far a disturbance moves each value at its height, and how long it lasts."""

    name: str
    heart_rate: float = 0.0
    systolic: float = 0.0
    spo2: float = 0.0
    temperature: float = 0.0
    seconds: float = 180.0


EPISODES = (
    Episode("tachycardia", heart_rate=75, systolic=-8, seconds=120),
    Episode("desaturation", heart_rate=18, spo2=-11, seconds=150),
    Episode("high pressure", heart_rate=12, systolic=72, seconds=240),
    Episode("fever", heart_rate=22, temperature=2.8, seconds=600),
)


class Sensor:
    """A body, and what is measured of it.

    Args:
        seed: whose body; the same seed and the same times give the same readings.
    """

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)  # noqa: S311  a simulation; nothing depends on its secrecy
        draw = self._random.gauss
        self._heart_rate, self._systolic = draw(68, 5), draw(120, 7)
        self._spo2, self._temperature = 97.5, draw(36.6, 0.15)
        self._noise = [0.0] * 4
        self._episode: Episode | None = None
        self._began = 0.0
        self._next: float | None = None

    def read(self, seconds: float) -> Vitals:
        """A reading. `seconds` since the Unix epoch; it does not go back."""
        day = -math.cos(2 * math.pi * (seconds - LOWEST_AT_S) / DAY_S)
        height, episode = self._disturbance(seconds)
        self._noise = [0.8 * noise + 0.6 * self._random.gauss(0, 1) for noise in self._noise]
        pulse, pressure, oxygen, heat = self._noise
        systolic = _within(self._systolic + 7 * day + 4 * pressure + height * episode.systolic, 60, 250)
        return Vitals(
            heart_rate=round(
                _within(self._heart_rate + 8 * day + 3 * pulse + height * episode.heart_rate, 30, 220)
            ),
            systolic=round(systolic),
            diastolic=round(0.45 * systolic + 24 + pressure),
            spo2=round(_within(self._spo2 + 0.5 * oxygen + height * episode.spo2, 60, 100), 1),
            temperature=round(
                _within(self._temperature + 0.3 * day + 0.06 * heat + height * episode.temperature, 33, 42), 1
            ),
        )

    def _disturbance(self, seconds: float) -> tuple[float, Episode]:
        """How far the present episode has risen, from 0 to 1, and which it is."""
        if self._next is None:
            self._next = seconds + self._random.expovariate(1 / EPISODE_EVERY_S)
        if self._episode is None and seconds >= self._next:
            self._episode, self._began = self._random.choice(EPISODES), seconds
        if self._episode is None:
            return 0.0, CALM
        done = (seconds - self._began) / self._episode.seconds
        if done >= 1:
            self._episode = None
            self._next = seconds + self._random.expovariate(1 / EPISODE_EVERY_S)
            return 0.0, CALM
        return math.sin(math.pi * done), self._episode


CALM = Episode("calm")


def _within(value: float, low: float, high: float) -> float:
    return max(low, min(high, value))


async def report_vitals(device: Device, sensor: Sensor, interval: float, conditions: Conditions) -> None:
    """Measure and report every `interval` seconds, until cancelled.

    A doctor that takes nothing, because it is away or a quota is full, is not kept busier by it: no reading is added to
    `WAITING_LIMIT` reports that wait. A disk that refuses costs this reading and no other.
    """
    while True:
        reading = sensor.read(conditions.now().wall / 1000)
        try:
            if device.waiting_reports(WAITING_LIMIT) < WAITING_LIMIT:
                await device.report(ReportKind.VITALS, vitals.encode(reading))
        except (StorageError, UserError) as error:
            _log.warning("vitals not reported", cause=str(error))
        await conditions.pause(interval)


@contextlib.asynccontextmanager
async def reporting(device: Device, settings: PatientSettings, conditions: Conditions) -> AsyncIterator[None]:
    """The simulated sensor at work for as long as the block lasts, if the settings want one. A device's body is always the same."""
    if not settings.vitals_interval_s:
        yield
        return
    sensor = Sensor(device.identity.patient_id)
    work = asyncio.create_task(report_vitals(device, sensor, settings.vitals_interval_s, conditions))
    try:
        yield
    finally:
        work.cancel()
        await asyncio.wait({work})
    if not work.cancelled():
        work.result()

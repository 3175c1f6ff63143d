"""Vitals: what is understood, and what is not, however it is written."""

from __future__ import annotations

import pytest

from shared import vitals
from shared.vitals import Measure, Vitals

WHOLE = Vitals(heart_rate=72, systolic=121, diastolic=79, spo2=97.5, temperature=36.6)


def test_a_reading_survives_the_wire() -> None:
    """What was not measured is not sent."""
    assert vitals.decode(vitals.encode(WHOLE)) == WHOLE
    assert vitals.encode(Vitals(heart_rate=72)) == b'{"heart_rate":72}'
    assert vitals.decode(b'{"heart_rate":72,"spo2":null}') == Vitals(heart_rate=72)


def test_values_have_names_and_units() -> None:
    """Only those that were measured."""
    values = Vitals(heart_rate=72, temperature=36.6).values()

    assert values == {Measure.HEART_RATE: 72, Measure.TEMPERATURE: 36.6}
    assert [measure.unit for measure in Measure] == ["/min", "mm[Hg]", "mm[Hg]", "%", "Cel"]


def test_people_read_it_in_one_line() -> None:
    """Half of a blood pressure too."""
    assert str(WHOLE) == "heart rate 72 /min, blood pressure 121/79 mmHg, SpO₂ 97.5 %, temperature 36.6 °C"
    assert str(Vitals(systolic=121)) == "blood pressure 121/? mmHg"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"72",
        b"null",
        b"{",
        b'{"heart_rate":"72"}',
        b'{"heart_rate":72.5}',
        b'{"heart_rate":true}',
        b'{"heart_rate":9}',
        b'{"heart_rate":351}',
        b'{"heart_rate":1e400}',
        b'{"systolic":80,"diastolic":80}',
        b'{"spo2":100.1}',
        b'{"spo2":NaN}',
        b'{"temperature":46.1}',
        b'{"heart_rate":72,"mood":"good"}',
        b'{"heart_rate":72} {}',
        b'{"heart_rate":null}',
        b"\xff\xfe",
        b"[" * 30_000,
    ],
)
def test_what_is_none_is_not_understood(body: bytes) -> None:
    """And nothing is raised."""
    assert vitals.decode(body) is None

"""Thresholds and clinical alerts: what raises one, what it takes in, and who has seen it."""

from __future__ import annotations

import sqlite3
from functools import partial
from pathlib import Path

import msgspec
import pytest

from doctor import alerts as alert_rows
from doctor.alerts import Alerts
from doctor.answers import AlertAnswer
from doctor.audit import Action
from doctor.idempotency import Origin
from doctor.orders import AcknowledgeOrder
from doctor.retention import Retention
from doctor.thresholds import Bounds, Thresholds, ThresholdsOrder
from shared.errors import StorageError, UserError
from shared.protocol.events import ReportsReceipted
from shared.storage.sealed import Sealer
from shared.vitals import Vitals, encode
from shared.wire.messages import Report, ReportKind
from tests.crypto_tools import entropy
from tests.doctor_bench import ME, Doctor, on_a_loop, running

CALM = Vitals(heart_rate=72, systolic=120, diastolic=80, spo2=97, temperature=36.6)


class Ward:
    """A database with the patients anna and berta; time passes by a second with each report."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db
        self.now = 0
        self.alerts = Alerts(Sealer(bytes(32), entropy("ward")))
        for name in ("anna", "berta"):
            db.execute("INSERT INTO patients VALUES (?, 1, x'00', ?, 'active', NULL, 0, 0)", (name, name))

    def report(self, patient: str = "anna", /, **values: float) -> None:
        """One more reading."""
        self.now += 1000
        self.alerts.watch(self.db, patient, msgspec.convert(values, Vitals), self.now)

    def found(self, waiting: bool = True) -> list[tuple[str, str, bool, float, int, bool]]:
        """Patient, measure, whether below, worst value, how many reports, whether it goes on."""
        return [
            (
                each.patient_id,
                each.finding.measure.value,
                each.finding.below,
                each.finding.worst,
                each.finding.reports,
                each.ended is None,
            )
            for each in self.alerts.find_all(self.db, None, waiting, 100)
        ]


@pytest.fixture
def ward(db: sqlite3.Connection) -> Ward:
    return Ward(db)


@pytest.mark.parametrize(
    ("values", "raised"),
    [
        ({"heart_rate": 40}, None),
        ({"heart_rate": 39}, ("heart-rate", True)),
        ({"heart_rate": 130}, None),
        ({"heart_rate": 131}, ("heart-rate", False)),
        ({"spo2": 90.0}, None),
        ({"spo2": 89.9}, ("spo2", True)),
        ({"systolic": 90}, None),
        ({"systolic": 89}, ("systolic", True)),
        ({"systolic": 181}, ("systolic", False)),
        ({"diastolic": 140}, None),
        ({"temperature": 34.9}, ("temperature", True)),
        ({"temperature": 39.0}, None),
        ({"temperature": 39.1}, ("temperature", False)),
    ],
)
def test_values_beyond_the_thresholds_raise_an_alert(
    ward: Ward, values: dict[str, float], raised: tuple[str, bool] | None
) -> None:
    """Those at the bound do not."""
    ward.report("anna", **values)

    assert [each[1:3] for each in ward.found()] == ([raised] if raised else [])


def test_a_disturbance_that_lasts_is_one_alert(ward: Ward) -> None:
    """With its worst value; it ends with the first report within the bounds, and a report that lacks the value says nothing."""
    for rate in (135, 170, 140):
        ward.report(heart_rate=rate)
    ward.report(spo2=97)
    assert ward.found() == [("anna", "heart-rate", False, 170, 3, True)]

    ward.report(heart_rate=72)
    ward.report(heart_rate=72)

    (alert,) = ward.alerts.find_all(ward.db, "anna", True, 100)
    assert (alert.raised, alert.latest, alert.ended) == (1000, 3000, 5000)


def test_sides_measures_and_patients_are_told_apart(ward: Ward) -> None:
    """Each has its own alert; a jump from one side to the other ends the first."""
    ward.report(heart_rate=150, spo2=80)
    ward.report(heart_rate=30)
    ward.report("berta", spo2=85)

    assert ward.found() == [
        ("berta", "spo2", True, 85, 1, True),
        ("anna", "heart-rate", True, 30, 1, True),
        ("anna", "spo2", True, 80, 1, True),
        ("anna", "heart-rate", False, 150, 1, False),
    ]


def test_nobody_is_told_again_before_having_seen_the_first(ward: Ward) -> None:
    """However often a value comes and goes: so a device cannot bury people under alerts."""
    for _ in range(20):
        ward.report(spo2=80)
        ward.report(spo2=97)
    assert ward.found() == [("anna", "spo2", True, 80, 20, False)]

    (number,) = (each.number for each in ward.alerts.find_all(ward.db, None, True, 100))
    ward.alerts.acknowledge(ward.db, number, "dr. may", 99_000, "operator")
    assert ward.found() == []
    ward.report(spo2=85)

    assert ward.found() == [("anna", "spo2", True, 85, 1, True)]
    assert len(ward.found(waiting=False)) == 2


def test_what_goes_on_after_it_was_seen_is_still_the_same(ward: Ward) -> None:
    """It stays in the list, with who has seen it, until it is over."""
    ward.report(spo2=80)
    (alert,) = ward.alerts.find_all(ward.db, None, True, 100)
    seen = ward.alerts.acknowledge(ward.db, alert.number, "dr. may", 2000, "operator")
    assert (seen.acknowledged, seen.acknowledged_by) == (2000, "dr. may")

    ward.report(spo2=79)
    assert ward.found() == [("anna", "spo2", True, 79, 2, True)]
    ward.report(spo2=97)
    assert ward.found() == []

    with pytest.raises(UserError, match=r"acknowledged already, by dr\. may"):
        ward.alerts.acknowledge(ward.db, alert.number, "dr. june", 3000, "operator")
    with pytest.raises(UserError, match="There is no alert 77"):
        ward.alerts.acknowledge(ward.db, 77, "dr. june", 3000, "operator")


def test_what_was_found_rests_sealed(ward: Ward) -> None:
    """A finding of another row does not open in this one."""
    ward.report(spo2=80)
    ward.report("berta", spo2=60)
    assert b"spo2" not in b"".join(row[0] for row in ward.db.execute("SELECT finding FROM alerts"))

    ward.db.execute("UPDATE alerts SET finding = (SELECT finding FROM alerts WHERE patient_id = 'berta')")
    with pytest.raises(StorageError, match=r"alerts\.finding"):
        ward.found()


def test_alerts_are_forgotten_with_their_reports(ward: Ward) -> None:
    """By order, all of that time; by age, those alone that are over and were seen."""
    for name in ("anna", "berta"):
        ward.report(name, spo2=80)
        ward.report(name, spo2=97)
    berta, _ = ward.alerts.find_all(ward.db, None, True, 100)
    ward.alerts.acknowledge(ward.db, berta.number, "dr. may", ward.now, "operator")

    alert_rows.forget(ward.db, "anna", 1000)
    alert_rows.forget_seen(ward.db, berta.latest)
    assert len(ward.found(waiting=False)) == 2

    alert_rows.forget_seen(ward.db, ward.now)
    assert [each[0] for each in ward.found(waiting=False)] == ["anna"]
    alert_rows.forget(ward.db, "anna", 1001)
    assert ward.found(waiting=False) == []


def test_damaged_thresholds_are_named(ward: Ward) -> None:
    """They are not taken for those that count for all."""
    ward.db.execute("INSERT INTO thresholds VALUES ('anna', '{}}', 0)")

    with pytest.raises(StorageError, match=r"thresholds\.bounds of row anna"):
        ward.report(spo2=97)


# With a doctor that runs


async def keep(doctor: Doctor, patient: str, number: int, body: bytes, received: int = 5_000) -> None:
    report = Report(number.to_bytes(16, "big"), ReportKind.VITALS, 1_000 * number, body)
    store = partial(doctor.house.reports.store, patient_id=patient, report=report, now=received)
    await doctor.writer.submit(store)


@on_a_loop
async def test_a_report_from_a_device_raises_an_alert_and_is_acknowledged_to_the_device(
    tmp_path: Path,
) -> None:
    """Who has seen it is in the audit log; what was measured is not."""
    async with running(tmp_path) as doctor:
        commands = doctor.gateway.commands
        anna = await doctor.device("anna")
        assert anna.stream is not None
        anna.stream.connection.report(Report(b"r" * 16, ReportKind.VITALS, 1, encode(Vitals(heart_rate=180))))
        anna.stream.flush()
        await anna.until(lambda it: ReportsReceipted((b"r" * 16,)) in it.events)

        (alert,) = commands.alerts()
        assert (alert.patient, alert.measure, alert.side, alert.limit) == ("anna", "heart-rate", "above", 130)
        assert (alert.worst, alert.unit, alert.reports, alert.ended) == (180, "/min", 1, None)
        origin = Origin("admin", "a key")
        seen = await commands.acknowledge(alert.id, AcknowledgeOrder(), origin)
        again = await commands.acknowledge(alert.id, AcknowledgeOrder(), origin)

        assert seen == again
        assert seen.acknowledged_by == "admin"
        assert commands.alerts("berta", every=True) == []
        entries = doctor.reader.execute(
            "SELECT action, actor, detail FROM audit WHERE action LIKE 'alert-%' ORDER BY sequence"
        ).fetchall()
        assert entries == [
            (Action.ALERT_RAISED.value, "gateway", ""),
            (Action.ALERT_ACKNOWLEDGED.value, "admin", f"alert {alert.id}, by admin"),
        ]


@on_a_loop
async def test_thresholds_are_set_for_one_patient_and_audited(tmp_path: Path) -> None:
    """What is not named stays; empty bounds watch nothing."""
    async with running(tmp_path) as doctor:
        commands = doctor.gateway.commands
        for name in ("anna", "berta"):
            await doctor.device(name)
        assert commands.thresholds("anna").bounds == Thresholds()

        order = ThresholdsOrder(heart_rate=Bounds(50, 100), spo2=Bounds())
        answer = await commands.set_thresholds("anna", order, ME)
        second = await commands.set_thresholds("anna", ThresholdsOrder(temperature=Bounds(None, 38)), ME)
        await commands.set_thresholds("anna", ThresholdsOrder(), ME)

        assert answer.bounds == msgspec.structs.replace(
            Thresholds(), heart_rate=Bounds(50, 100), spo2=Bounds()
        )
        assert commands.thresholds("anna") == second
        assert second.bounds.heart_rate == Bounds(50, 100)
        for name in ("anna", "berta"):
            await keep(doctor, name, 1, encode(Vitals(heart_rate=110, spo2=80)))
        found = [(each.patient, each.measure) for each in commands.alerts()]
        assert found == [("berta", "spo2"), ("anna", "heart-rate")]
        details = doctor.reader.execute("SELECT detail FROM audit WHERE action = 'thresholds-changed'")
        assert details.fetchall() == [("heart-rate 50:100, spo2 :",), ("temperature :38",)]
        with pytest.raises(UserError, match="no patient 'carla'"):
            await commands.set_thresholds("carla", order, ME)
        with pytest.raises(UserError, match="no patient 'carla'"):
            commands.thresholds("carla")


def test_bounds_that_every_value_would_break_are_none() -> None:
    """Whoever sends them is told so."""
    with pytest.raises(msgspec.ValidationError, match="low is not below high"):
        msgspec.json.decode(b'{"low":40,"high":40}', type=Bounds)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'{"low":-1}', type=Bounds)


@on_a_loop
async def test_the_last_vitals_and_their_course(tmp_path: Path) -> None:
    """The last is what came last, understood or not; the course has those alone that are understood, in order."""
    async with running(tmp_path) as doctor:
        commands = doctor.gateway.commands
        await doctor.device("anna")
        assert commands.last_vitals("anna") is None
        for number in (1, 2, 3):
            await keep(doctor, "anna", number, encode(Vitals(heart_rate=60 + number)), 5_000 + number)
        last = commands.last_vitals("anna")
        assert last is not None
        assert (last.time, last.received, last.vitals) == (3_000, 5_003, Vitals(heart_rate=63))
        await keep(doctor, "anna", 4, b"[]", 6_000)
        last = commands.last_vitals("anna")
        assert last is not None
        assert last.vitals is None

        def course(since: int, limit: int = 10) -> list[int]:
            return [each.time for each in commands.vitals_course("anna", since, limit)]

        assert course(0) == [1_000, 2_000, 3_000]
        assert course(2_000) == [2_000, 3_000]
        assert course(0, 2) == [3_000]
        plan = doctor.reader.execute(
            "EXPLAIN QUERY PLAN SELECT body FROM reports WHERE patient_id = ? AND kind = ? ORDER BY received DESC LIMIT 1",
            ("anna", 1),
        ).fetchall()
        assert "reports_by_kind" in plan[0][3]
        assert not any("TEMP B-TREE" in row[3] and "LAST" not in row[3] for row in plan)


@on_a_loop
async def test_an_age_that_is_set_takes_alerts_that_were_seen(tmp_path: Path) -> None:
    """With the reports; those that wait for somebody stay."""
    async with running(tmp_path) as doctor:
        commands = doctor.gateway.commands
        await doctor.device("anna")
        await keep(doctor, "anna", 1, encode(Vitals(spo2=80, heart_rate=180)))
        await keep(doctor, "anna", 2, encode(CALM))
        first, second = commands.alerts()
        await commands.acknowledge(first.id, AcknowledgeOrder("dr. may"), ME)
        retention = Retention(doctor.writer, tmp_path / "state" / "doctor.db", 10**15, keep_reports=1_000)

        await retention.apply(10_000)

        left: list[AlertAnswer] = commands.alerts(every=True)
        assert [each.id for each in left] == [second.id]


@on_a_loop
async def test_an_age_of_vitals_leaves_texts_alone(tmp_path: Path) -> None:
    """A sensor fills a quota within days; what a person wrote is not taken for that."""
    async with running(tmp_path) as doctor:
        await doctor.device("anna")
        await keep(doctor, "anna", 1, encode(CALM))
        await keep(doctor, "anna", 2, encode(CALM), received=9_500)
        reply = Report(b"r" * 16, ReportKind.REPLY, 1, b"better")
        store = partial(doctor.house.reports.store, patient_id="anna", report=reply, now=5_000)
        await doctor.writer.submit(store)
        retention = Retention(doctor.writer, tmp_path / "state" / "doctor.db", 10**15, keep_vitals=1_000)

        assert await retention.apply(10_000) == 1

        assert [each.kind for each in doctor.gateway.commands.reports("anna")] == ["vitals", "reply"]

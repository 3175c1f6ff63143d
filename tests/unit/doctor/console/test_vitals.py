"""Vitals on the console: the last in the list, their course drawn and as a table, alerts until somebody has seen them, thresholds."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from doctor.audit import Action
from doctor.console import charts
from doctor.console.charts import COLUMNS, draw, path_of, scale, thinned
from doctor.console.measures import brief
from doctor.console.pages import alerts, vitals
from doctor.orders import AcknowledgeOrder
from doctor.thresholds import Bounds, Thresholds, ThresholdsOrder
from doctor.watching import Reading
from shared.net.stream import clock
from shared.vitals import Vitals, encode
from shared.wire.messages import Report, ReportKind
from tests.console_bench import Desk, Fields, console, text_of
from tests.doctor_bench import ME, on_a_loop

HOUR = 3_600_000
_numbers = itertools.count(1)


async def report(
    desk: Desk, patient: str, body: bytes | Vitals, ago: int = 0, kind: ReportKind = ReportKind.VITALS
) -> None:
    """A patient has reported something, so many milliseconds ago."""
    now, number = clock().wall, next(_numbers)
    content = encode(body) if isinstance(body, Vitals) else body
    made = Report(number.to_bytes(16, "big"), kind, now - ago, content)
    await desk.doctor.writer.submit(lambda db: desk.doctor.house.reports.store(db, patient, made, now - ago))


def readings(*values: tuple[int, float]) -> list[Reading]:
    """Heart rates at times."""
    return [Reading(time, time, Vitals(heart_rate=int(value))) for time, value in values]


def test_lines_go_where_the_values_are() -> None:
    """From the left to the right, the highest above; thresholds and what is beyond them at their heights."""
    (chart,) = draw(readings((0, 40), (500, 140), (1000, 90)), Thresholds(), 0, 10_000)

    assert (chart.title, chart.unit, chart.ticks) == (
        "Heart rate",
        "/min",
        ("140", "120", "100", "80", "60", "40"),
    )
    assert chart.lines[0].path == "M0 100L50 0L100 50"
    assert (chart.lines[0].lowest, chart.lines[0].highest, chart.lines[0].last) == (40, 140, 90)
    assert [(limit.y, limit.top, limit.height) for limit in chart.limits] == [(10, 0, 10), (100, 100, 0)]
    assert draw([], Thresholds(), 0, 1) == []


def test_nothing_is_drawn_across_a_pause_and_a_lonely_value_is_a_dot() -> None:
    """A line there would say that something was measured."""
    assert path_of([]) == ""
    assert path_of([(0, 1)]) == "M0 1h0"
    assert path_of([(0, 1), (10, 2), (900, 3), (1000, 4)]) == "M0 1L10 2M900 3h0M1000 4h0"
    assert path_of([(0, 1), (50, 2)]) == "M0 1L50 2"


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [
        (40, 140, (40, 140, 20)),
        (39, 141, (0, 150, 50)),
        (88, 100, (85, 100, 5)),
        (35, 39, (35, 39, 1)),
        (34.9, 42.1, (34, 44, 2)),
        (20, 350, (0, 400, 100)),
        (5, 5, (5, 5.5, 0.5)),
    ],
)
def test_the_scale_has_round_numbers(low: float, high: float, found: tuple[float, float, float]) -> None:
    """Around everything, and few lines."""
    assert scale(low, high) == found


def test_a_drawing_has_a_bound_and_loses_no_peak() -> None:
    """However many readings there are."""
    many = [(time, 70.0) for time in range(20_000)]
    many[7_777] = (7_777, 180.0)
    many[15_000] = (15_000, 31.0)
    kept = thinned(many, 0, 20_000)

    assert len(kept) <= 2 * COLUMNS
    assert {(7_777, 180.0), (15_000, 31.0)} <= set(kept)
    assert kept == sorted(kept)


def test_each_measure_is_drawn_as_far_as_there_is_anything() -> None:
    """Both pressures in one drawing; bounds outside of it are not drawn."""
    some = [
        Reading(5, 5, Vitals(systolic=120, spo2=97.5)),
        Reading(6, 6, Vitals(diastolic=80)),
        Reading(7, 7, None),
    ]
    drawn = draw(some, Thresholds(spo2=Bounds(10, None)), 0, 10)

    assert [(chart.title, [line.measure for line in chart.lines]) for chart in drawn] == [
        ("Blood pressure", ["systolic", "diastolic"]),
        ("Oxygen saturation", ["spo2"]),
    ]
    assert drawn[1].limits == ()
    assert [limit.height for limit in drawn[0].limits] == [13.33, 0], (
        "a systolic bound shades nothing where diastolic values lie"
    )
    assert brief(Vitals(systolic=120)) == ["BP 120/?"]
    assert charts.WIDTH == 1000, "as the template has it"


@on_a_loop
async def test_a_patients_page_draws_its_vitals_and_has_them_as_a_table(tmp_path: Path) -> None:
    """For as long as is asked; the page asks again only where something is new."""
    async with console(tmp_path) as desk:
        browser = await desk.admin()
        await desk.doctor.device("anna")
        assert "Nothing was measured in this time" in text_of(await browser.get("/patients/anna"))
        assert "–" in text_of(await browser.get("/"))
        await report(
            desk,
            "anna",
            Vitals(heart_rate=71, systolic=120, diastolic=79, spo2=97.5, temperature=36.6),
            30 * HOUR,
        )
        await report(desk, "anna", Vitals(heart_rate=88, systolic=131, diastolic=84), HOUR)

        page = await browser.get("/patients/anna")
        text = text_of(page)
        assert page.text.count("<svg") == 2, "of the last day there are heart rate and blood pressure"
        assert "88 /min at last; 88 to 88 in this time" in text
        assert "131/84" in text
        assert "120/79" not in text
        week = await browser.get("/patients/anna?hours=168")
        assert week.text.count("<svg") == 4
        assert "120/7997.536.6" in text_of(week)
        assert "HR 88 BP 131/84" in text_of(await browser.get("/"))
        for part in ("vitals", "readings"):
            page = await browser.get("/patients/anna")
            place = re.search(rf'hx-get="(/patients/anna/{part}\?[^"]*)"', page.text)
            assert place is not None
            path = place[1].replace("&amp;", "&")
            assert (await browser.get(path)).status_code == 204
            assert (await browser.get(path.replace("hours=24", "hours=6"))).status_code == 200
            for query in ("hours=5", "hours=-1", "hours=x", "hours=" + "9" * 99, "seen=%00"):
                assert (await browser.get(f"/patients/anna/{part}?{query}")).status_code == 200, query
            await report(desk, "anna", Vitals(heart_rate=89))
            assert "89" in text_of(await browser.get(path))
        order = ThresholdsOrder(heart_rate=Bounds(50, 80))
        seen = (await browser.get("/patients/anna/vitals")).text.partition("seen=")[2].partition('"')[0]
        assert (await browser.get(f"/patients/anna/vitals?seen={seen}")).status_code == 204
        await desk.doctor.gateway.commands.set_thresholds("anna", order, ME)
        assert (await browser.get(f"/patients/anna/vitals?seen={seen}")).status_code == 200


@on_a_loop
async def test_so_many_readings_are_drawn_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest, over the whole width; of these so many are in the table."""
    monkeypatch.setattr(vitals, "COURSE", 3)
    monkeypatch.setattr(vitals, "ROWS", 2)
    async with console(tmp_path) as desk:
        browser = await desk.admin()
        await desk.doctor.device("anna")
        for number in range(5):
            await report(desk, "anna", Vitals(heart_rate=60 + number), (5 - number) * HOUR)
        text = text_of(await browser.get("/patients/anna"))

        assert "only the newest 3 readings are drawn" in text
        assert "62 to 64 in this time" in text
        assert "The newest 2 of 3" in text


@on_a_loop
async def test_replies_are_not_drowned_by_vitals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sensor reports a thousand times while a patient writes once."""
    monkeypatch.setattr("doctor.questions.REPORTS_SHOWN", 2)
    async with console(tmp_path) as desk:
        browser = await desk.admin()
        await desk.doctor.device("anna")
        await report(desk, "anna", b"I feel better", 10, ReportKind.REPLY)
        for _ in range(3):
            await report(desk, "anna", Vitals(heart_rate=70))

        assert "I feel better" in text_of(await browser.get("/patients/anna"))
        assert "I feel better" in text_of(await browser.get("/patients/anna/messages"))


@on_a_loop
async def test_an_alert_stands_on_both_pages_until_somebody_has_seen_it(tmp_path: Path) -> None:
    """Who has is in the audit log; a second click, or somebody else's, is told."""
    async with console(tmp_path) as desk:
        browser = await desk.admin()
        for name in ("anna", "berta"):
            await desk.doctor.device(name)
        assert "No alert waits" in text_of(await browser.get("/alerts"))
        await report(desk, "anna", Vitals(heart_rate=150))
        await report(desk, "anna", Vitals(heart_rate=171))
        await report(desk, "berta", Vitals(spo2=84.5))
        said = "Heart rate above 130 /min: 171 /min at the highest, in 2 reports"
        pages = (
            "/",
            "/alerts",
            "/alerts/list",
            "/alerts/list?brief",
            "/patients/anna",
            "/patients/anna/alerts",
        )
        for page in pages:
            text = text_of(await browser.get(page))
            assert said in text, page
            assert ("Oxygen saturation below 90 %: 84.5 % at the lowest, in one report" in text) == (
                "anna" not in page
            )
        assert "▲ 1 alert" in text_of(await browser.get("/patients/list"))
        forms = Fields((await browser.get("/")).text).forms
        (first, second) = sorted(
            (path for path in forms if path.startswith("/alerts/")), key=lambda it: int(it.split("/")[2])
        )
        answer = await browser.post(first, forms[first])
        assert (answer.status_code, answer.headers["location"]) == (303, "/?done=seen")
        assert "Noted that you have seen it" in text_of(await browser.get(answer.headers["location"]))
        assert (await browser.post(first, forms[first])).status_code == 303, "the same click again"
        assert said not in text_of(await browser.get("/"))
        text = text_of(await browser.get("/patients/anna"))
        assert f"{said} since" in text
        assert "seen by admin" in text
        assert "goes on" in text

        number = int(second.split("/")[2])
        await desk.doctor.gateway.commands.acknowledge(number, AcknowledgeOrder("bea"), ME)
        answer = await browser.post(second, {**forms[second], "back": "patient"})
        assert (
            answer.status_code,
            f"Alert {number} was acknowledged already, by bea" in text_of(answer),
        ) == (422, True)
        for wrong in ("0", "x", "-1", "9" * 30, "²"):
            answer = await browser.post(f"/alerts/{wrong}/acknowledge", forms[second])
            assert (answer.status_code, "There is no alert" in text_of(answer)) == (422, True), wrong
        await report(desk, "anna", Vitals(heart_rate=70))
        assert said not in text_of(await browser.get("/patients/anna"))
        assert [
            detail.rpartition(" ")[2] for _, detail in desk.doctor.audited(Action.ALERT_ACKNOWLEDGED)
        ] == ["admin", "bea"]


@on_a_loop
async def test_of_many_alerts_the_first_page_shows_a_few(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And how many there are; the page of alerts has a bound too."""
    monkeypatch.setattr(alerts, "FIRST", 1)
    monkeypatch.setattr("doctor.console.pages.patients.FIRST", 1)
    monkeypatch.setattr(alerts, "PAGE", 2)
    async with console(tmp_path) as desk:
        browser = await desk.admin()
        await desk.doctor.device("anna")
        await report(desk, "anna", Vitals(heart_rate=150, spo2=80, temperature=41))

        text = text_of(await browser.get("/"))
        assert "3 alerts nobody has seen yet" in text
        assert "Show all 3" in text
        assert "and 1 older ones" in text_of(await browser.get("/alerts"))


@on_a_loop
async def test_a_reading_that_is_damaged_or_none_takes_no_page_down(tmp_path: Path) -> None:
    """The list says so in its row, and shows the others."""
    async with console(tmp_path) as desk:
        browser = await desk.admin()
        for name in ("anna", "berta"):
            await desk.doctor.device(name)
        await report(desk, "anna", b"{}")
        await report(desk, "berta", Vitals(heart_rate=70))
        assert "not understood" in text_of(await browser.get("/"))
        assert "Nothing was measured" in text_of(await browser.get("/patients/anna"))
        await desk.doctor.writer.submit(
            lambda db: db.execute("UPDATE reports SET body = x'00' WHERE patient_id = 'berta'")
        )
        text = text_of(await browser.get("/"))
        assert "cannot be read" in text
        assert (await browser.get("/patients/berta")).status_code == 503


BAD_THRESHOLDS = [
    ({"heart-rate-low": "soon"}, "a number from 0 to 400"),
    ({"heart-rate-low": "-1"}, "a number from 0 to 400"),
    ({"spo2-high": "401"}, "a number from 0 to 400"),
    ({"temperature-low": "nan"}, "a number from 0 to 400"),
    ({"temperature-low": "inf"}, "a number from 0 to 400"),
    ({"systolic-low": "<img src=x>"}, "a number from 0 to 400"),
    ({"systolic-low": "180", "systolic-high": "90"}, "has to be above the other one"),
    ({"diastolic-low": "80", "diastolic-high": "80"}, "has to be above the other one"),
]


@on_a_loop
async def test_thresholds_are_set_by_a_form(tmp_path: Path) -> None:
    """As they are they stand in it; what is wrong is said beside its field, and nothing is changed."""
    async with console(tmp_path) as desk:
        browser = await desk.admin()
        await desk.doctor.device("anna")
        page = "/patients/anna/thresholds"
        form = (await browser.get(page)).text
        assert re.search(r'name="heart-rate-high"[^>]*value="130"', form)
        assert re.search(r'name="spo2-high"[^>]*value=""', form)
        for fields, text in BAD_THRESHOLDS:
            answer = await browser.fill(page, page, **fields)
            assert (answer.status_code, text in text_of(answer)) == (422, True), fields
            assert "<img src=x" not in answer.text
            assert 'aria-invalid="true"' in answer.text
        assert desk.doctor.gateway.commands.thresholds("anna").bounds == Thresholds()

        answer = await browser.fill(
            page, page, **{"heart-rate-low": " 50,5 ", "heart-rate-high": "", "spo2-low": "0"}
        )

        assert "They count from the next reading on" in text_of(await browser.get(answer.headers["location"]))
        bounds = desk.doctor.gateway.commands.thresholds("anna").bounds
        assert (bounds.heart_rate, bounds.spo2, bounds.systolic) == (
            Bounds(50.5, None),
            Bounds(0, None),
            Bounds(),
        )
        text = text_of(await browser.get("/patients/anna"))
        assert "heart rate below 50.5 /min" in text
        assert "systolic pressure never" in text
        assert [subject for subject, _ in desk.doctor.audited(Action.THRESHOLDS_CHANGED)] == ["anna"]
        for path in (
            page,
            "/patients/nobody/thresholds",
            "/patients/nobody/vitals",
            "/patients/nobody/alerts",
        ):
            assert (await browser.get(path)).status_code == (200 if path == page else 404)

"""The dashboard, the alerts and Prometheus' job: they ask for nothing that the doctor does not export, and where it exports it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from doctor.door import TurnedAway
from doctor.metrics import Metrics
from shared.wire.checks import Check
from shared.wire.opcodes import AlertCode
from tests.doctor_bench import Doctor, on_a_loop, running

MONITORING = Path(__file__).parents[3] / "containers" / "monitoring"


def read(name: str) -> Any:
    """One file of the profile."""
    text = (MONITORING / name).read_text()
    return json.loads(text) if name.endswith(".json") else yaml.safe_load(text)


def queries(of: Any) -> Iterator[str]:
    """Every query below."""
    if isinstance(of, dict):
        if "expr" in of:
            yield of["expr"]
        for each in of.values():
            yield from queries(each)
    elif isinstance(of, list):
        for each in of:
            yield from queries(each)


def exported(doctor: Doctor) -> dict[str, set[str]]:
    """Each name of a time series with its labels, as a doctor to which everything has happened exports it."""
    tally = doctor.house.tally
    tally.refused[Check.NOT_REVOKED] = tally.broken[Check.RECORD_OPENS] = 1
    tally.turned_away[TurnedAway.FAILED] = tally.given_up[AlertCode.REFUSED] = 1
    doctor.house.ledger.refused["V-001"] += 1
    found: dict[str, set[str]] = {}
    for family in Metrics(doctor.gateway)._registry.collect():
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@on_a_loop
async def test_every_query_asks_for_what_is_exported(tmp_path: Path) -> None:
    """Names and labels, of the dashboard and of the alerts."""
    async with running(tmp_path) as doctor:
        metrics = Metrics(doctor.gateway)
        await metrics.exposition()  # what the database tells is there from now on
        known = exported(doctor) | {
            sample.name: set(sample.labels) for family in metrics.collect() for sample in family.samples
        }
    labels = set().union(*known.values())
    asked = [*queries(read("dashboard.json")), *queries(read("alerts.yml"))]

    assert len(asked) > 20
    for query in asked:
        names = re.findall(r"\b(?:telemed|process)_[a-z_]+", query)
        assert set(names) <= known.keys(), query
        used = {name for part in re.findall(r"by \(([^)]*)\)", query) for name in part.split(", ")}
        assert used <= labels, query
        assert all(name == "job" or name in labels for name in re.findall(r"(\w+)=~?\"", query)), query
        assert names or query.startswith("up{"), query


@on_a_loop
async def test_whatever_is_exported_is_on_the_dashboard(tmp_path: Path) -> None:
    """A figure that nobody sees is not worth a scrape; the process's own tell more than anybody asks."""
    async with running(tmp_path) as doctor:
        metrics = Metrics(doctor.gateway)
        text = (await metrics.exposition()).decode()
    shown = " ".join(queries(read("dashboard.json")))

    for name, kind in re.findall(r"^# TYPE (telemed_\w+) (\w+)", text, re.MULTILINE):
        assert (f"{name}_bucket" if kind == "histogram" else name) in shown


def test_prometheus_asks_where_the_doctor_listens() -> None:
    """The alias and the port of the doctor in the same profile."""
    doctor = read("compose.yaml")["services"]["doctor"]
    host, port = (doctor["environment"][f"TELEMED_DOCTOR_METRICS_{key}"] for key in ("HOST", "PORT"))
    (job,) = read("prometheus.yml")["scrape_configs"]

    assert job["static_configs"] == [{"targets": [f"{host}:{port}"]}]
    assert doctor["networks"]["metrics"]["aliases"] == [host]


@pytest.mark.parametrize("name", ["prometheus", "grafana"])
def test_the_profile_is_optional_and_pinned(name: str) -> None:
    """Nothing of it runs unasked; its images have a version; what is published is for this machine alone."""
    service = read("compose.yaml")["services"][name]

    assert service["profiles"] == ["monitoring"]
    assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert "devices" not in service["networks"]


def test_every_file_that_is_mounted_is_there() -> None:
    """A missing one would be made as a directory."""
    for service in read("compose.yaml")["services"].values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert not source.startswith(".") or (MONITORING.parents[1] / source).is_file(), source


@on_a_loop
async def test_the_operations_page_explains_each_figure_and_each_alert(tmp_path: Path) -> None:
    """Whoever is woken by one finds it there."""
    page = (MONITORING.parents[1] / "docs" / "operations.md").read_text()
    async with running(tmp_path) as doctor:
        text = (await Metrics(doctor.gateway).exposition()).decode()
    alerts = [rule["alert"] for group in read("alerts.yml")["groups"] for rule in group["rules"]]

    assert [
        name for name in re.findall(r"^# TYPE (telemed_\w+)", text, re.MULTILINE) if name not in page
    ] == []
    assert [name for name in alerts if name not in page] == []

"""What Prometheus reads: every figure beside what happened, no patient's name, and a port of its own that is never the devices'."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from doctor import metrics
from doctor.answering import PortConnection
from doctor.api.app import create_app
from doctor.door import TurnedAway
from doctor.metrics import Metrics, queue_lag
from doctor.metrics_server import MetricsConnection, create_metrics
from doctor.settings import DoctorSettings
from shared.errors import UserError
from shared.wire.checks import Check
from tests.doctor_bench import LOG, ME, Doctor, on_a_loop, running


class Scrape:
    """One scrape, read as Prometheus reads it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                self.samples[(sample.name, frozenset(sample.labels.items()))] = sample.value

    def value(self, name: str, **labels: str) -> float:
        """One figure; KeyError: it is not there."""
        return self.samples[(name, frozenset(labels.items()))]

    def label_values(self) -> set[str]:
        """Everything that stands in any label."""
        return {value for _, labels in self.samples for _, value in labels}


async def scrape(doctor: Doctor) -> Scrape:
    """Ask now."""
    return Scrape((await Metrics(doctor.gateway).exposition()).decode())


@on_a_loop
async def test_the_figures_follow_what_happens(tmp_path: Path) -> None:
    """A patient comes, gets a message and acknowledges it."""
    async with running(tmp_path) as doctor:
        await doctor.gateway.commands.create_group("ward-a", ME)
        device = await doctor.device("alice", "ward-a")
        answer = await doctor.broadcast("noon", "ward-a")
        await doctor.delivered(device, answer.number)
        seen = await scrape(doctor)

    assert seen.value("telemed_handshakes_total", outcome="established", reason="", alert="") == 1
    assert seen.value("telemed_sessions", state="established") == 1
    assert seen.value("telemed_patients", standing="active") == 1
    assert seen.value("telemed_patients", standing="revoked") == 0
    assert seen.value("telemed_group_epoch", group="ward-a") == device.epoch("ward-a")
    assert seen.value("telemed_group_readers", group="ward-a", state="abreast") == 1
    assert seen.value("telemed_messages_accepted_total") == 1
    assert seen.value("telemed_fanout_seconds_count") >= 1
    assert seen.value("telemed_receipts_total") >= 1
    assert seen.value("telemed_store_commit_seconds_count") > 3
    assert seen.value("telemed_queue_lag_messages") == 0
    assert seen.value("telemed_writer_queue") == 0
    assert seen.value("telemed_ready") == 1
    assert seen.value("process_open_fds") > 0


@on_a_loop
async def test_handshakes_that_fail_are_counted_by_check_and_alert(tmp_path: Path) -> None:
    """A revoked patient, a stranger whose frame is none, and one that the door turns away."""
    async with running(tmp_path, half_open_limit=1, half_open_per_address=1) as doctor:
        device = await doctor.device("alice")
        device.cut()
        await device.gone()
        await doctor.gateway.commands.revoke("alice", ME)
        await doctor.connect(device)
        await LOG.until("refused", check=Check.NOT_REVOKED.number)
        await device.gone()
        first = socket.create_connection(("127.0.0.1", doctor.gateway.port))
        await LOG.until("connection opened", count=3)
        second = socket.create_connection(("127.0.0.1", doctor.gateway.port))
        await LOG.until(TurnedAway.UNFINISHED.value)
        first.sendall(b"\xff" * 16)
        await LOG.until("refused", check=Check.FRAME_VERSION.number)
        first.close()
        second.close()
        seen = await scrape(doctor)

    assert seen.value("telemed_handshakes_total", outcome="refused", reason="V-037", alert="REVOKED") == 1
    assert seen.value("telemed_handshakes_total", outcome="refused", reason="V-001", alert="UNSUPPORTED") == 1
    assert seen.value("telemed_handshakes_total", outcome="turned_away", reason="unfinished", alert="") == 1
    assert seen.value("telemed_strangers_refused_total", reason="V-001") == 1
    assert seen.value("telemed_strangers_refused_total", reason="unfinished") == 1
    assert seen.value("telemed_patients", standing="revoked") == 1
    assert "alice" not in seen.text, "a patient's name is nobody's business there"


@on_a_loop
async def test_queue_lag_is_what_was_accepted_and_is_not_acknowledged(tmp_path: Path) -> None:
    """Once for each patient that lacks it, in its groups and in its own stream; what has expired counts no more."""
    async with running(tmp_path) as doctor:
        devices = [await doctor.device(name) for name in ("alice", "bob")]
        for device in devices:
            device.cut()
            await device.gone()
        for text in ("one", "two"):
            await doctor.broadcast(text)
        await doctor.send("bob", "yours")
        gone = await doctor.broadcast("gone", hours=1 / 3_600_000)
        await doctor.a_millisecond_over()
        seen = await scrape(doctor)
        later = queue_lag(doctor.gateway.database, gone.number // 1000 + 400 * 24 * 3_600_000)

    assert seen.value("telemed_queue_lag_messages") == 5
    assert seen.value("telemed_queue_lag_streams") == 3
    assert later == metrics.Lag(0, 0)


@on_a_loop
async def test_what_the_disk_does_not_tell_is_missing_and_the_rest_is_there(tmp_path: Path) -> None:
    """When the database cannot be read, the other figures are wanted most."""
    async with running(tmp_path) as doctor:
        doctor.gateway.database.chmod(0o644)
        seen = await scrape(doctor)
        doctor.gateway.database.chmod(0o600)

    assert "telemed_queue_lag" not in seen.text
    assert seen.value("telemed_ready") == 1


@on_a_loop
async def test_the_figures_are_on_the_api_for_who_has_the_token(tmp_path: Path) -> None:
    """And for nobody else."""
    async with running(tmp_path) as doctor:
        app: Any = create_app(doctor.gateway, "secret")  # Litestar's types are narrower than httpx's
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://doctor") as client:
            refused = await client.get("/metrics")
            answer = await client.get("/metrics", headers={"Authorization": "Bearer secret"})

    assert refused.status_code == 401
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert "telemed_ready 1.0" in answer.text


@asynccontextmanager
async def port_of_its_own(directory: Path) -> AsyncIterator[int]:
    """A doctor whose metrics are served there."""
    async with running(directory) as doctor:
        server = create_metrics(doctor.gateway, DoctorSettings(metrics_port=0))
        assert server is not None
        serving = asyncio.create_task(server.serve())
        await LOG.until("metrics ready")
        try:
            yield server.port
        finally:
            server.should_exit = True
            await serving


@on_a_loop
async def test_prometheus_reads_them_on_a_port_of_their_own(tmp_path: Path) -> None:
    """Without a token, and nothing else is there; under a name that is not ours nothing is told, as a page in a browser would try."""
    async with (
        port_of_its_own(tmp_path) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        answer, other = await client.get("/metrics"), await client.get("/v1/patients")
        long = await client.get("/" + "a" * 2000)
        asked = {
            host: (await client.get("/metrics", headers={"Host": host})).status_code
            for host in (
                "localhost:9464",
                "10.1.2.3:9464",
                "[fd00::1]:9464",
                socket.gethostname(),
                "evil.example:9464",
                "localhost.evil.example",
                "127.0.0.1.evil.example",
                "",
            )
        }

    assert "telemed_ready 1.0" in answer.text
    assert (other.status_code, long.status_code) == (404, 414)
    assert list(asked.values()) == [200] * 4 + [421] * 4, asked


@on_a_loop
async def test_connections_to_the_metrics_are_few_and_none_waits_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One too many is cut; one that says nothing or reads nothing is ended: each takes a descriptor that devices need."""
    monkeypatch.setattr(MetricsConnection, "most", 3)
    monkeypatch.setattr("doctor.http.REQUEST_DEADLINE", 0.2)
    async with port_of_its_own(tmp_path) as port:
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
        with pytest.raises(ConnectionResetError):
            await opened[-1][0].readexactly(1)
        assert [await reader.read() for reader, _ in opened[:3]] == [b""] * 3
        for _, writer in opened:
            writer.close()
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"http://127.0.0.1:{port}/metrics")).status_code == 200
    assert issubclass(MetricsConnection, PortConnection), "which test_server shows to cut who reads nothing"


@on_a_loop
async def test_the_port_is_refused_where_devices_are_served_or_another_listens(tmp_path: Path) -> None:
    """And where none is set, none is opened."""
    async with running(tmp_path) as doctor:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            with pytest.raises(UserError, match="Set metrics_port to a free one"):
                create_metrics(doctor.gateway, DoctorSettings(metrics_port=port))
        for settings in (
            DoctorSettings(metrics_port=0, metrics_host="0.0.0.0"),
            DoctorSettings(metrics_port=0, metrics_host="0"),
            DoctorSettings(metrics_port=0, metrics_host="10.1.2.3", listen_host="10.1.2.3"),
        ):
            with pytest.raises(UserError, match="never are"):
                create_metrics(doctor.gateway, settings)
        assert create_metrics(doctor.gateway, DoctorSettings()) is None

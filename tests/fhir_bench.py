"""A FHIR client of a running doctor, which holds every answer against the reference model."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.operationoutcome import OperationOutcome

from doctor.api.app import create_app
from shared.wire.messages import Report, ReportKind
from tests.doctor_bench import Doctor, running

NOON = 1_795_435_200_000  # 2026-11-23T12:00:00Z


def report(number: int, body: bytes, created: int, kind: ReportKind = ReportKind.VITALS) -> Report:
    return Report(number.to_bytes(16, "big"), kind, created, body)


async def keep(doctor: Doctor, patient: str, *reports: Report, received: int = NOON + 3_600_000) -> None:
    """Store reports as the gateway does."""
    for each in reports:
        store = partial(doctor.house.reports.store, patient_id=patient, report=each, now=received)
        await doctor.writer.submit(store)


class Fhir:
    """A FHIR client of a running doctor."""

    def __init__(self, doctor: Doctor, http: httpx.AsyncClient) -> None:
        self.doctor = doctor
        self.http = http

    async def search(self, query: str) -> list[dict[str, Any]]:
        """The resources of a valid bundle."""
        answer = await self.http.get(f"/fhir/{query}")
        assert answer.status_code == 200, answer.text
        assert answer.headers["Content-Type"].startswith("application/fhir+json")
        Bundle.model_validate_json(answer.content)
        bundle = answer.json()
        assert (bundle["type"], bundle["link"][0]["relation"]) == ("searchset", "self")
        assert all(entry["search"] == {"mode": "match"} for entry in bundle.get("entry", []))
        return [entry["resource"] for entry in bundle.get("entry", [])]

    async def refused(self, query: str, status: int = 400) -> str:
        """Why a search is refused."""
        answer = await self.http.get(f"/fhir/{query}")
        assert answer.status_code == status, answer.text
        assert answer.headers["Content-Type"].startswith("application/fhir+json")
        OperationOutcome.model_validate_json(answer.content)
        text: str = answer.json()["issue"][0]["diagnostics"]
        return text


@asynccontextmanager
async def serving(directory: Path) -> AsyncIterator[Fhir]:
    """A doctor with the patient anna, and a client that has the token."""
    async with running(directory) as doctor:
        await doctor.device("anna")
        app: Any = create_app(doctor.gateway, "token")  # Litestar's types are narrower than httpx's
        transport = httpx.ASGITransport(app)
        headers = {"Authorization": "Bearer token"}
        async with httpx.AsyncClient(transport=transport, base_url="http://doctor", headers=headers) as http:
            yield Fhir(doctor, http)

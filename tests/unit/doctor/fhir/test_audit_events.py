"""The audit log as FHIR AuditEvents."""

from __future__ import annotations

from pathlib import Path

from doctor.audit import Action, append
from doctor.fhir import audit_events
from doctor.fhir.searches import parse
from doctor.idempotency import Origin
from tests.doctor_bench import ME, on_a_loop
from tests.fhir_bench import serving


@on_a_loop
async def test_entries_are_audit_events(tmp_path: Path) -> None:
    """Who, what, to whom and when; about one patient, those alone that name it as a patient."""
    async with serving(tmp_path) as it:
        commands = it.doctor.gateway.commands
        await commands.create_group("anna", ME)
        await commands.revoke("anna", Origin("dr. may"))

        every = await it.search("AuditEvent")
        numbers = [int(each["id"]) for each in every]
        assert numbers == sorted(numbers, reverse=True)
        found = {each["subtype"][0]["code"]: each for each in await it.search("AuditEvent?patient=anna")}
        assert {"invited", "enrolled", "revoked"} <= set(found)
        assert "group-created" not in found
        revoked = found["revoked"]
        assert revoked["agent"] == [
            {"who": {"identifier": {"value": "dr. may"}, "display": "dr. may"}, "requestor": True}
        ]
        assert (revoked["action"], revoked["outcome"]) == ("U", "0")
        assert revoked["entity"][0]["what"]["reference"] == "Patient/anna"
        assert found["enrolled"]["action"] == "C"
        assert len(await it.search("AuditEvent?_count=2")) == 2
        assert await it.search("AuditEvent?date=2001") == []
        assert "names no patient" in await it.refused("AuditEvent?patient=")


@on_a_loop
async def test_every_action_is_a_valid_event_whatever_its_texts_are(tmp_path: Path) -> None:
    """A stranger may have chosen some of them."""
    async with serving(tmp_path) as it:
        for action in Action:
            for text in ("", "\x00\x1b[2J", "reports", "a fleet", "berta"):
                await it.doctor.writer.submit(
                    lambda db, action=action, text=text: append(db, 1_000, text, action, text, text)  # type: ignore[misc]  # bound here
                )

        found = await it.search("AuditEvent?date=1970&_count=1000")

        assert {each["subtype"][0]["code"] for each in found} == {action.value for action in Action}
        for each in found:
            if each["entity"][0]["what"].get("reference") is not None:
                assert each["entity"][0]["what"]["reference"] == "Patient/berta"
        assert list(audit_events.read(it.doctor.reader, parse([("patient", "reports")]), "doctor")) != []

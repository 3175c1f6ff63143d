"""Questions: what is shown is what is on the disk and what runs, at this moment."""

from __future__ import annotations

from pathlib import Path

from doctor.fhir.searches import parse
from tests.doctor_bench import EVERYONE, LOG, ME, on_a_loop, running


@on_a_loop
async def test_patients_are_shown_as_they_are_now(tmp_path: Path) -> None:
    """Established, connecting, away, retired, revoked."""
    async with running(tmp_path) as doctor:
        devices = {name: await doctor.device(name) for name in ("a", "b", "c", "d", "e")}
        await doctor.gateway.commands.retire("d", ME)
        await doctor.gateway.commands.revoke("e", ME)
        devices["c"].cut()
        await LOG.until("session ended", patient="c")
        doctor.session(devices["b"]).attachments[EVERYONE].held_epoch = 0  # as before its first key

        states = {row.patient: row.state for row in doctor.gateway.commands.patients()}

        expected = {"a": "established", "b": "connecting", "c": "away", "d": "retired", "e": "revoked"}
        assert states == expected


@on_a_loop
async def test_groups_are_shown_in_the_epoch_that_they_are_in(tmp_path: Path) -> None:
    """Not in the one that the disk has heard of: who revokes and looks must see the new one."""
    async with running(tmp_path) as doctor:
        await doctor.device("anna")
        commands = doctor.gateway.commands
        (before,) = commands.list_groups()
        async with doctor.held_writer():
            doctor.fanout.next_epoch(doctor.fanout.groups["everyone"])

            (now,) = commands.list_groups()

        assert now.epoch == before.epoch + 1


@on_a_loop
async def test_a_patient_was_meant_for_no_message_that_came_after_it_had_left(tmp_path: Path) -> None:
    """Also where its membership was over before the first message of all: it ends at number 0, and that is an end."""
    async with running(tmp_path) as doctor:
        await doctor.device("anna")
        await doctor.device("mallory")
        commands = doctor.gateway.commands
        await commands.create_group("ward", ME)
        await commands.add_member("ward", "anna", ME)
        await commands.remove_member("ward", "anna", ME)
        await commands.revoke("mallory", ME)
        await doctor.broadcast("for a ward without anna", "ward")
        await doctor.broadcast("for everyone but mallory")

        assert [row.body for row in commands.messages_of("anna")] == ["for everyone but mallory"]
        assert commands.messages_of("mallory") == []
        assert commands.fhir_communications(parse([("patient", "mallory")])) == []

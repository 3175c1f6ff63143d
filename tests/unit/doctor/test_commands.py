"""What can be ordered, beyond what the tests of the API and the gateway show."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from doctor import departures, inviting
from doctor.audit import Action
from doctor.idempotency import Origin
from doctor.journal import JOURNAL_FILE
from doctor.orders import InviteOrder
from doctor.sessions import Group
from shared.errors import UserError
from shared.net.stream import clock
from shared.protocol import invitations
from shared.protocol.clock import Instant
from shared.protocol.doctor_handshake import Standing
from shared.storage.keyfile import write_private
from tests.doctor_bench import LIMIT_S, LOG, ME, Device, on_a_loop, running


@on_a_loop
async def test_revoke_returns_when_everything_has_happened(tmp_path: Path) -> None:
    """Tombstone, audit, journal, socket, epochs, undelivered messages: all of it, at the very moment of the return."""
    async with running(tmp_path) as doctor:
        commands = doctor.gateway.commands
        await commands.create_group("ward", ME)
        await commands.create_group("attic", ME)
        anna, eve = await doctor.device("anna", "ward"), await doctor.device("eve", "ward")
        session = doctor.session(eve)
        session.stream.pause_writing()
        undelivered = await doctor.broadcast("undelivered", "ward")
        epochs = {name: group.epoch_number for name, group in doctor.fanout.groups.items()}

        departure = await commands.revoke("eve", ME)

        assert departure.groups == ["everyone", "ward"]
        rows = doctor.reader.execute("SELECT standing FROM patients WHERE patient_id = 'eve'").fetchall()
        assert rows == [("revoked",)]
        assert doctor.audited(Action.REVOKED) == [("eve", "groups everyone ward")]
        assert b'"eve"' in (tmp_path / "audit" / JOURNAL_FILE).read_bytes()
        assert not session.stream.open
        member = doctor.house.roster.member("eve")
        assert member is not None
        assert member.standing is Standing.REVOKED
        after = {name: group.epoch_number for name, group in doctor.fanout.groups.items()}
        assert {name for name in after if after[name] > epochs[name]} == {"everyone", "ward"}
        assert all("eve" not in group.roster | group.members for group in doctor.fanout.groups.values())
        assert doctor.states(undelivered.id)["eve"] == "revoked"
        await doctor.attached(anna, "everyone", "ward")
        await eve.gone()
        assert eve.bodies("ward") == []


@on_a_loop
async def test_the_time_to_exclusion_is_measured_told_and_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the order's start until the new epochs stand; a repeated order gets the first answer, one after a restart none."""
    ticks = itertools.count(1_000, 25)
    monkeypatch.setattr(departures, "clock", lambda: Instant(clock().wall, next(ticks)))
    origin = Origin("test", "one key")
    async with running(tmp_path) as doctor:
        await doctor.device("eve")
        begun: list[int] = []
        begin = doctor.fanout._begin_epoch

        def watch(group: Group, number: int) -> None:
            begin(group, number)
            begun.append(next(ticks))

        monkeypatch.setattr(doctor.fanout, "_begin_epoch", watch)

        answer = await doctor.gateway.commands.revoke("eve", origin)

        assert begun == [1_025]
        assert answer.excluded_in_ms == 50
        (line,) = LOG.find("patient left the roster", patient="eve", reason="revoked")
        assert line["excluded_in_ms"] == 50
        assert await doctor.gateway.commands.revoke("eve", origin) == answer

    async with running(tmp_path) as doctor:
        assert (await doctor.gateway.commands.revoke("eve", origin)).excluded_in_ms is None


@on_a_loop
async def test_a_journal_that_cannot_be_written_does_not_call_the_revocation_off(tmp_path: Path) -> None:
    """It has happened, so it is not called "not accepted"; the journal is completed when its disk takes it."""
    async with running(tmp_path) as doctor:
        await doctor.device("eve")
        commands = doctor.gateway.commands
        journal = tmp_path / "audit" / JOURNAL_FILE
        journal.unlink()
        journal.mkdir()

        answer = await commands.revoke("eve", Origin("operator"))

        assert answer.standing == "revoked"
        assert commands.patients()[0].state == "revoked"
        assert LOG.find("journal behind")
        journal.rmdir()
        doctor.gateway._complete_journal()
        await doctor.settled()
        assert journal.read_bytes().count(b'"action":"revoked","subject":"eve"') == 1


@on_a_loop
async def test_a_repeated_order_does_not_bring_a_void_fleet_invitation_back(tmp_path: Path) -> None:
    """The old answer is repeated; the file keeps the invitation that is open."""
    path = tmp_path / "fleet.invitation"
    async with running(tmp_path, provisioning_file=str(path)) as doctor:
        commands, order = doctor.gateway.commands, Origin("operator", "key")
        first = await commands.invite(InviteOrder(), order)
        second = await commands.invite(InviteOrder(), Origin("operator"))

        again = await commands.invite(InviteOrder(), order)

        assert again == first
        assert path.read_text() == second.invitation


@on_a_loop
async def test_addresses_are_what_is_configured_or_what_is_listened_on(tmp_path: Path) -> None:
    """On every interface: this machine's name."""
    cases: list[tuple[dict[str, Any], str]] = [
        ({}, "127.0.0.1:{port}"),
        ({"listen_host": "0.0.0.0"}, f"{socket.gethostname()}:{{port}}"),
        ({"listen_host": "::1"}, "[::1]:{port}"),
        ({"addresses": ("doctor:7700",)}, "doctor:7700"),
    ]
    for number, (changes, expected) in enumerate(cases):
        async with running(tmp_path / str(number), **changes) as doctor:
            found = (await doctor.invite("anna")).addresses

            assert found == [expected.format(port=doctor.gateway.port)]


@on_a_loop
async def test_a_new_fleet_invitation_replaces_the_one_in_the_file(tmp_path: Path) -> None:
    """The one before is void at once; a device that came by it stays."""
    path = tmp_path / "fleet.invitation"
    async with running(tmp_path, provisioning_file=str(path)) as doctor:
        old = invitations.from_text(path.read_text())
        device, late = Device(old), Device(old)
        await doctor.connect(device)
        await doctor.attached(device)

        answer = await doctor.gateway.commands.invite(InviteOrder(), ME)
        await doctor.connect(late)
        await late.gone()

        assert path.read_text() == answer.invitation
        assert LOG.find("refused", check="V-041")
        assert device.closed == 0


@on_a_loop
async def test_a_revoked_devices_invitation_is_void_but_the_answer_is_repeated(tmp_path: Path) -> None:
    """An Idempotency-Key gives the first answer, even where it is worth nothing any more."""
    async with running(tmp_path) as doctor:
        commands = doctor.gateway.commands
        first = await commands.invite(InviteOrder("anna"), Origin("operator", "key"))
        device = Device(invitations.from_text(first.invitation))
        await doctor.connect(device)
        await doctor.attached(device)
        await commands.revoke("anna", ME)

        assert await commands.invite(InviteOrder("anna"), Origin("operator", "key")) == first
        with pytest.raises(UserError, match="taken by a patient that is revoked"):
            await commands.invite(InviteOrder("anna"), Origin("operator", "another key"))


@on_a_loop
async def test_a_fleet_invitation_that_cannot_be_written_is_written_later(tmp_path: Path) -> None:
    """The order stands, and the one that is in the file is void: to call the new one off would be false."""
    path = tmp_path / "fleet.invitation"
    async with running(tmp_path, provisioning_file=str(path)) as doctor:
        commands = doctor.gateway.commands
        before = path.read_text()
        path.unlink()
        path.mkdir()

        answer = await commands.invite(InviteOrder(), ME)
        assert LOG.find("fleet invitation not written")
        await commands.publish_waiting()
        path.rmdir()
        await commands.publish_waiting()
        await commands.publish_waiting()

        assert path.read_text() == answer.invitation != before
        assert len(LOG.find("fleet invitation not written")) == 2


@on_a_loop
async def test_an_old_order_that_is_repeated_takes_no_invitations_place_that_waits_for_its_disk(
    tmp_path: Path,
) -> None:
    """Its answer is that of then, and void; the file gets what is valid."""
    path = tmp_path / "fleet.invitation"
    async with running(tmp_path, provisioning_file=str(path)) as doctor:
        commands = doctor.gateway.commands
        await commands.invite(InviteOrder(), Origin("operator", "old"))
        path.unlink()
        path.mkdir()
        answer = await commands.invite(InviteOrder(), ME)

        await commands.invite(InviteOrder(), Origin("operator", "old"))
        path.rmdir()
        await commands.publish_waiting()

        assert path.read_text() == answer.invitation


@on_a_loop
async def test_of_two_fleet_invitations_at_once_the_valid_one_is_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However slowly the first is written."""
    path = tmp_path / "fleet.invitation"
    begun, go_on = threading.Event(), threading.Event()
    at_work, most = [0], [0]

    def write(name: Path, data: bytes) -> None:
        at_work[0] += 1
        most[0] = max(most[0], at_work[0])
        if not begun.is_set():
            begun.set()
            assert go_on.wait(LIMIT_S)
        write_private(name, data)
        at_work[0] -= 1

    async with running(tmp_path, provisioning_file=str(path)) as doctor:
        commands = doctor.gateway.commands
        monkeypatch.setattr(inviting, "write_private", write)
        first = asyncio.ensure_future(commands.invite(InviteOrder(), ME))
        await asyncio.to_thread(begun.wait, LIMIT_S)
        second = asyncio.ensure_future(commands.invite(InviteOrder(), ME))
        await doctor.settled()
        await asyncio.to_thread(lambda: None)  # a second writer would be at work by now
        go_on.set()
        await first
        answer = await second

        assert most == [1]
        assert path.read_text() == answer.invitation

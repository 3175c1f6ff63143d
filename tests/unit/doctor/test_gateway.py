"""The gateway's life: start, timers, restart, end."""

from __future__ import annotations

import asyncio
import base64
import socket
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from doctor import gateway as gateway_module
from doctor import witness
from doctor.audit import Action
from doctor.gateway import open_gateway
from doctor.heads import HEADS_FILE
from shared.crypto.suites import suite_by_name
from shared.errors import StorageError, UserError
from shared.net.stream import clock
from shared.protocol import invitations
from shared.protocol.clock import Instant
from shared.wire.opcodes import DisconnectReason
from tests.doctor_bench import (
    BELL,
    EVERYONE,
    LOG,
    ME,
    Device,
    Doctor,
    on_a_loop,
    running,
    settings_for,
    verify_audit,
)
from tests.protocol_bench import DAY


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_broadcast_reaches_everyone_on_both_loops(
    tmp_path: Path, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """The service runs on uvloop where that is installed, the other tests on the standard loop."""

    async def scenario() -> None:
        async with running(tmp_path) as doctor:
            anna, bert, eve = [await doctor.device(name) for name in ("anna", "bert", "eve")]
            stream = doctor.session(bert).stream
            stream.pause_writing()
            await doctor.gateway.commands.revoke("eve", ME)
            answer = await doctor.broadcast("hello")
            await doctor.delivered(anna, answer.number)
            stream.resume_writing()
            await doctor.delivered(bert, answer.number)
            await eve.gone()
            bert.cut()
            await LOG.until("session ended", patient="bert")
            await doctor.reconnect(bert)

            assert anna.bodies() == bert.bodies() == [b"hello"]
            assert eve.bodies() == []

    on_a_loop(scenario, loop_factory)()


@on_a_loop
async def test_a_broadcast_reaches_everyone_and_comes_back_as_receipts(tmp_path: Path) -> None:
    """The whole way, for each suite."""
    names = ("elgamal-p256-mlkem768", "elgamal-p256", "elgamal-ffdhe3072")
    async with running(tmp_path, suites=names) as doctor:
        devices = [
            await doctor.device(f"p{number}", suite=suite_by_name(name)) for number, name in enumerate(names)
        ]

        answer = await doctor.broadcast("take two\x00\x1b[31m\u202e")
        for device in devices:
            await doctor.delivered(device, answer.number)

        assert answer.recipients == 3
        assert doctor.states(answer.id) == {"p0": "delivered", "p1": "delivered", "p2": "delivered"}
        assert {tuple(device.bodies()) for device in devices} == {("take two\x00\x1b[31m\u202e".encode(),)}
        assert sorted(row.suite or "" for row in doctor.gateway.commands.patients()) == sorted(names)
        assert len({device.broadcasts[-1] for device in devices}) == 1  # the same bytes to all


# Restart


@on_a_loop
async def test_a_restart_begins_new_epochs_and_patients_return(tmp_path: Path) -> None:
    """The same keys and roster; no epoch's key outlives the restart; what was missed comes first."""
    async with running(tmp_path) as doctor:
        await doctor.gateway.commands.create_group("ward", ME)
        anna = await doctor.device("anna", "ward")
        eve = await doctor.device("eve")
        before = doctor.fanout.groups["everyone"].epoch_number
        await doctor.gateway.commands.revoke("eve", ME)
        anna.cut()
        await LOG.until("session ended", patient="anna")
        missed = await doctor.broadcast("missed", "ward")
    assert verify_audit(tmp_path).first_bad is None

    async with running(tmp_path) as doctor:
        assert doctor.fanout.groups["everyone"].epoch_number > before + 1
        assert doctor.fanout.groups["ward"].members == {"anna"}
        await doctor.reconnect(anna)
        await doctor.attached(anna, "ward")
        await doctor.delivered(anna, missed.number)
        live = await doctor.broadcast("live", "ward")
        await doctor.delivered(anna, live.number)
        await doctor.connect(eve)
        await eve.gone()

        assert anna.bodies("ward") == [b"missed", b"live"]
        assert doctor.states(missed.id) == {"anna": "delivered"}
        assert len({epoch.key_id for epoch in anna.epochs}) == len(anna.epochs)
        assert LOG.find("refused", check="V-037", patient="eve")
        assert len(doctor.audited(Action.STARTED)) == 2
    assert verify_audit(tmp_path).first_bad is None


# What is in the way


@on_a_loop
async def test_two_doctors_on_one_state_are_refused(tmp_path: Path) -> None:
    """The second one touches nothing; the first goes on."""
    async with running(tmp_path) as doctor:
        with pytest.raises(UserError, match=f"Another doctor is running on {tmp_path}/state; stop it first"):
            async with open_gateway(settings_for(tmp_path)):
                raise AssertionError("it started")

        anna = await doctor.device("anna")
        assert anna.closed == 0
    async with running(tmp_path):
        pass  # the lock went with the first


@on_a_loop
async def test_a_host_that_is_none_of_this_machine_is_named(tmp_path: Path) -> None:
    """Another port would not help."""
    with pytest.raises(UserError, match=r"listen_host 'nowhere\.invalid' is no address of this machine"):
        async with running(tmp_path, listen_host="nowhere.invalid"):
            raise AssertionError("it started")


@on_a_loop
async def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    """With what to do; and everything that was opened is closed again."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            UserError, match=f"device port 127.0.0.1:{port} cannot be taken .*Set listen_port"
        ):
            async with running(tmp_path, listen_port=port):
                raise AssertionError("it started")

    async with running(tmp_path, listen_port=0) as doctor:
        assert doctor.gateway.port != 0


@on_a_loop
async def test_a_state_directory_that_others_can_read_is_refused(tmp_path: Path) -> None:
    """With the command that mends it."""
    (tmp_path / "state").mkdir(mode=0o755)
    (tmp_path / "state").chmod(0o755)

    with pytest.raises(UserError, match="chmod 700"):
        async with running(tmp_path):
            raise AssertionError("it started")


# Fleet


@on_a_loop
async def test_the_fleet_invitation_is_written_once_with_the_port_in_use(tmp_path: Path) -> None:
    """Replicas find the doctor by it, also where the port is whatever was free."""
    path = tmp_path / "provisioning" / "fleet.invitation"
    path.parent.mkdir()
    async with running(tmp_path, provisioning_file=str(path)) as doctor:
        first = path.read_text()
        fleet = invitations.from_text(first)
        assert fleet.addresses == [f"127.0.0.1:{doctor.gateway.port}"]
        assert path.stat().st_mode & 0o777 == 0o600
        device = Device(fleet)
        await doctor.connect(device)
        await doctor.attached(device)
        assert device.patient_id.startswith("patient-")

    async with running(tmp_path, provisioning_file=str(path)):
        assert path.read_text() == first


@on_a_loop
async def test_a_missing_provisioning_directory_is_named(tmp_path: Path) -> None:
    """The doctor does not start without what its fleet waits for."""
    path = tmp_path / "missing" / "fleet.invitation"

    with pytest.raises(UserError, match=r"provisioning_file: there is no directory .*/missing"):
        async with running(tmp_path, provisioning_file=str(path)):
            raise AssertionError("it started")


# Timers


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every timer ring a thousand times as often."""
    every = gateway_module._every
    monkeypatch.setattr(gateway_module, "_every", lambda seconds, work: every(seconds / 1000, work))
    monkeypatch.setattr(witness, "INTERVAL", 0.01)


@on_a_loop
async def test_an_epoch_ends_after_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By timer; the members get the next key."""
    hurry(monkeypatch)
    async with running(tmp_path, epoch_interval_s=0.05) as doctor:
        anna = await doctor.device("anna")
        held = anna.epoch()

        await anna.until(lambda it: it.epoch() >= held + 2)

        numbers = [epoch.number for epoch in anna.epochs]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


@on_a_loop
async def test_signed_heads_are_exported_by_timer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for each state of the log; an auditor finds them on the other volume."""
    hurry(monkeypatch)
    async with running(tmp_path) as doctor:
        await doctor.device("anna")
        await doctor.settled()
        (entries,) = doctor.reader.execute("SELECT max(sequence) FROM audit").fetchone()

        await LOG.until("audit head exported", sequence=entries)

        answer = await doctor.gateway.commands.verify_audit()
        assert answer.valid
        assert answer.heads >= 1
        assert (tmp_path / "audit" / HEADS_FILE).stat().st_mode & 0o777 == 0o600


@on_a_loop
async def test_a_timer_that_the_disk_refuses_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor itself: it is logged and tried again."""
    hurry(monkeypatch)
    async with running(tmp_path, epoch_interval_s=0.05) as doctor:
        heads = tmp_path / "audit" / HEADS_FILE
        heads.unlink(missing_ok=True)
        heads.mkdir()
        await LOG.until("timer failed", count=2)
        assert "cannot be read" in LOG.find("timer failed")[0]["cause"]

        before = doctor.fanout.groups["everyone"].epoch_number
        await BELL.until(lambda: doctor.fanout.groups["everyone"].epoch_number > before)
        heads.rmdir()
        await BELL.until(lambda: heads.exists())


@on_a_loop
async def test_a_bug_in_a_timer_ends_the_timekeeper_and_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A doctor without timers must not look healthy: the service ends with it."""
    hurry(monkeypatch)

    async def live() -> None:
        async with open_gateway(settings_for(tmp_path)) as gateway:
            gateway._house.fanout.groups.clear()
            monkeypatch.setattr(gateway_module, "_roll_old_epochs", lambda *_: [][0])
            await asyncio.wait({gateway.timekeeper})

    with pytest.raises(ExceptionGroup) as raised:
        await live()
    assert raised.group_contains(IndexError)


@on_a_loop
async def test_secrets_of_expired_invitations_and_old_answers_are_erased(tmp_path: Path) -> None:
    """What a timer asks for; a disk that refuses is logged."""
    async with running(tmp_path) as doctor:
        old, new = "INSERT INTO answers VALUES ('old', x'', x'', 0)", clock().wall
        await doctor.writer.submit(lambda db: db.execute(old).rowcount)
        await doctor.writer.submit(
            lambda db: db.execute("INSERT INTO answers VALUES ('new', x'', x'', ?)", (new,)).rowcount
        )
        await doctor.invite("anna", hours=1e-9)
        await doctor.invite("bert")
        await doctor.a_millisecond_over()

        doctor.gateway._erase_expired()
        await doctor.settled()

        held = doctor.reader.execute("SELECT patient_id FROM invitations WHERE secret IS NOT NULL")
        assert held.fetchall() == [("bert",)]
        assert doctor.reader.execute("SELECT key FROM answers").fetchall() == [("new",)]
        async with doctor.refusing_disk():
            doctor.gateway._erase_expired()
            await LOG.until("expired invitations not erased")
            await LOG.until("old answers not erased")


@on_a_loop
async def test_fleet_patients_that_were_not_seen_are_retired_by_timer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not those that are connected, nor those that were invited by name."""
    hurry(monkeypatch)
    began = clock().elapsed
    async with running(tmp_path, retire_after_days=3) as doctor:
        fleet = await doctor.invite(None)
        here, gone = Device(fleet), Device(fleet)
        named = await doctor.device("anna")
        for device in (here, gone):
            await doctor.connect(device)
            await doctor.attached(device)
        for device in (gone, named):
            device.cut()
            await LOG.until("session ended", patient=device.patient_id)
        old = clock().wall - 4 * DAY
        await doctor.writer.submit(
            lambda db: db.execute("UPDATE patients SET last_seen = ?", (old,)).rowcount
        )
        monkeypatch.setattr(gateway_module, "clock", lambda: Instant(clock().wall, began + 4 * DAY))

        await LOG.until("patient left the roster", patient=gone.patient_id, reason="retired")

        standing = {row.patient: row.state for row in doctor.gateway.commands.patients()}
        assert standing == {here.patient_id: "established", gone.patient_id: "retired", "anna": "away"}


async def a_fleet_device_that_is_away(doctor: Doctor) -> Device:
    """It was there a moment ago."""
    device = Device(await doctor.invite(None))
    await doctor.connect(device)
    await doctor.attached(device)
    device.cut()
    await LOG.until("session ended", patient=device.patient_id)
    await doctor.settled()
    return device


@on_a_loop
async def test_a_doctor_that_was_off_for_long_retires_nobody(tmp_path: Path) -> None:
    """It could see nobody; what it owes them stays owed."""
    async with running(tmp_path, retire_after_days=30) as doctor:
        await a_fleet_device_that_is_away(doctor)
        said = await doctor.broadcast("owed", hours=24 * 365)
        await doctor.writer.submit(
            lambda db: db.execute("UPDATE patients SET last_seen = last_seen - ?", (31 * DAY,)).rowcount
        )
    async with running(tmp_path, retire_after_days=30) as doctor:
        doctor.gateway._retire_unseen()
        await doctor.settled()

        assert list(doctor.states(said.id).values()) == ["queued"]


@on_a_loop
async def test_a_clock_that_jumps_ahead_retires_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither at once nor later, once it is right again, also where the doctor has run for long."""
    began = clock()
    async with running(tmp_path, retire_after_days=30) as doctor:
        for day in range(32):
            at = Instant(began.wall + day * DAY, began.elapsed + day * DAY)
            monkeypatch.setattr(gateway_module, "clock", lambda at=at: at)
            doctor.gateway._retire_unseen()
        await a_fleet_device_that_is_away(doctor)
        seen = began.wall + 31 * DAY
        await doctor.writer.submit(
            lambda db: db.execute("UPDATE patients SET last_seen = ?", (seen,)).rowcount
        )
        for days in (31, 0):
            at = Instant(seen + days * DAY, began.elapsed + 31 * DAY)
            monkeypatch.setattr(gateway_module, "clock", lambda at=at: at)
            doctor.gateway._retire_unseen()
            await doctor.settled()

        assert [row.state for row in doctor.gateway.commands.patients()] == ["away"]


@on_a_loop
async def test_prekeys_are_erased_by_timer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The timer asks the ring with the present time."""
    hurry(monkeypatch)
    asked: list[int] = []
    async with running(tmp_path) as doctor:
        ring = doctor.house.practice.prekeys
        erase = ring.erase_expired

        def watch(_: object, now: Instant) -> None:
            asked.append(now.elapsed)
            BELL.ring()
            erase(now)

        monkeypatch.setattr(ring.__class__, "erase_expired", watch)
        await BELL.until(lambda: len(asked) >= 2)

        assert asked == sorted(asked)


# The end


@on_a_loop
async def test_closing_says_goodbye_to_everyone(tmp_path: Path) -> None:
    """To sessions by a DISCONNECT; whoever is in the middle of a handshake is hung up on."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        reader, writer = await asyncio.open_connection("127.0.0.1", doctor.gateway.port)
        await BELL.until(lambda: len(doctor.house.streams) == 2)

    await anna.gone()
    assert anna.disconnects == [DisconnectReason.CLOSING]
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()


@on_a_loop
async def test_closing_in_the_middle_of_everything_leaves_no_trouble(tmp_path: Path) -> None:
    """Admissions and receipts under way, an epoch about to begin: no error reaches the loop (the bench would fail)."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        newcomers = [Device(await doctor.invite(f"p{number}")) for number in range(3)]
        async with doctor.held_writer():
            for device in newcomers:
                await doctor.connect(device)
            await LOG.until("verified", count=4)
        anna.acknowledge(EVERYONE, 0)
    for device in [anna, *newcomers]:
        await device.gone()

    async with running(tmp_path) as doctor:
        assert {row.patient for row in doctor.gateway.commands.patients()} == {"anna", "p0", "p1", "p2"}


@on_a_loop
async def test_no_secret_and_no_body_reaches_the_log(tmp_path: Path) -> None:
    """Keys, an invitation's secret, epoch secrets, the text of a message: in no spelling."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        answer = await doctor.broadcast("the text of a message")
        await doctor.delivered(anna, answer.number)
        await doctor.gateway.commands.revoke("anna", ME)
        keys = tmp_path / "state" / "keys"
        secrets = [path.read_bytes() for path in keys.iterdir()]
        secrets += [anna.invitation.secret, *(epoch.secret.reveal() for epoch in anna.epochs)]
        secrets.append(b"the text of a message")
        logged = repr(LOG.lines)

        assert "delivered" in logged
        for secret in secrets:
            for spelling in (repr(secret)[2:-1], secret.hex(), base64.b64encode(secret).decode()):
                assert spelling not in logged


@on_a_loop
async def test_what_the_doctor_reads_is_never_written(tmp_path: Path) -> None:
    """The gateway's own reader refuses: there is one writer."""
    async with running(tmp_path) as doctor:
        with pytest.raises(sqlite3.OperationalError):
            doctor.reader.execute("DELETE FROM audit")


@on_a_loop
async def test_an_epoch_that_cannot_be_kept_is_logged(tmp_path: Path) -> None:
    """It has begun all the same: the key is new."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        group = doctor.fanout.groups["everyone"]
        async with doctor.refusing_disk():
            doctor.fanout.next_epoch(group)
            await LOG.until("audit entries not stored")
        await doctor.attached(anna)

        assert anna.epoch() == group.epoch_number


@pytest.mark.parametrize("count", [50, pytest.param(200, marks=pytest.mark.slow)])
@on_a_loop
async def test_a_ward_of_patients(tmp_path: Path, capsys: pytest.CaptureFixture[str], count: int) -> None:
    """One broadcast of 1 KiB to all devices in this process, receipts from all; the times are printed, not judged."""
    async with running(tmp_path, fleet_uses=1000) as doctor:
        fleet = await doctor.invite(None)
        devices = [Device(fleet, suite=suite_by_name("elgamal-p256")) for _ in range(count)]
        started = time.perf_counter()
        for device in devices:
            await doctor.connect(device)
        for device in devices:
            await doctor.attached(device)
        joined = time.perf_counter()

        answer = await doctor.broadcast("x" * 1024)
        accepted = time.perf_counter()
        await BELL.until(lambda: len(LOG.find("delivered", number=answer.number)) == count)
        done = time.perf_counter()

        assert set(doctor.states(answer.id).values()) == {"delivered"}
        with capsys.disabled():
            print(
                f"\n{count} patients: joined in {joined - started:.2f} s, accepted in {1000 * (accepted - joined):.1f} ms,"
                f" receipted in {1000 * (done - accepted):.0f} ms, {doctor.fanout.groups['everyone'].epoch_number} epochs"
            )


def test_a_report_raises_what_is_a_bug() -> None:
    """Only the disk's and people's faults are logged."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        for error in (StorageError("full"), UserError("no")):
            future = loop.create_future()
            future.set_exception(error)
            gateway_module._report("not done")(future)
        cancelled = loop.create_future()
        cancelled.cancel()
        gateway_module._report("not done")(cancelled)
        bug = loop.create_future()
        bug.set_exception(ZeroDivisionError())
        with pytest.raises(ZeroDivisionError):
            gateway_module._report("not done")(bug)

    on_a_loop(scenario)()
    assert [line["cause"] for line in LOG.find("not done")] == ["full", "no"]

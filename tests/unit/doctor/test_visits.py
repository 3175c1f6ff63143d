"""Connections to the device port: admission, replacement, limits, impossible receipts, and every kind of bad input."""

from __future__ import annotations

import asyncio
import gc
import secrets
import sqlite3
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from doctor import door, house, noise
from doctor.audit import Action
from doctor.visits import Visit
from shared.crypto.suites import DEFAULT_SUITE, SUITES
from shared.net.stream import clock
from shared.protocol.events import Confirmed, Failed
from shared.wire import framing, messages
from shared.wire.checks import Check
from shared.wire.framing import HEADER_SIZE
from shared.wire.messages import Alert, KeyExchange, Position, Stream, TargetKind
from shared.wire.opcodes import AlertCode, DisconnectReason, Opcode
from tests.doctor_bench import BELL, EVERYONE, LOG, ME, Device, Doctor, on_a_loop, running
from tests.protocol_bench import split

# Enrolment over the wire


@on_a_loop
async def test_v063_the_loser_of_a_race_is_told_sealed_that_the_invitation_is_used(tmp_path: Path) -> None:
    """Two devices hold one invitation and both are verified before either is admitted; one is, the other is refused."""
    async with running(tmp_path) as doctor:
        invitation = await doctor.invite("anna")
        first, second = Device(invitation), Device(invitation)
        async with doctor.held_writer():
            await doctor.connect(first)
            await doctor.connect(second)
            await LOG.until("verified", count=2)
            assert LOG.find("established") == []

        await LOG.until("refused", check="V-063")
        await BELL.until(lambda: first.closed + second.closed == 1)
        winner, loser = (first, second) if second.closed else (second, first)
        await doctor.attached(winner)

        assert [(alert.code, alert.authentic) for alert in loser.alerts] == [
            (AlertCode.INVITATION_USED, True)
        ]
        assert winner.alerts == []
        assert len(doctor.audited(Action.ENROLLED)) == 1
        await doctor.settled()
        assert doctor.audited(Action.REFUSED)[0][1].startswith("V-063")


@on_a_loop
async def test_v063_a_last_use_that_is_left_admits(tmp_path: Path) -> None:
    """The other way: two devices, two uses."""
    async with running(tmp_path, fleet_uses=2) as doctor:
        invitation = await doctor.invite(None)
        devices = [Device(invitation), Device(invitation)]
        async with doctor.held_writer():
            for device in devices:
                await doctor.connect(device)
            await LOG.until("verified", count=2)
        for device in devices:
            await doctor.attached(device)

        assert LOG.find("refused") == []
        third = Device(invitation)
        await doctor.connect(third)
        await third.gone()
        assert [(alert.code, alert.authentic) for alert in third.alerts] == [
            (AlertCode.INVITATION_USED, True)
        ]


@on_a_loop
async def test_a_retry_after_a_cut_costs_nothing(tmp_path: Path) -> None:
    """The device was admitted but never heard of it; it shows its used invitation again and is let in."""
    async with running(tmp_path) as doctor:
        anna = Device(await doctor.invite("anna"))
        async with doctor.held_writer():
            await doctor.connect(anna)
            await LOG.until("verified")
            anna.cut()
            await anna.gone()
            await BELL.until(lambda: not doctor.house.streams)
        await doctor.settled()
        assert anna.count(Confirmed) == 0
        assert doctor.house.roster.member("anna") is not None
        assert doctor.fanout.sessions == {}
        assert "anna" in doctor.fanout.groups["everyone"].members

        await doctor.reconnect(anna)

        assert len(doctor.audited(Action.ENROLLED)) == 1
        assert len(doctor.audited(Action.ADMITTED)) == 1


@on_a_loop
async def test_a_revoked_key_does_not_come_back_under_another_id(tmp_path: Path) -> None:
    """It holds a good invitation for another id; it is told that it is revoked, and so is its old id."""
    async with running(tmp_path) as doctor:
        eve = await doctor.device("eve")
        await doctor.gateway.commands.revoke("eve", ME)
        await eve.gone()

        again = Device(await doctor.invite("mallory"), key=eve.key)
        for device in (eve, again):
            await doctor.connect(device)
            await device.gone()

        assert [alert.code for alert in again.alerts] == [AlertCode.REVOKED]
        assert eve.alerts[-1].code is AlertCode.REVOKED
        assert all(alert.authentic for alert in [*again.alerts, *eve.alerts])
        assert LOG.find("refused", check="V-037", patient="mallory")


@on_a_loop
async def test_a_revocation_that_is_under_way_refuses_the_admission_behind_it(tmp_path: Path) -> None:
    """The handshake saw an active patient; the transaction sees the tombstone."""
    async with running(tmp_path) as doctor:
        eve = await doctor.device("eve")
        eve.cut()
        await LOG.until("session ended", patient="eve")
        async with doctor.held_writer():
            revoking = asyncio.create_task(doctor.gateway.commands.revoke("eve", ME))
            await doctor.connect(eve)
            await LOG.until("verified", count=2)
        await revoking
        await eve.gone()

        assert [(alert.code, alert.authentic) for alert in eve.alerts] == [(AlertCode.REVOKED, True)]
        assert doctor.fanout.sessions == {}


@on_a_loop
async def test_an_admission_that_is_under_way_is_cut_by_the_revocation_behind_it(tmp_path: Path) -> None:
    """The other order: it is admitted, which it was entitled to, and expelled; the epoch is new when `revoke` returns."""
    async with running(tmp_path) as doctor:
        eve = await doctor.device("eve")
        eve.cut()
        await LOG.until("session ended", patient="eve")
        async with doctor.held_writer():
            await doctor.connect(eve)
            await LOG.until("verified", count=2)
            revoking = asyncio.create_task(doctor.gateway.commands.revoke("eve", ME))
            await asyncio.sleep(0)  # its order is submitted; nothing is committed yet
        await revoking
        await eve.gone()

        group = doctor.fanout.groups["everyone"]
        assert doctor.fanout.sessions == {}
        assert group.attached == set()
        assert "eve" not in group.members | group.roster
        assert group.epoch_number not in [epoch.number for epoch in eve.epochs]
        assert LOG.find("refused") == []


@on_a_loop
async def test_a_revoked_device_that_knocks_without_end_fills_no_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each knock is a line in the log, which rotates; the audit log, which stays, has so many entries a minute."""
    monkeypatch.setattr(house, "REFUSALS", 2)
    async with running(tmp_path) as doctor:
        eve = await doctor.device("eve")
        await doctor.gateway.commands.revoke("eve", ME)
        for _ in range(5):
            await eve.gone()
            await doctor.connect(eve)
        await eve.gone()
        await doctor.settled()

        assert len(LOG.find("refused", check="V-037")) == 5
        assert len(doctor.audited(Action.REFUSED)) == 2


@on_a_loop
async def test_an_invitation_that_is_used_up_fills_no_disk_under_ever_new_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was revoked still knows the secret it came by, and makes up a name and a key for each knock: they share one budget."""
    monkeypatch.setattr(house, "REFUSALS", 2)
    async with running(tmp_path) as doctor:
        eve = await doctor.device("eve")
        await doctor.gateway.commands.revoke("eve", ME)
        for number in range(5):
            guise = Device(eve.invitation, f"eve-{number}")
            await doctor.connect(guise)
            await guise.gone()
        await doctor.settled()

        assert len(LOG.find("refused", check="V-041")) == 5
        assert len(doctor.audited(Action.REFUSED)) == 2


@on_a_loop
async def test_a_device_that_comes_and_goes_without_end_is_served_and_fills_no_disk(tmp_path: Path) -> None:
    """Its key is good, so nothing is refused; what is beyond the allowance is counted, and told by its number."""
    async with running(tmp_path, logins_per_minute=2) as doctor:
        anna = await doctor.device("anna")
        for _ in range(5):
            doctor.session(anna).stream.abort()
            await BELL.until(lambda: "anna" not in doctor.fanout.sessions)
            await doctor.connect(anna)
            await doctor.attached(anna)
        await doctor.gateway.commands.retire("anna", ME)
        await anna.gone()
        await doctor.connect(anna)
        await doctor.attached(anna)
        doctor.house.ledger.sum_up()
        await doctor.settled()

        assert len(doctor.audited(Action.ENROLLED)) == 1
        assert (
            len(doctor.audited(Action.ADMITTED)) == 2
        )  # the second of its two, and the one that ended its retirement
        assert doctor.audited(Action.ADMITTED_MORE) == [("patients", "anna:4")]


@on_a_loop
async def test_a_second_key_for_an_id_is_refused_in_clear(tmp_path: Path) -> None:
    """It has proved nothing: it is told nothing but `refused`, and the doctor's log says which key it showed."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        thief = Device(anna.invitation)
        await doctor.connect(thief)
        await thief.gone()

        assert [(alert.code, alert.authentic) for alert in thief.alerts] == [(AlertCode.REFUSED, False)]
        (line,) = LOG.find("refused")
        assert "another key than the roster's" in line["cause"]
        assert thief.fingerprint in line["cause"]
        assert anna.closed == 0


@on_a_loop
async def test_an_expired_invitation_is_refused_by_name(tmp_path: Path) -> None:
    """The device proves its secret, so it may know why."""
    async with running(tmp_path) as doctor:
        device = Device(await doctor.invite("anna", hours=1e-9))
        assert 0 < device.invitation.expires <= clock().wall + 1
        await doctor.a_millisecond_over()
        await doctor.connect(device)
        await device.gone()

        assert [(alert.code, alert.authentic) for alert in device.alerts] == [
            (AlertCode.INVITATION_EXPIRED, True)
        ]


@on_a_loop
async def test_revoking_a_fleet_patient_stops_its_invitation(tmp_path: Path) -> None:
    """Also for a device that holds it already."""
    async with running(tmp_path) as doctor:
        fleet = await doctor.invite(None)
        first = Device(fleet)
        await doctor.connect(first)
        await doctor.attached(first)
        await doctor.gateway.commands.revoke(first.patient_id, ME)

        late = Device(fleet)
        await doctor.connect(late)
        await late.gone()

        assert [alert.code for alert in late.alerts] == [AlertCode.INVITATION_USED]


@on_a_loop
async def test_a_retired_device_comes_back_without_using_up_the_invitation(tmp_path: Path) -> None:
    """And reads nothing of what was accepted in between."""
    async with running(tmp_path, fleet_uses=5) as doctor:
        device = Device(await doctor.invite(None))
        await doctor.connect(device)
        await doctor.attached(device)
        await doctor.gateway.commands.retire(device.patient_id, ME)
        await device.gone()
        between = await doctor.broadcast("in between")

        await doctor.reconnect(device)
        after = await doctor.broadcast("after")
        await doctor.delivered(device, after.number)

        assert device.bodies() == [b"after"]
        assert doctor.states(between.id) == {}
        opened = doctor.house.roster.invitation(device.invitation.invitation_id)
        assert opened is not None
        assert opened.uses_left == 4


@on_a_loop
async def test_a_disk_that_refuses_cuts_but_does_not_refuse(tmp_path: Path) -> None:
    """The device must not take it for a verdict: no alert, and the next try succeeds with the same invitation."""
    async with running(tmp_path) as doctor:
        anna = Device(await doctor.invite("anna"))
        async with doctor.refusing_disk():
            await doctor.connect(anna)
            await anna.gone()
        assert LOG.find("admission not stored")
        assert anna.alerts == []
        assert doctor.house.roster.member("anna") is None

        await doctor.reconnect(anna)

        assert len(doctor.audited(Action.ENROLLED)) == 1


def test_a_bug_in_an_admission_cuts_the_device_and_is_not_hidden(tmp_path: Path) -> None:
    """It must not hang until the deadline; the loop's handler is told."""
    troubles: list[object] = []

    async def scenario() -> None:
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: troubles.append(context["exception"])
        )
        async with running(tmp_path) as doctor:
            anna = Device(await doctor.invite("anna"))
            await doctor.writer.submit(
                lambda db: db.execute("ALTER TABLE patients RENAME TO elsewhere").rowcount
            )

            await doctor.connect(anna)
            await anna.gone()

            assert anna.alerts == []
            assert "no such table" in LOG.find("admission not stored")[0]["cause"]

    on_a_loop(scenario)()
    assert [type(trouble) for trouble in troubles] == [sqlite3.OperationalError]


# Replacement


@on_a_loop
async def test_a_visit_that_is_over_is_freed_at_once(tmp_path: Path) -> None:
    """The collector comes seldom: what a ward leaves behind that comes and goes must not wait for it."""
    async with running(tmp_path) as doctor:
        device = Device(await doctor.invite("anna"))
        await doctor.connect(device)
        await doctor.attached(device)
        left = weakref.ref(doctor.session(device).stream)
        collecting = gc.isenabled()
        gc.disable()
        try:
            doctor.session(device).stream.abort()
            await LOG.until("session ended")
            for _ in range(10):
                await asyncio.sleep(0)  # what is under way in the loop holds it for some turns
            assert left() is None
        finally:
            if collecting:
                gc.enable()


@on_a_loop
async def test_a_newer_session_replaces_the_older_one(tmp_path: Path) -> None:
    """Which is told so; the newer one gets the messages."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        twin = Device(anna.invitation, key=anna.key)

        await doctor.connect(twin)
        await anna.gone()
        await doctor.attached(twin)
        answer = await doctor.broadcast("to the newer")
        await doctor.delivered(twin, answer.number)

        assert anna.disconnects == [DisconnectReason.REPLACED]
        assert anna.bodies() == []
        assert len(LOG.find("established", patient="anna")) == 2
        assert twin.closed == 0


@on_a_loop
async def test_frames_of_a_replaced_session_are_ignored(tmp_path: Path) -> None:
    """Even an impossible receipt ends nothing and is not recorded."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        assert anna.stream is not None
        anna.stream.connection.acknowledge([Position(EVERYONE, 2**62, [])])
        late = anna.stream.connection.data_to_send()
        old = doctor.session(anna)
        twin = Device(anna.invitation, key=anna.key)
        await doctor.connect(twin)
        await doctor.attached(twin)

        old.stream.data_received(late)
        await doctor.settled()

        assert LOG.find("refused") == []
        assert doctor.audited(Action.RECEIPT_IMPOSSIBLE) == []
        assert doctor.session(twin) is not old


@on_a_loop
async def test_v064_three_replacements_within_a_minute_turn_newcomers_away_and_raise_an_alarm(
    tmp_path: Path,
) -> None:
    """Two devices with one key would go on for ever; the session that stands is left alone."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        devices = [anna, *(Device(anna.invitation, key=anna.key) for _ in range(4))]
        for device in devices[1:4]:
            await doctor.connect(device)
            await doctor.attached(device)
        await LOG.until("replaced too often: two devices may hold one key", patient="anna")

        await doctor.connect(devices[4])
        await devices[4].gone()

        assert LOG.find("refused", check="V-064", patient="anna")
        assert devices[4].count(Confirmed) == 0
        assert [(alert.code, alert.authentic) for alert in devices[4].alerts] == [(AlertCode.BUSY, True)]
        assert devices[3].closed == 0
        await doctor.settled()
        assert [entry[0] for entry in doctor.audited(Action.REPLACED_OFTEN)] == ["anna"]
        bert = await doctor.device("bert")
        assert bert.closed == 0


# Receipts


@on_a_loop
async def test_v090_a_receipt_for_what_was_never_issued_ends_the_connection(tmp_path: Path) -> None:
    """And goes to the audit; the other devices do not notice."""
    async with running(tmp_path) as doctor:
        anna, bert = await doctor.device("anna"), await doctor.device("bert")
        answer = await doctor.broadcast("one")
        for device in (anna, bert):
            await doctor.delivered(device, answer.number)

        anna.acknowledge(EVERYONE, answer.number + 1)
        await anna.gone()
        await doctor.settled()

        assert [alert.code for alert in anna.alerts] == [AlertCode.REFUSED]
        ((subject, detail),) = doctor.audited(Action.RECEIPT_IMPOSSIBLE)
        assert subject == "anna"
        assert f"V-090 group:everyone: {answer.number + 1} acknowledged" in detail
        again = await doctor.broadcast("two")
        await doctor.delivered(bert, again.number)
        assert bert.count(Failed) == 0


@on_a_loop
async def test_v090_a_receipt_that_is_half_true_changes_nothing(tmp_path: Path) -> None:
    """Its true position was acknowledged before the false one behind it was judged."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        anna.acknowledges = False
        answer = await doctor.broadcast("one")
        await anna.until(lambda it: it.bodies() == [b"one"])
        assert anna.stream is not None

        false = Position(Stream(TargetKind.GROUP, "never-made"), answer.number, [])
        anna.stream.connection.acknowledge([Position(EVERYONE, answer.number, []), false])
        anna.stream.flush()
        await anna.gone()
        await doctor.settled()

        assert LOG.find("refused", check="V-090", patient="anna")
        assert doctor.states(answer.id) == {"anna": "queued"}


@on_a_loop
async def test_v090_receipts_for_what_was_issued_are_taken(tmp_path: Path) -> None:
    """The other way: up to the last one, repeated, or behind."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        anna.acknowledges = False
        numbers = [(await doctor.broadcast(f"{number}")).number for number in range(3)]
        await anna.until(lambda it: len(it.bodies()) == 3)

        for number in (numbers[1], numbers[0], numbers[2], numbers[2]):
            anna.acknowledge(EVERYONE, number)
        await doctor.delivered(anna, numbers[2])

        assert LOG.find("refused") == []
        assert anna.closed == 0


@on_a_loop
async def test_v090_holds_for_the_first_position_too(tmp_path: Path) -> None:
    """What a restored database of the doctor would show: the device is further than anything issued."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        answer = await doctor.broadcast("one")
        await doctor.delivered(anna, answer.number)
        anna.cut()
        await LOG.until("session ended")
        anna.positions.raise_to(EVERYONE, answer.number + 5)

        await doctor.connect(anna)
        await anna.gone()

        assert LOG.find("refused", check="V-090", patient="anna")
        assert LOG.find("established") != []


@on_a_loop
async def test_v090_a_stream_that_the_patient_never_had_has_no_numbers(tmp_path: Path) -> None:
    """Of a group it is not in, and of messages to it alone; position 0 says nothing and is fine."""
    async with running(tmp_path) as doctor:
        for name, stream in {
            "anna": Stream(TargetKind.GROUP, "attic"),
            "bert": Stream(TargetKind.PATIENT, "bert"),
        }.items():
            device = await doctor.device(name)
            device.acknowledge(stream, 0)
            answer = await doctor.broadcast("still there")
            await doctor.delivered(device, answer.number)

            device.acknowledge(stream, answer.number + 1)
            await device.gone()

            assert LOG.find("refused", check="V-090", patient=name)


# Limits


@on_a_loop
async def test_one_address_has_so_many_unfinished_handshakes(tmp_path: Path) -> None:
    """The next one is closed before a byte is read; established devices do not count."""
    async with running(tmp_path, half_open_limit=4, half_open_per_address=2) as doctor:
        anna = await doctor.device("anna")
        idle = [await Raw.open(doctor) for _ in range(2)]
        await BELL.until(lambda: len(doctor.house.streams) == 3)
        third = await Raw.open(doctor)

        assert await third.rest() == b""
        await LOG.until("too many unfinished handshakes", host="127.0.0.1")
        await idle[0].close()
        await BELL.until(lambda: doctor.house.door.unfinished == 1)
        bert = await doctor.device("bert")
        assert (anna.closed, bert.closed) == (0, 0)
        await idle[1].close()


@on_a_loop
async def test_a_crowded_door_asks_for_a_cookie_and_admits_who_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cookie costs one more connection; sessions that stand are not asked, and without a crowd nobody is."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        monkeypatch.setattr(door.DoorKeeper, "NEVER_CROWDED", 2)
        monkeypatch.setattr(doctor.house.door, "_limit", 8)
        idle = [await Raw.open(doctor) for _ in range(3)]
        await BELL.until(lambda: doctor.house.door.unfinished == 3)
        bert = Device(await doctor.invite("bert"))

        await bert.connect(doctor.gateway.port)
        await bert.gone()
        assert bert.hello is not None
        assert bert.alerts == []
        await doctor.connect(bert)
        await doctor.attached(bert)

        assert anna.closed == 0
        for raw in idle:
            await raw.close()


@on_a_loop
async def test_who_takes_all_places_makes_room_for_another(tmp_path: Path) -> None:
    """Silently: it is cut, and who was there before it is not asked twice."""
    async with running(tmp_path, half_open_limit=2, half_open_per_address=2) as doctor:
        first, second = [await Raw.open(doctor, "127.0.0.2") for _ in range(2)]
        await BELL.until(lambda: doctor.house.door.unfinished == 2)
        anna = await doctor.device("anna")

        assert await first.rest() == b""
        assert LOG.find("unfinished handshake cut to make room", host="127.0.0.2")
        assert anna.closed == 0
        await BELL.until(lambda: doctor.house.door.unfinished == 1)
        await second.close()


@on_a_loop
async def test_who_is_verified_stands_at_the_door_no_more(tmp_path: Path) -> None:
    """However long the disk takes: no stranger can take the place of a patient that has proved itself."""
    async with running(tmp_path) as doctor:
        anna = Device(await doctor.invite("anna"))
        async with doctor.held_writer():
            await doctor.connect(anna)
            await LOG.until("verified")
            assert doctor.house.door.unfinished == 0
        await doctor.attached(anna)


@on_a_loop
async def test_handshakes_that_keep_failing_make_newcomers_show_a_cookie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They leave at once, so it is no crowd by number; the log has a few of them, and an established device none of it."""
    # Nothing is forgotten, however slow this machine is.
    monkeypatch.setattr(door.Failures, "level", lambda self, elapsed: self._level)
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        for _ in range(door.DoorKeeper.NEVER_CROWDED + 1):
            bad = await Raw.open(doctor, "127.0.0.2")
            bad.writer.write(bytes(HEADER_SIZE))
            assert await bad.alerts() == [AlertCode.UNSUPPORTED]
        assert len(LOG.find("refused", level="warning")) == noise.IN_FULL
        turned_away = await Raw.open(doctor, "127.0.0.2")
        assert await turned_away.rest() == b""
        assert LOG.find("too many failed handshakes", host="127.0.0.2")

        bert = Device(await doctor.invite("bert"))
        await bert.connect(doctor.gateway.port)
        await bert.gone()
        assert bert.hello is not None
        await doctor.connect(bert)
        await doctor.attached(bert)
        assert anna.closed == 0


@on_a_loop
async def test_links_that_break_are_no_load(tmp_path: Path) -> None:
    """A ward behind one address on a bad network is not turned away for it."""
    async with running(tmp_path) as doctor:
        raws = [await Raw.open(doctor) for _ in range(door.DoorKeeper.NEVER_CROWDED + 10)]
        for raw in raws:
            raw.writer.write(b"\x01")
            raw.writer.write_eof()
        await asyncio.gather(*(raw.rest() for raw in raws))
        assert LOG.find("refused", check="V-006")
        assert not doctor.house.door.crowded(clock().elapsed)


@on_a_loop
async def test_links_that_stall_are_no_load_once_they_are_cut(tmp_path: Path) -> None:
    """Nor is that."""
    async with running(tmp_path, handshake_deadline_s=0.05) as doctor:
        raws = [await Raw.open(doctor) for _ in range(door.DoorKeeper.NEVER_CROWDED + 10)]
        await asyncio.gather(*(raw.rest() for raw in raws))
        await BELL.until(lambda: not doctor.house.streams)
        assert LOG.find("refused", check="V-008")
        assert not doctor.house.door.crowded(clock().elapsed)


@on_a_loop
async def test_a_handshake_has_a_deadline(tmp_path: Path) -> None:
    """Who connects and says nothing is told `busy` and cut."""
    async with running(tmp_path, handshake_deadline_s=0.05) as doctor:
        idle = await Raw.open(doctor)

        assert await idle.alerts() == [AlertCode.BUSY]
        assert LOG.find("refused", check="V-008")


# Bad input


class Raw:
    """A socket without a protocol."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, doctor: Doctor, host: str = "127.0.0.1") -> Raw:
        """Connect from an address."""
        port = doctor.gateway.port
        return cls(*await asyncio.open_connection("127.0.0.1", port, local_addr=(host, 0)))

    async def rest(self) -> bytes:
        """Everything until the doctor closes."""
        try:
            return await self.reader.read()
        except ConnectionResetError:
            return b""
        finally:
            await self.close()

    async def alerts(self) -> list[AlertCode]:
        """The codes of all alerts until the doctor closes; there is nothing after them."""
        frames = split(await self.rest())
        return [
            messages.decode(Alert, frame[HEADER_SIZE:]).code for frame in frames if frame[1] == Opcode.ALERT
        ]

    async def close(self) -> None:
        """Hang up."""
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            return


def hello(suite: int = DEFAULT_SUITE.id) -> bytes:
    """A good KEY_EXCHANGE."""
    kem = DEFAULT_SUITE.kem.generate(secrets.token_bytes)
    payload = messages.encode(KeyExchange(suite, secrets.token_bytes(32), kem.public, b""))
    return framing.header(Opcode.KEY_EXCHANGE, len(payload)) + payload


def header(version: int, opcode: int, length: int) -> bytes:
    """Any header."""
    return bytes([version, opcode]) + length.to_bytes(4, "big")


@dataclass(frozen=True)
class BadInput:
    """What is sent, whether the sender then closes its side, and what becomes of it."""

    data: Callable[[], bytes]
    check: str
    alert: AlertCode
    closes: bool = False


BAD: dict[str, BadInput] = {
    "a frame that is too long": BadInput(lambda: header(1, 10, 4097), "V-003", AlertCode.MALFORMED),
    "a frame of four gigabytes": BadInput(lambda: header(1, 10, 2**32 - 1), "V-003", AlertCode.MALFORMED),
    "a truncated frame": BadInput(lambda: hello()[:-1], "V-006", AlertCode.MALFORMED, closes=True),
    "a truncated header": BadInput(lambda: b"\x01\x0a\x00", "V-006", AlertCode.MALFORMED, closes=True),
    "an unknown version": BadInput(lambda: header(2, 10, 0), "V-001", AlertCode.UNSUPPORTED),
    "plain HTTP": BadInput(lambda: b"GET / HTTP/1.1\r\n\r\n", "V-001", AlertCode.UNSUPPORTED),
    "an unknown opcode": BadInput(lambda: header(1, 99, 0), "V-002", AlertCode.UNSUPPORTED),
    "an opcode of the other side": BadInput(lambda: header(1, 11, 0), "V-005", AlertCode.MALFORMED),
    "a record before the handshake": BadInput(lambda: header(1, 42, 0), "V-005", AlertCode.MALFORMED),
    "a hello twice": BadInput(lambda: hello() + hello(), "V-004", AlertCode.MALFORMED),
    "a verifier too early": BadInput(lambda: hello() + header(1, 30, 0), "V-005", AlertCode.MALFORMED),
    "rubbish in a good frame": BadInput(lambda: header(1, 10, 5) + b"\xff" * 5, "V-004", AlertCode.MALFORMED),
    "an unknown suite": BadInput(lambda: hello(77), "V-010", AlertCode.UNSUPPORTED),
    "a suite that is not allowed": BadInput(lambda: hello(min(SUITES)), "V-010", AlertCode.UNSUPPORTED),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_coarse_alert_and_touches_nobody_else(tmp_path: Path, name: str) -> None:
    """The connection is closed, the doctor's log names the check and the cause, and everyone else goes on."""
    bad = BAD[name]

    async def scenario() -> None:
        async with running(tmp_path) as doctor:
            anna = await doctor.device("anna")
            raw = await Raw.open(doctor)
            raw.writer.write(bad.data())
            if bad.closes:
                raw.writer.write_eof()

            assert await raw.alerts() == [bad.alert]
            (line,) = LOG.find("refused")
            assert (line["check"], line["alert"], line["level"]) == (bad.check, bad.alert.name, "warning")
            assert line["cause"]
            assert line["address"].startswith("127.0.0.1:")
            await BELL.until(lambda: len(doctor.house.streams) == 1)
            answer = await doctor.broadcast("still here")
            await doctor.delivered(anna, answer.number)
            assert (anna.closed, anna.count(Failed)) == (0, 0)
            assert doctor.audited(Action.REFUSED) == []  # whoever knocks leaves nothing that stays

    on_a_loop(scenario)()


@on_a_loop
async def test_a_good_hello_alone_is_answered(tmp_path: Path) -> None:
    """The control: what the bad ones are compared with."""
    async with running(tmp_path) as doctor:
        raw = await Raw.open(doctor)
        raw.writer.write(hello())

        head = await raw.reader.readexactly(HEADER_SIZE)
        assert head[1] == Opcode.KEY_EXCHANGE_REPLY
        assert LOG.find("refused") == []
        await raw.close()


@on_a_loop
async def test_a_refusal_over_clocks_says_by_how_much_they_differ(tmp_path: Path) -> None:
    """In seconds, ahead of ours or behind; other refusals have nothing to say about it."""
    async with running(tmp_path) as doctor:
        visit = Visit(doctor.house)
        visit._log_failure(Failed(Check.REQUEST_CLOCK, "both clocks", None, (1_000, 32_000)))
        visit._log_failure(Failed(Check.REQUEST_OPENS, "no clock", None))

        assert [line.get("skew_s") for line in LOG.find("refused")] == [-31.0, None]


@on_a_loop
async def test_a_device_that_gives_up_is_logged(tmp_path: Path) -> None:
    """By an alert in a handshake, or by signing off from a session."""
    async with running(tmp_path) as doctor:
        raw = await Raw.open(doctor)
        alert = messages.encode(Alert(AlertCode.CLOCK, 0, b""))
        raw.writer.write(hello() + framing.header(Opcode.ALERT, len(alert)) + alert)
        await raw.rest()
        await LOG.until("the device ended the connection", alert="CLOCK")

        anna = await doctor.device("anna")
        assert anna.stream is not None
        anna.stream.connection.disconnect(DisconnectReason.CLOSING)
        anna.stream.flush()
        await LOG.until("the device signed off", reason="CLOSING", patient="anna")
        await LOG.until("session ended", patient="anna")


@on_a_loop
async def test_an_audit_entry_that_cannot_be_stored_is_logged_and_stored_later(tmp_path: Path) -> None:
    """What a proven device did is worth an entry, and a disk that refuses does not change that."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        async with doctor.refusing_disk():
            anna.acknowledge(EVERYONE, 2**62)
            await anna.gone()
            await LOG.until("audit entries not stored")
        doctor.house.ledger.write_waiting()
        await doctor.settled()
        ((subject, detail),) = doctor.audited(Action.RECEIPT_IMPOSSIBLE)
        assert (subject, detail[:5]) == ("anna", "V-090")


@on_a_loop
async def test_the_log_shows_each_step_of_a_handshake(tmp_path: Path) -> None:
    """Who sent which opcode, which checks passed."""
    async with running(tmp_path) as doctor:
        await doctor.device("anna")

        steps = [(line["direction"], line["message"], line["opcode"]) for line in LOG.find("handshake")]
        assert steps == [
            ("received", "KEY_EXCHANGE", 10),
            ("sent", "KEY_EXCHANGE_REPLY", 11),
            ("received", "AUTH_REQUEST", 10),
            ("sent", "AUTH_RESPONSE", 20),
            ("received", "SESSION_VERIFIER", 30),
        ]
        checks = " ".join(line["check"] for line in LOG.find("handshake")).split()
        assert {"V-010", "V-031", "V-036", "V-060", "V-061"} <= set(checks)

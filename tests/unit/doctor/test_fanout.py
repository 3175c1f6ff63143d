"""Groups at work, over real sockets: who gets a key when, who is sent what, and who can read what was captured."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest

from doctor import broadcast_log, catching_up, fanout, healing, log_writer, streams
from doctor.audit import Action
from doctor.catching_up import RECEIPT_PATIENCE
from shared.protocol.connection import HANDSHAKE_DEADLINE
from shared.protocol.epochs import Epoch
from shared.protocol.events import Disconnected, Dropped, EpochBegun, Failed, Repeated
from shared.protocol.resend_requests import ResendRequests
from shared.wire.checks import PeerError
from shared.wire.messages import Position, ResendRequest, SignedMessage, Stream, TargetKind
from shared.wire.opcodes import DisconnectReason, Opcode
from tests.doctor_bench import BELL, EVERYONE, LOG, ME, Device, Doctor, on_a_loop, running
from tests.protocol_bench import frame_of

WARD = Stream(TargetKind.GROUP, "ward")


def opens(epoch: Epoch, frame: bytes) -> bool:
    """Whether an epoch's secret opens a captured BROADCAST, whatever key id it names."""
    sequence = int.from_bytes(frame[22:30], "big")
    try:
        epoch.open(sequence, frame_of(frame))
    except PeerError:
        return False
    return True


def readable(leaver: Device, frames: list[bytes]) -> int:
    """How many captured frames open with any secret that a device ever held."""
    return sum(any(opens(epoch, frame) for epoch in leaver.epochs) for frame in frames)


def epochs_of(doctor: Doctor, group: str = "everyone") -> int:
    """How many epochs have begun."""
    return doctor.fanout.groups[group].epoch_number


def keep_quiet(device: Device) -> None:
    """Let a device not ask for what it lacks."""
    assert device.stream is not None
    device.stream.connection._questions._not_before = 1 << 62


async def spoil(doctor: Doctor, number: int) -> None:
    """Change a stored body behind the doctor's back."""
    await doctor.writer.submit(
        lambda db: db.execute("UPDATE messages SET body = zeroblob(40) WHERE number = ?", (number,))
    )


# Joining


@on_a_loop
async def test_a_slow_member_does_not_hold_up_who_joins_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the last epoch took to hand out, a joiner's comes well within its handshake's ten seconds."""
    async with running(tmp_path) as doctor:
        await doctor.device("anna")
        group = doctor.fanout.groups["everyone"]
        group.distribution = 60.0
        began = asyncio.get_running_loop().time()
        monkeypatch.setattr(fanout, "LONGEST_JOIN_WINDOW", 0.2)

        await doctor.device("bert")

        assert group.timer is None
        assert asyncio.get_running_loop().time() - began < HANDSHAKE_DEADLINE / 1000


@on_a_loop
async def test_a_member_that_comes_late_to_an_old_epoch_does_not_count_as_slow(tmp_path: Path) -> None:
    """Only how the current epoch is handed out says how long that takes now."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        group = doctor.fanout.groups["everyone"]
        doctor.session(anna).stream.pause_writing()
        doctor.fanout.next_epoch(group)
        doctor.fanout.next_epoch(group)
        group.distribution = 0.0
        group.began -= 60_000
        old = group.epoch_number - 1

        entry = group.log.at(group.log.end - 2)
        assert isinstance(entry, Epoch)
        assert entry.number == old
        doctor.session(anna).stream.resume_writing()
        await anna.until(lambda device: device.epoch() == group.epoch_number, "the newest epoch")
        assert group.distribution >= 60


@on_a_loop
async def test_joins_within_a_window_share_one_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten devices at once are not ten rounds of keys for everyone."""
    monkeypatch.setattr(fanout, "JOIN_WINDOW", 0.3)
    async with running(tmp_path) as doctor:
        invitations = [await doctor.invite(f"p{number}") for number in range(10)]
        devices = [Device(invitation) for invitation in invitations]
        before = epochs_of(doctor)
        await asyncio.gather(*(doctor.connect(device) for device in devices))
        for device in devices:
            await LOG.until("established", patient=device.patient_id)
        for device in devices:
            await doctor.attached(device)

        begun = epochs_of(doctor) - before
        assert 1 <= begun <= 3
        assert {device.epoch() for device in devices} == {epochs_of(doctor)}
        assert doctor.fanout.groups["everyone"].roster == {device.patient_id for device in devices}


@on_a_loop
async def test_a_message_after_a_join_rolls_the_epoch_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the window: the joiner reads what is accepted after its join, under an epoch that counts it in."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        monkeypatch.setattr(fanout, "JOIN_WINDOW", 3600.0)
        group = doctor.fanout.groups["everyone"]
        before = group.epoch_number
        bert = Device(await doctor.invite("bert"))
        await doctor.connect(bert)
        await BELL.until(lambda: "bert" in group.members)
        assert [group.timer is None, "bert" in group.roster] == [False, False]

        answer = await doctor.broadcast("to both")

        assert [group.timer is None, group.epoch_number] == [True, before + 1]
        assert group.roster == {"anna", "bert"}
        assert answer.recipients == 2
        for device in (anna, bert):
            await doctor.delivered(device, answer.number)
            assert device.bodies() == [b"to both"]


@on_a_loop
async def test_a_joiner_reads_nothing_that_was_accepted_before(tmp_path: Path) -> None:
    """Neither by a key nor by being sent it."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        early = await doctor.broadcast("before")
        await doctor.delivered(anna, early.number)
        bert = await doctor.device("bert")
        late = await doctor.broadcast("after")
        await doctor.delivered(bert, late.number)

        assert bert.bodies() == [b"after"]
        assert doctor.states(early.id) == {"anna": "delivered"}
        assert readable(anna, anna.broadcasts) == 2
        assert readable(bert, anna.broadcasts) == 1


@on_a_loop
async def test_a_patient_that_is_added_to_a_group_gets_its_key_at_once(tmp_path: Path) -> None:
    """On the connection that it has; a patient that is away gets it when it comes."""
    async with running(tmp_path) as doctor:
        commands = doctor.gateway.commands
        anna, bert = await doctor.device("anna"), await doctor.device("bert")
        await commands.create_group("ward", ME)
        bert.cut()
        await LOG.until("session ended", patient="bert")

        await commands.add_member("ward", "anna", ME)
        await commands.add_member("ward", "bert", ME)
        await doctor.attached(anna, "ward")
        answer = await doctor.broadcast("round", "ward")
        await doctor.delivered(anna, answer.number)

        assert answer.recipients == 2
        assert anna.bodies("ward") == [b"round"]
        await doctor.reconnect(bert)
        await doctor.delivered(bert, answer.number)
        assert bert.bodies("ward") == [b"round"]
        assert bert.count(EpochBegun) == 3  # everyone, everyone again, ward


# Leaving


@on_a_loop
async def test_what_is_accepted_after_a_revocation_opens_with_nothing_the_leaver_held(tmp_path: Path) -> None:
    """Every secret it ever held is tried on every captured frame; on those before, they work."""
    async with running(tmp_path) as doctor:
        anna, eve = await doctor.device("anna"), await doctor.device("eve")
        for text in ("one", "two"):
            await doctor.broadcast(text)
        before = await doctor.broadcast("three")
        await doctor.delivered(anna, before.number)
        await doctor.delivered(eve, before.number)

        await doctor.gateway.commands.revoke("eve", ME)
        for text in ("four", "five"):
            last = await doctor.broadcast(text)
        await doctor.delivered(anna, last.number)
        await eve.gone()

        frames = anna.broadcasts
        assert len(frames) == 5
        assert readable(eve, frames[:3]) == 3
        assert readable(eve, frames[3:]) == 0
        assert readable(anna, frames) == 5
        assert eve.bodies() == [b"one", b"two", b"three"]
        assert doctor.states(last.id) == {"anna": "delivered"}


@on_a_loop
async def test_what_is_accepted_after_a_removal_opens_with_nothing_the_leaver_held(tmp_path: Path) -> None:
    """The session goes on, in its other groups."""
    async with running(tmp_path) as doctor:
        commands = doctor.gateway.commands
        await commands.create_group("ward", ME)
        anna, eve = await doctor.device("anna", "ward"), await doctor.device("eve", "ward")
        before = await doctor.broadcast("before", "ward")
        await doctor.delivered(eve, before.number)

        await commands.remove_member("ward", "eve", ME)
        await doctor.broadcast("after", "ward")
        last = await doctor.broadcast("to all")
        for device in (anna, eve):
            await doctor.delivered(device, last.number)

        assert len(anna.broadcasts) == 3
        assert readable(eve, anna.broadcasts) == 2  # all but `after`
        assert eve.bodies("ward") == [b"before"]
        assert anna.bodies("ward") == [b"before", b"after"]


@on_a_loop
async def test_a_revocation_among_broadcasts_is_a_clean_cut(tmp_path: Path) -> None:
    """Orders in parallel: whatever was accepted after the revocation has no recipient and no reader more than it should."""
    async with running(tmp_path) as doctor:
        anna, eve = await doctor.device("anna"), await doctor.device("eve")
        commands = doctor.gateway.commands
        answers = asyncio.gather(*(doctor.broadcast(f"{number}") for number in range(20)))
        revoking = asyncio.create_task(commands.revoke("eve", ME))
        later = asyncio.gather(*(doctor.broadcast(f"later {number}") for number in range(20)))
        journal = tmp_path / "audit" / "journal.jsonl"

        departure = await revoking
        assert departure.groups == ["everyone"]
        assert b'"action":"revoked","subject":"eve"' in journal.read_bytes()
        assert doctor.audited(Action.REVOKED) == [("eve", "groups everyone")]
        assert "eve" not in doctor.fanout.sessions
        assert "eve" not in doctor.fanout.groups["everyone"].roster
        assert doctor.house.roster.member("eve") is not None
        accepted = [*await answers, *await later]
        after = await asyncio.gather(*(doctor.broadcast(f"after {number}") for number in range(5)))
        await doctor.delivered(anna, max(answer.number for answer in after))
        await eve.gone()

        (cut,) = [
            row[1]
            for row in doctor.reader.execute(
                "SELECT patient_id, until FROM memberships WHERE patient_id = 'eve' AND stream = 'group:everyone'"
            )
        ]
        frames = dict(
            zip(sorted(answer.number for answer in [*accepted, *after]), anna.broadcasts, strict=True)
        )
        for number, frame in frames.items():
            assert readable(eve, [frame]) == int(number <= cut)
        for answer in [*accepted, *after]:
            assert ("eve" in doctor.states(answer.id)) == (answer.number <= cut)
            assert answer.recipients == (2 if answer.number <= cut else 1)
        assert all(answer.number > cut for answer in after)
        assert len(anna.bodies()) == 45


@on_a_loop
async def test_a_removed_member_still_gets_what_it_is_owed(tmp_path: Path) -> None:
    """What was accepted while it was away and a member, and nothing after."""
    async with running(tmp_path) as doctor:
        commands = doctor.gateway.commands
        await commands.create_group("ward", ME)
        anna = await doctor.device("anna", "ward")
        anna.cut()
        await LOG.until("session ended", patient="anna")
        owed = await doctor.broadcast("owed", "ward")
        await commands.remove_member("ward", "anna", ME)
        await doctor.broadcast("not owed", "ward")

        await doctor.reconnect(anna)
        await doctor.delivered(anna, owed.number)

        assert anna.bodies("ward") == [b"owed"]
        assert not doctor.session(anna).attachments[WARD].attached
        assert epochs_of(doctor, "ward") not in [
            epoch.number for epoch in anna.epochs if epoch.group == "ward"
        ]


@on_a_loop
async def test_a_member_that_lags_when_it_is_removed_gets_the_rest_as_direct(tmp_path: Path) -> None:
    """Its cursor is gone with the membership, the messages are not."""
    async with running(tmp_path) as doctor:
        commands = doctor.gateway.commands
        await commands.create_group("ward", ME)
        anna = await doctor.device("anna", "ward")
        stream = doctor.session(anna).stream
        stream.pause_writing()  # as the transport does when the device reads too slowly
        await doctor.broadcast("one", "ward")
        last = await doctor.broadcast("two", "ward")
        await commands.remove_member("ward", "anna", ME)
        await doctor.broadcast("three", "ward")

        stream.resume_writing()
        await doctor.delivered(anna, last.number)

        assert anna.bodies("ward") == [b"one", b"two"]
        assert all(shown.direct for shown in anna.inbox[WARD])


@on_a_loop
async def test_a_member_that_is_added_again_in_the_same_session_reconnects(tmp_path: Path) -> None:
    """A session that held an epoch takes none but the next; a new one takes any. Nothing in between is for it."""
    async with running(tmp_path) as doctor:
        commands = doctor.gateway.commands
        await commands.create_group("ward", ME)
        anna = await doctor.device("anna", "ward")
        first = await doctor.broadcast("one", "ward")
        await doctor.delivered(anna, first.number)
        await commands.remove_member("ward", "anna", ME)
        await doctor.broadcast("two", "ward")

        await commands.add_member("ward", "anna", ME)
        await anna.gone()
        assert anna.disconnects == [DisconnectReason.CLOSING]
        await doctor.reconnect(anna)
        await doctor.attached(anna, "ward")
        last = await doctor.broadcast("three", "ward")
        await doctor.delivered(anna, last.number)

        assert anna.bodies("ward") == [b"one", b"three"]
        assert anna.count(Failed) == 0


@on_a_loop
async def test_a_member_that_is_added_again_before_it_held_a_key_goes_on(tmp_path: Path) -> None:
    """It was owed something of its first membership, and gets both, in order, without a new connection."""
    async with running(tmp_path) as doctor:
        commands = doctor.gateway.commands
        await commands.create_group("ward", ME)
        anna = await doctor.device("anna", "ward")
        anna.cut()
        await LOG.until("session ended", patient="anna")
        await doctor.broadcast("owed", "ward")
        await commands.remove_member("ward", "anna", ME)
        await doctor.broadcast("in between", "ward")
        await doctor.reconnect(anna)
        await anna.until(lambda it: it.bodies("ward") == [b"owed"])

        await commands.add_member("ward", "anna", ME)
        await doctor.attached(anna, "ward")
        last = await doctor.broadcast("again", "ward")
        await doctor.delivered(anna, last.number)

        assert anna.bodies("ward") == [b"owed", b"again"]
        assert anna.disconnects == []


# Catching up


@on_a_loop
async def test_what_was_missed_comes_first_and_in_order(tmp_path: Path) -> None:
    """As DIRECT, more than one batch of it; then the key, then the live ones."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        anna.cut()
        await LOG.until("session ended", patient="anna")
        texts = [f"missed {number}" for number in range(catching_up.BATCH * 2 + 3)]
        for answer in [await doctor.broadcast(text) for text in texts]:
            last = answer

        await doctor.connect(anna)
        live = await doctor.broadcast("live")
        await doctor.delivered(anna, live.number)
        await doctor.attached(anna)
        final = await doctor.broadcast("final")
        await doctor.delivered(anna, final.number)

        assert anna.bodies() == [text.encode() for text in [*texts, "live", "final"]]
        assert [shown.direct for shown in anna.inbox[EVERYONE]][: len(texts)] == [True] * len(texts)
        assert not anna.inbox[EVERYONE][-1].direct
        assert doctor.states(last.id) == {"anna": "delivered"}


@on_a_loop
async def test_numbers_without_a_message_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a confirmed restore burns them: who comes back is attached, and not looked after without end."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        anna.cut()
        await LOG.until("session ended", patient="anna")
        for stream in (EVERYONE, anna.own):
            doctor.fanout.last[stream] += 5
        loads: list[Stream] = []
        load = doctor.fanout.catch_up._outbox.load

        def watch(db: sqlite3.Connection, stream: Stream, *rest: int) -> list[tuple[int, SignedMessage]]:
            loads.append(stream)
            return load(db, stream, *rest)

        monkeypatch.setattr(doctor.fanout.catch_up._outbox, "load", watch)
        await doctor.reconnect(anna)
        await doctor.settled()

        assert sorted(loads, key=str) == [EVERYONE, anna.own]


@on_a_loop
async def test_being_away_is_not_leaving(tmp_path: Path) -> None:
    """A disconnect begins no epoch, and the device that comes back gets the present one."""
    async with running(tmp_path) as doctor:
        anna, bert = await doctor.device("anna"), await doctor.device("bert")
        await doctor.attached(anna)
        before = epochs_of(doctor)
        bert.cut()
        await LOG.until("session ended", patient="bert")
        answer = await doctor.broadcast("still meant for bert")
        await doctor.delivered(anna, answer.number)

        assert epochs_of(doctor) == before
        assert doctor.states(answer.id) == {"anna": "delivered", "bert": "queued"}
        await doctor.reconnect(bert)
        await doctor.delivered(bert, answer.number)
        assert bert.epoch() == before == epochs_of(doctor)


@on_a_loop
async def test_an_expired_message_is_sent_without_its_body(tmp_path: Path) -> None:
    """The device moves on, shows nothing and says so."""
    async with running(tmp_path, message_hours=1e-9) as doctor:
        anna = await doctor.device("anna")
        anna.cut()
        await LOG.until("session ended", patient="anna")
        late = await doctor.broadcast("too late")
        await doctor.a_millisecond_over()

        await doctor.reconnect(anna)
        await doctor.delivered(anna, late.number)

        assert anna.bodies() == [None]
        assert doctor.states(late.id) == {"anna": "expired"}


@on_a_loop
async def test_a_device_whose_disk_was_put_back_is_sent_again_what_it_lost(tmp_path: Path) -> None:
    """It says that it is further back than the doctor knows: the doctor sends what it still holds, in order."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        numbers = [(await doctor.broadcast(f"{number}")).number for number in range(3)]
        await doctor.delivered(anna, numbers[-1])
        anna.cut()
        await LOG.until("session ended", patient="anna")
        anna.positions._last = {EVERYONE: numbers[0]}
        anna.inbox.clear()

        await doctor.reconnect(anna)
        await anna.until(lambda it: len(it.bodies()) == 2)

        assert anna.bodies() == [b"1", b"2"]
        assert anna.count(Failed) == 0


# Sending again


def let_patience_pass(doctor: Doctor, device: Device, group: str = "everyone") -> None:
    """As if ten seconds had passed since the last unreceipted message was written."""
    attachment = doctor.session(device).attachments[streams.of_group(group)]
    assert attachment.unreceipted_since is not None
    attachment.unreceipted_since -= RECEIPT_PATIENCE
    doctor.fanout.send_unreceipted_again()


@on_a_loop
async def test_what_stays_unreceipted_is_sent_again_as_direct(tmp_path: Path) -> None:
    """After ten seconds and not before, from the first; the device that had dropped it applies it then."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        lost = anna.connection()._epochs  # an empty set of epochs: the device forgets the group's key
        stream = anna.stream
        assert stream is not None
        stream.connection._epochs = lost
        keep_quiet(anna)
        texts = ["one", "two", "three"]
        numbers = [(await doctor.broadcast(text)).number for text in texts]
        await anna.until(lambda it: it.count(Dropped) == 3)
        doctor.fanout.send_unreceipted_again()
        assert anna.bodies() == []

        let_patience_pass(doctor, anna)
        await doctor.delivered(anna, numbers[-1])

        assert anna.bodies() == [text.encode() for text in texts]
        assert all(shown.direct for shown in anna.inbox[EVERYONE])
        attachment = doctor.session(anna).attachments[EVERYONE]
        assert attachment.unreceipted_since is None


@on_a_loop
async def test_nothing_is_sent_again_into_a_full_socket(tmp_path: Path) -> None:
    """A slow reader has not had its ten seconds yet."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        anna.acknowledges = False
        await doctor.broadcast("one")
        await anna.until(lambda it: it.bodies())
        attachment = doctor.session(anna).attachments[EVERYONE]
        doctor.session(anna).stream.pause_writing()

        let_patience_pass(doctor, anna)

        assert attachment.unreceipted_since is not None
        doctor.session(anna).stream.resume_writing()
        doctor.fanout.send_unreceipted_again()
        await doctor.settled()
        assert anna.bodies() == [b"one"]  # known already: applied once


def direct_starts(device: Device, doctor: Doctor) -> list[int]:
    """Watch which start number goes with each DIRECT that a session sends from now on."""
    connection, starts = doctor.session(device).connection, list[int]()
    send = connection.send_direct

    def watch(start: int, message: SignedMessage) -> None:
        starts.append(start)
        send(start, message)

    connection.send_direct = watch  # type: ignore[method-assign]
    return starts


@on_a_loop
async def test_sending_again_stops_at_the_end_of_a_membership(tmp_path: Path) -> None:
    """Two memberships, everything unreceipted: what was accepted between them is never sent, what is in them is."""
    async with running(tmp_path) as doctor:
        commands = doctor.gateway.commands
        await commands.create_group("ward", ME)
        anna = await doctor.device("anna", "ward")
        anna.cut()
        await LOG.until("session ended", patient="anna")
        mine = await doctor.broadcast("mine", "ward")
        await commands.remove_member("ward", "anna", ME)
        between = await doctor.broadcast("not mine", "ward")
        await commands.add_member("ward", "anna", ME)
        again = await doctor.broadcast("mine again", "ward")
        anna.acknowledges = False
        await doctor.connect(anna)
        await anna.until(lambda it: len(it.bodies("ward")) == 2)
        starts = direct_starts(anna, doctor)

        let_patience_pass(doctor, anna, "ward")
        await anna.until(lambda it: it.count(Repeated) == 2)
        anna.acknowledge(WARD, mine.number)
        await doctor.delivered(anna, mine.number)
        anna.acknowledge(WARD, again.number)
        await doctor.delivered(anna, again.number)

        assert starts == [0, between.number]
        assert anna.bodies("ward") == [b"mine", b"mine again"]
        assert doctor.states(mine.id) == doctor.states(again.id) == {"anna": "delivered"}
        assert doctor.states(between.id) == {}
        assert anna.count(Failed) == 0


@on_a_loop
async def test_a_removed_member_is_sent_again_what_it_did_not_receipt(tmp_path: Path) -> None:
    """While its session lasts; then by the next one."""
    async with running(tmp_path) as doctor:
        commands = doctor.gateway.commands
        await commands.create_group("ward", ME)
        anna = await doctor.device("anna", "ward")
        assert anna.stream is not None
        anna.stream.connection._epochs = anna.connection()._epochs
        keep_quiet(anna)
        owed = await doctor.broadcast("owed", "ward")
        await anna.until(lambda it: it.count(Dropped) == 1)
        await commands.remove_member("ward", "anna", ME)

        let_patience_pass(doctor, anna, "ward")
        await doctor.delivered(anna, owed.number)

        assert anna.bodies("ward") == [b"owed"]
        assert doctor.states(owed.id) == {"anna": "delivered"}


# The writer's turns


@on_a_loop
async def test_keys_go_out_in_portions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most so many in one turn of the loop; all in the end."""
    monkeypatch.setattr(log_writer, "GROUP_KEYS_A_TURN", 2)
    async with running(tmp_path) as doctor:
        devices = [await doctor.device(f"p{number}") for number in range(5)]
        for device in devices:
            await doctor.attached(device)
        group = doctor.fanout.groups["everyone"]
        held: list[int] = []

        doctor.fanout.next_epoch(group)
        for _ in range(3):
            doctor.fanout.log_writer.write_pass()
            held.append(sum(a.held_epoch == group.epoch_number for a in group.attached))

        assert held == [2, 4, 5]
        answer = await doctor.broadcast("to all")
        for device in devices:
            await doctor.delivered(device, answer.number)
        assert group.distribution >= 0


@on_a_loop
async def test_a_cursor_that_fell_behind_the_log_is_cut_and_catches_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told why, comes back, and misses nothing."""
    monkeypatch.setattr(broadcast_log, "RETENTION_BYTES", 3000)
    async with running(tmp_path) as doctor:
        anna, slow = await doctor.device("anna"), await doctor.device("slow")
        stream = doctor.session(slow).stream
        stream.pause_writing()
        texts = [f"{number}" * 500 for number in range(8)]
        for text in texts:
            last = await doctor.broadcast(text)
        await doctor.delivered(anna, last.number)

        stream.resume_writing()
        await slow.gone()

        assert slow.disconnects == [DisconnectReason.LAGGING]
        assert anna.count(Disconnected) == 0
        await doctor.reconnect(slow)
        await doctor.delivered(slow, last.number)
        assert slow.bodies() == [text.encode() for text in texts]


@on_a_loop
async def test_a_slow_reader_holds_nobody_up(tmp_path: Path) -> None:
    """The others' receipts come while it waits; then it gets everything, in one slice."""
    async with running(tmp_path) as doctor:
        anna, slow = await doctor.device("anna"), await doctor.device("slow")
        stream = doctor.session(slow).stream
        stream.pause_writing()
        for number in range(5):
            last = await doctor.broadcast(f"{number}")
        await doctor.delivered(anna, last.number)
        assert slow.bodies() == []
        assert doctor.states(last.id) == {"anna": "delivered", "slow": "queued"}

        stream.resume_writing()
        await doctor.delivered(slow, last.number)

        assert slow.bodies() == anna.bodies()


@on_a_loop
async def test_a_full_epoch_is_followed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key seals so many messages and no more; no sequence number is used twice under one key."""
    monkeypatch.setattr(fanout, "MESSAGE_LIMIT", 2)
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        before = epochs_of(doctor)
        for number in range(5):
            last = await doctor.broadcast(f"{number}")
        await doctor.delivered(anna, last.number)

        assert epochs_of(doctor) == before + 2
        assert len({frame[6:30] for frame in anna.broadcasts}) == 5
        assert anna.epoch() == before + 2


@on_a_loop
async def test_contributions_of_those_online_go_into_an_epoch(tmp_path: Path) -> None:
    """And its salt alone makes it new: two epochs of the same members differ."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        group = doctor.fanout.groups["everyone"]
        doctor.fanout.next_epoch(group)
        await doctor.attached(anna)

        first, second = anna.epochs[-2:]
        assert first.number + 1 == second.number
        assert first.secret != second.secret
        assert second.secret.reveal() not in first.secret.reveal()


@on_a_loop
async def test_a_position_of_a_group_that_was_left_by_retiring_is_no_lie(tmp_path: Path) -> None:
    """A device that was retired while its receipt was under way may come back: it did hold that message."""
    async with running(tmp_path) as doctor:
        commands = doctor.gateway.commands
        await commands.create_group("ward", ME)
        anna = await doctor.device("anna", "ward")
        anna.acknowledges = False
        await doctor.broadcast("read, not receipted", "ward")
        await anna.until(lambda it: it.bodies("ward"))
        await commands.retire("anna", ME)
        await anna.gone()

        await doctor.connect(anna)
        await doctor.attached(anna)

        assert anna.count(Failed) == 0
        assert anna.alerts == []


# A disk that gives back something else


@on_a_loop
async def test_a_spoilt_message_cuts_the_session_that_needs_it_and_touches_no_other(tmp_path: Path) -> None:
    """The damage is named in the log; nobody is shown anything else."""
    async with running(tmp_path) as doctor:
        anna, bert = await doctor.device("anna"), await doctor.device("bert")
        bert.cut()
        await bert.gone()
        missed = await doctor.broadcast("one")
        await spoil(doctor, missed.number)

        await doctor.connect(bert)
        await bert.gone()

        assert LOG.find("missed messages not read", patient="bert")
        assert bert.bodies() == []
        assert anna.closed == 0
        await doctor.delivered(anna, (await doctor.broadcast("two")).number)


@on_a_loop
async def test_a_revocation_is_whole_whatever_another_session_is_short_of(tmp_path: Path) -> None:
    """A member whose catch-up fails must not keep the revoked one's other groups in their old epochs."""
    async with running(tmp_path) as doctor:
        await doctor.gateway.commands.create_group("ward", ME)
        anna = await doctor.device("anna", "ward")
        bert = await doctor.device("bert", "ward")
        bert.cut()
        await bert.gone()
        await spoil(doctor, (await doctor.broadcast("one")).number)
        before = {group: epochs_of(doctor, group) for group in ("everyone", "ward")}
        await doctor.connect(bert)

        answer = await doctor.gateway.commands.revoke("anna", ME)

        assert sorted(answer.groups) == ["everyone", "ward"]
        for group, number in before.items():
            assert epochs_of(doctor, group) > number
            assert "anna" not in doctor.fanout.groups[group].members
        await anna.gone()
        assert anna.disconnects == [DisconnectReason.REVOKED]


@on_a_loop
async def test_a_retired_device_is_told_so(tmp_path: Path) -> None:
    """A device that only saw its connection cut would come straight back."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")

        await doctor.gateway.commands.retire("anna", ME)

        await anna.gone()
        assert anna.disconnects == [DisconnectReason.RETIRED]


@on_a_loop
async def test_what_everybody_has_read_is_let_go(tmp_path: Path) -> None:
    """Frames and markers alike: a marker holds the secret of its epoch."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        group = doctor.fanout.groups["everyone"]
        for text in ("one", "two"):
            doctor.fanout.next_epoch(group)
            await doctor.delivered(anna, (await doctor.broadcast(text)).number)

        doctor.fanout.forget_read()

        assert group.log.base == group.log.end
        await doctor.delivered(anna, (await doctor.broadcast("three")).number)


@on_a_loop
async def test_what_one_cursor_has_not_passed_is_kept(tmp_path: Path) -> None:
    """The slowest reader decides."""
    async with running(tmp_path) as doctor:
        anna, slow = await doctor.device("anna"), await doctor.device("slow")
        group = doctor.fanout.groups["everyone"]
        doctor.session(slow).stream.pause_writing()
        await doctor.delivered(anna, (await doctor.broadcast("one")).number)

        doctor.fanout.forget_read()

        assert group.log.end - group.log.base == 1
        doctor.session(slow).stream.resume_writing()
        await slow.until(lambda device: device.bodies() == [b"one"], "the message")


# What a device says that it lacks


@on_a_loop
async def test_a_gap_is_healed_at_once(tmp_path: Path) -> None:
    """The device asks, and is sent what it was sent before, in order; no ten seconds have to pass."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        assert anna.stream is not None
        whole, anna.stream.connection._epochs = anna.stream.connection._epochs, anna.connection()._epochs
        keep_quiet(anna)
        await doctor.broadcast("one")
        await anna.until(lambda it: it.count(Dropped) == 1)
        anna.stream.connection._epochs, anna.stream.connection._questions = whole, ResendRequests()

        last = await doctor.broadcast("two")
        await doctor.delivered(anna, last.number)

        assert anna.bodies() == [b"one", b"two"]
        assert LOG.find("sent again on request", patient="anna", reason="gap", result="missing")


@on_a_loop
async def test_a_device_without_the_key_names_it_and_is_healed(tmp_path: Path) -> None:
    """The doctor learns which epoch it holds for that device, and sends the message itself."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        assert anna.stream is not None
        anna.stream.connection._epochs = anna.connection()._epochs

        await doctor.delivered(anna, (await doctor.broadcast("one")).number)

        assert anna.bodies() == [b"one"]
        (entry,) = LOG.find("sent again on request", patient="anna", reason="unknown key")
        assert entry["epoch"] == epochs_of(doctor)


@on_a_loop
async def test_questions_are_answered_once_a_second_and_none_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device cannot make the doctor read and seal without end; its last question is answered all the same."""
    monkeypatch.setattr(healing, "INTERVAL", 200)
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        one = await doctor.broadcast("one")
        await doctor.delivered(anna, one.number)
        two = await doctor.broadcast("two")
        await doctor.delivered(anna, two.number)
        for _ in range(49):
            ask(anna, EVERYONE, 0)
        ask(anna, EVERYONE, one.number)

        second = await LOG.until("sent again on request", count=2, patient="anna")

        assert second["position"] == one.number
        await anna.until(lambda it: it.count(Repeated) == 3, "both, then the second")
        assert len(LOG.find("sent again on request", patient="anna")) == 2


@on_a_loop
async def test_a_question_waits_for_a_full_socket(tmp_path: Path) -> None:
    """It is answered when the device reads again, though it does not ask again."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        await doctor.delivered(anna, (await doctor.broadcast("one")).number)
        stream = doctor.session(anna).stream
        ask(anna, EVERYONE, 0)
        stream.writable = False  # as when the buffer fills up in this very moment
        await doctor.settled()
        assert LOG.find("sent again on request") == []

        stream.resume_writing()

        await anna.until(lambda it: it.count(Repeated) == 1, "the message once more")


@on_a_loop
async def test_a_question_of_a_session_that_ends_is_forgotten(tmp_path: Path) -> None:
    """The next session begins with where the device stands."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        await doctor.delivered(anna, (await doctor.broadcast("one")).number)
        for _ in range(2):
            ask(anna, EVERYONE, 0)
        await LOG.until("sent again on request")

        anna.cut()
        await LOG.until("session ended", patient="anna")

        assert len(LOG.find("sent again on request")) == 1  # no timer is left: the loop would be told of it


@on_a_loop
async def test_a_long_gap_is_healed_by_one_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one batch, and what is broadcast meanwhile: the device need not ask again."""
    monkeypatch.setattr(catching_up, "BATCH", 2)
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        assert anna.stream is not None
        whole, anna.stream.connection._epochs = anna.stream.connection._epochs, anna.connection()._epochs
        keep_quiet(anna)
        texts = [f"message {number}" for number in range(7)]
        for text in texts:
            last = await doctor.broadcast(text)
        await anna.until(lambda it: it.count(Dropped) == 7)
        anna.stream.connection._epochs = whole

        ask(anna, EVERYONE, 0)
        for text in ("meanwhile", "and then"):
            last = await doctor.broadcast(text)

        await doctor.delivered(anna, last.number)
        assert anna.bodies() == [text.encode() for text in (*texts, "meanwhile", "and then")]
        assert len(LOG.find("sent again on request")) == 1


def trouble(doctor: Doctor, patient: str) -> str | None:
    """What `telemed-doctor patients` shows of it."""
    (text,) = [row.trouble for row in doctor.gateway.commands.patients() if row.patient == patient]
    return text


@on_a_loop
async def test_what_cannot_be_healed_is_shown_to_the_doctor(tmp_path: Path) -> None:
    """With the epoch that the device lacks; nothing is shown of a patient that is well."""
    async with running(tmp_path) as doctor:
        await doctor.gateway.commands.create_group("ward", ME)
        anna = await doctor.device("anna")
        await doctor.delivered(anna, (await doctor.broadcast("one")).number)
        assert anna.stream is not None
        assert trouble(doctor, "anna") is None
        epoch = doctor.fanout.groups["ward"].epoch
        assert epoch is not None

        request = ResendRequest(epoch.key_id, [Position(EVERYONE, anna.inbox[EVERYONE][0].number, [])])
        anna.stream.connection._send_record(Opcode.RESEND_REQUEST, request)
        anna.stream.flush()
        await LOG.until("sent again on request", result="nothing was missing")

        text = trouble(doctor, "anna")
        assert text is not None
        assert text.endswith(
            f"it cannot open a broadcast of epoch {epoch.number} of ward, where it is no member,"
            " though it has all that it was sent"
        )


@on_a_loop
async def test_a_key_of_no_present_epoch_is_called_past(tmp_path: Path) -> None:
    """The doctor keeps no list of what has passed."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        assert anna.stream is not None
        request = ResendRequest(b"k" * 16, [Position(EVERYONE, 0, [])])
        anna.stream.connection._send_record(Opcode.RESEND_REQUEST, request)
        anna.stream.flush()
        await LOG.until("sent again on request", result="nothing was missing")

        assert "a broadcast of an epoch that has passed" in (trouble(doctor, "anna") or "")


@on_a_loop
async def test_v090_a_question_from_beyond_what_was_issued_ends_the_connection(tmp_path: Path) -> None:
    """It may be a restored backup of ours, as an impossible receipt may."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        last = await doctor.broadcast("one")
        await doctor.delivered(anna, last.number)

        ask(anna, EVERYONE, last.number + 1)

        await anna.gone()
        assert LOG.find("refused", check="V-090", patient="anna")


@on_a_loop
async def test_a_stranger_to_a_stream_is_sent_nothing_of_it(tmp_path: Path) -> None:
    """And the doctor is told why."""
    async with running(tmp_path) as doctor:
        await doctor.gateway.commands.create_group("ward", ME)
        anna = await doctor.device("anna")

        ask(anna, WARD, 0)

        await LOG.until("cannot send again: not a recipient", patient="anna", stream="group:ward")
        assert anna.closed == 0
        assert anna.bodies("ward") == []
        assert "it asked for group:ward, of which it is no recipient" in (trouble(doctor, "anna") or "")


@on_a_loop
async def test_a_device_that_asks_for_what_is_not_its_own_cannot_fill_the_log(tmp_path: Path) -> None:
    """Hundreds of names twice a second: the first one is written down, the latest is the device's trouble."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        assert anna.stream is not None
        names = [Stream(TargetKind.GROUP, f"ward-{number}") for number in range(200)]
        request = ResendRequest(b"", [Position(stream, 0, []) for stream in names])
        anna.stream.connection._send_record(Opcode.RESEND_REQUEST, request)
        anna.stream.flush()

        await BELL.until(lambda: "ward-199" in (trouble(doctor, "anna") or ""), "the last of them")
        assert len(LOG.find("cannot send again: not a recipient")) == 1


def ask(device: Device, stream: Stream, position: int) -> None:
    """Send a RESEND_REQUEST whatever the device lacks."""
    assert device.stream is not None
    request = ResendRequest(b"", [Position(stream, position, [])])
    device.stream.connection._send_record(Opcode.RESEND_REQUEST, request)
    device.stream.flush()

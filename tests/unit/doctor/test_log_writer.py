"""Who is abreast of a log, who lags and who is due: every way from one to another."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from doctor import broadcast_log
from doctor.sessions import Attachment, Group
from shared.wire.opcodes import DisconnectReason
from tests.doctor_bench import EVERYONE, Device, Doctor, on_a_loop, running


def place(doctor: Doctor, device: Device) -> tuple[Group, Attachment]:
    """The group of everyone, and a device's attachment to it."""
    return doctor.fanout.groups["everyone"], doctor.session(device).attachments[EVERYONE]


@on_a_loop
async def test_who_has_everything_shares_the_group_s_cursor(tmp_path: Path) -> None:
    """It has no cursor of its own, and nothing is due for it."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        await doctor.delivered(anna, (await doctor.broadcast("one")).number)

        group, attachment = place(doctor, anna)
        assert list(group.abreast) == [attachment]
        assert [group.lagging, doctor.fanout.log_writer._due] == [{}, {}]
        assert group.cursor == group.log.end


@on_a_loop
async def test_a_full_socket_lags_and_is_not_looked_at(tmp_path: Path) -> None:
    """Its cursor stays where it was, and no turn of the loop is taken for it."""
    async with running(tmp_path) as doctor:
        anna, slow = await doctor.device("anna"), await doctor.device("slow")
        group, attachment = place(doctor, slow)
        before = group.log.end
        doctor.session(slow).stream.pause_writing()
        await doctor.delivered(anna, (await doctor.broadcast("one")).number)

        assert group.lagging == {attachment: before}
        assert attachment not in group.abreast
        assert not doctor.fanout.log_writer._due
        assert not doctor.fanout.log_writer._pass_due

        doctor.session(slow).stream.resume_writing()
        await slow.until(lambda it: it.bodies() == [b"one"], "the message")
        assert attachment in group.abreast
        assert group.lagging == {}


@on_a_loop
async def test_a_socket_that_a_slice_fills_has_that_slice_behind_it(tmp_path: Path) -> None:
    """The transport says so before the write returns; what it took is not written to it again."""
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        group, attachment = place(doctor, anna)
        stream = doctor.session(anna).stream
        write = attachment.write

        def filling(frames: bytes) -> None:
            write(frames)
            stream.pause_writing()

        attachment.write = filling
        one = await doctor.broadcast("one")
        await anna.until(lambda it: it.bodies() == [b"one"], "the message")
        assert group.lagging == {attachment: group.log.end}
        stream.resume_writing()
        await doctor.delivered(anna, one.number)

        last = await doctor.broadcast("two")
        stream.resume_writing()
        await doctor.delivered(anna, last.number)
        assert len(anna.broadcasts) == 2


@on_a_loop
async def test_a_new_epoch_reaches_a_socket_that_was_full_before_its_messages(tmp_path: Path) -> None:
    """Frames of the old epoch, the key, frames of the new one: in this order, whoever is abreast already."""
    async with running(tmp_path) as doctor:
        anna, slow = await doctor.device("anna"), await doctor.device("slow")
        stream = doctor.session(slow).stream
        stream.pause_writing()
        await doctor.broadcast("old")
        doctor.fanout.next_epoch(doctor.fanout.groups["everyone"])
        last = await doctor.broadcast("new")
        await doctor.delivered(anna, last.number)

        stream.resume_writing()
        await doctor.delivered(slow, last.number)

        assert slow.bodies() == anna.bodies() == [b"old", b"new"]
        assert not any(shown.direct for shown in slow.inbox[EVERYONE])
        assert slow.epoch() == anna.epoch()


@on_a_loop
async def test_a_session_that_was_told_to_end_is_not_written_to(tmp_path: Path) -> None:
    """Its connection may stay for seconds, until the device has taken what waits."""
    async with running(tmp_path) as doctor:
        anna, bert = await doctor.device("anna"), await doctor.device("bert")
        group, attachment = place(doctor, bert)
        session = doctor.session(bert)
        session.disconnect(DisconnectReason.CLOSING)
        assert attachment not in group.abreast

        session.stream.resume_writing()  # what waited has been taken
        await doctor.delivered(anna, (await doctor.broadcast("one")).number)

        await bert.gone()
        assert bert.broadcasts == []
        assert group.lagging == {}


@on_a_loop
async def test_more_than_the_log_keeps_in_one_turn_cuts_nobody_silently(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log has let go of what those abreast have not been written: they are told, come back and miss nothing."""
    monkeypatch.setattr(broadcast_log, "RETENTION_BYTES", 3000)
    async with running(tmp_path) as doctor:
        anna = await doctor.device("anna")
        texts = [f"{number}" * 500 for number in range(8)]
        answers = await asyncio.gather(*(doctor.broadcast(text) for text in texts))
        await anna.gone()
        assert anna.disconnects == [DisconnectReason.LAGGING]

        await doctor.reconnect(anna)
        await doctor.delivered(anna, max(answer.number for answer in answers))
        assert sorted(anna.bodies()) == [text.encode() for text in texts]  # type: ignore[type-var]

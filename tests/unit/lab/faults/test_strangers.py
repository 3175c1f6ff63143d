"""Who attacks the door, and that each attack works where there is nothing against it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from doctor import door
from doctor.orders import InviteOrder
from lab.faults.callers import Caller
from lab.faults.forgers import Forger
from lab.faults.rows import slowloris
from lab.faults.strangers import Crowd, Target, addresses, at_rate
from tests.doctor_bench import BELL, LOG, ME, Doctor, running

NEVER = 3600.0


@asynccontextmanager
async def besieged(directory: Path, **changes: float) -> AsyncIterator[tuple[Doctor, Crowd]]:
    """A doctor in this process, and a crowd from two addresses."""
    LOG.open()
    async with running(directory, **changes) as doctor:
        crowd = Crowd(Target(doctor.gateway.port), addresses(2))
        try:
            yield doctor, crowd
        finally:
            crowd.let_go()
            await asyncio.gather(*(stranger.over.wait() for stranger in crowd.everyone))


async def test_idle_connections_stay_for_ever_where_no_deadline_reaps_them(tmp_path: Path) -> None:
    """From as many addresses as there are; each knows how long it was held."""
    async with besieged(tmp_path, handshake_deadline_s=NEVER) as (doctor, crowd):
        await at_rate(1000, 0.02, crowd.send)
        await BELL.until(lambda: doctor.house.door.unfinished == 20)
        assert crowd.standing == 20
        assert {line["host"] for line in LOG.find("connection opened")} == set(addresses(2))


async def test_idle_connections_are_reaped_by_the_deadline(tmp_path: Path) -> None:
    """Each of them is closed by the doctor."""
    async with besieged(tmp_path, handshake_deadline_s=0.05) as (_, crowd):
        stranger = await crowd.send()
        assert stranger is not None
        await stranger.over.wait()
        assert stranger.closed is not None
        assert stranger.held >= 0.04
        assert crowd.standing == 0


async def test_who_is_not_heard_is_counted(tmp_path: Path) -> None:
    """Nobody listens there."""
    crowd = Crowd(Target(path=str(tmp_path / "nobody")))
    assert await crowd.send() is None
    assert (crowd.unheard, crowd.everyone) == (1, [])


async def test_drips_hold_a_connection_only_up_to_its_deadline(tmp_path: Path) -> None:
    """The bytes are good as far as they go: without a deadline nothing would be wrong with them."""
    async with besieged(tmp_path, handshake_deadline_s=NEVER) as (doctor, crowd):
        stranger = await crowd.send()
        assert stranger is not None
        dripping = asyncio.create_task(slowloris.drip(stranger, slowloris.FRAME[:20], 0.001))
        await dripping
        await BELL.until(lambda: not doctor.house.streams)
        assert LOG.find("refused", check="V-006"), "it ended in the middle of a good frame"
    async with besieged(tmp_path / "strict", handshake_deadline_s=0.05) as (_, crowd):
        stranger = await crowd.send()
        assert stranger is not None
        await slowloris.drip(stranger, slowloris.FRAME, 0.01)
        assert LOG.find("refused", check="V-008")
        assert slowloris.cut_in_time(crowd, 0.05) == 1


@pytest.mark.parametrize(
    ("way", "check"), [(Forger.blind, "V-031"), (Forger.insist, "V-035")], ids=["blind", "insistent"]
)
async def test_a_forged_handshake_is_good_up_to_its_proof(
    tmp_path: Path, way: Callable[[Forger], Awaitable[None]], check: str
) -> None:
    """The thrifty one costs the doctor a decapsulation, the other one a signature as well."""
    async with besieged(tmp_path) as (doctor, crowd):
        await doctor.device("bed-1")
        await way(Forger(crowd, "bed-1"))
        assert [line["check"] for line in LOG.find("refused")] == [check]


async def test_under_load_a_forger_and_a_caller_have_to_bring_a_cookie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The forger that does not listen gets no further; the one that does, up to its proof; the honest one, in."""
    async with besieged(tmp_path) as (doctor, crowd):
        invitation = await doctor.gateway.commands.invite(InviteOrder(None), ME)
        caller = Caller(invitation.invitation, "127.0.0.1", doctor.gateway.port)
        monkeypatch.setattr(door.DoorKeeper, "crowded", lambda self, elapsed: True)
        forger = Forger(crowd, "bed-1")
        await forger.blind()
        assert LOG.find("refused") == []
        await forger.insist()
        assert forger.cookies == 1
        assert [line["check"] for line in LOG.find("refused")] == ["V-035"]

        assert await caller.visit() is not None
        assert caller.asked_again == 1
        assert not caller.inside


async def test_a_caller_stays_where_it_is_let_in_and_fails_where_nobody_is(tmp_path: Path) -> None:
    """It is one device: it enrols once, and comes again."""
    async with besieged(tmp_path) as (doctor, _):
        invitation = await doctor.gateway.commands.invite(InviteOrder(None), ME)
        caller = Caller(invitation.invitation, "127.0.0.1", doctor.gateway.port)
        assert await caller.visit() is not None
        assert await caller.come() is not None
        assert caller.inside
        await caller.leave()
        assert len(LOG.find("established")) == 2
        port = doctor.gateway.port
    assert await Caller(invitation.invitation, "127.0.0.1", port).visit() is None

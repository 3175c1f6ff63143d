"""Who watches is told that something has changed."""

from __future__ import annotations

import asyncio

import pytest

from doctor import feed
from doctor.feed import Feed, Topic
from shared.errors import UserError
from tests.doctor_bench import on_a_loop


@on_a_loop
async def test_changes_gather_until_they_are_taken() -> None:
    """Each topic once, however often it has changed; then there is nothing until something changes again."""
    it = Feed()
    with it.listening() as listener:
        for _ in range(1000):
            it.tell(Topic.MESSAGES)
            it.tell(Topic.PATIENTS)

        assert await listener.wait(1.0)
        assert listener.take() == [Topic.PATIENTS, Topic.MESSAGES]
        assert not await listener.wait(0.0)
        assert listener.take() == []


@on_a_loop
async def test_every_listener_hears_and_nobody_after_it_is_gone() -> None:
    """Also where a page goes away while it is told."""
    it = Feed()
    with it.listening() as first:
        with it.listening() as second:
            it.tell(Topic.GROUPS)
        it.tell(Topic.EVENTS)

    assert first.take() == [Topic.GROUPS, Topic.EVENTS]
    assert second.take() == [Topic.GROUPS]
    it.tell(Topic.GROUPS)
    assert first.take() == []


@on_a_loop
async def test_there_are_so_many_listeners_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more is told why."""
    monkeypatch.setattr(feed, "LISTENERS", 1)
    it = Feed()
    with it.listening(), pytest.raises(UserError, match="watching already"), it.listening():
        pass
    with it.listening():
        pass


@on_a_loop
async def test_the_doctors_end_lets_go_of_whoever_waits() -> None:
    """At once."""
    it = Feed()
    with it.listening() as listener:
        waiting = asyncio.create_task(listener.wait(3600.0))
        await asyncio.sleep(0)
        it.close()
        assert await waiting
        assert listener.ended

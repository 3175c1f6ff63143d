"""Passwords are made, hashed and verified one at a time."""

from __future__ import annotations

import asyncio

import pytest

from doctor.console import passwords
from doctor.console.passwords import LONGEST, QUEUE, SHORTEST, Busy, Cost, Hasher
from shared.errors import UserError
from tests.console_bench import CHEAP
from tests.doctor_bench import on_a_loop


@on_a_loop
async def test_a_hash_is_of_its_password_alone() -> None:
    """Argon2id with its cost and a salt of its own; what is no hash matches nothing; no account is no match."""
    hasher = Hasher(CHEAP)
    first, second = await hasher.hash("right"), await hasher.hash("right")

    assert first != second
    assert first.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert await hasher.verify("right", first)
    assert not await hasher.verify("wrong", first)
    assert not await hasher.verify("right", None)
    for rubbish in ("", "x", "$argon2id$v=19$m=1,t=1,p=1$AAAA$AAAA"):
        assert not await hasher.verify("right", rubbish)


def test_a_hash_costs_what_the_standard_recommends() -> None:
    """RFC 9106, section 4, the second choice: 64 MiB, three passes."""
    assert (Cost().memory, Cost().iterations) == (65_536, 3)


@on_a_loop
async def test_one_is_computed_at_a_time_and_few_wait() -> None:
    """The next beyond the queue is told at once; when somebody is done, there is room again."""
    hasher = Hasher(CHEAP)
    inside, go = 0, asyncio.Event()

    async def come() -> int:
        nonlocal inside
        async with hasher.turn():
            inside += 1
            most = inside
            await go.wait()
            inside -= 1
            return most

    waiting = [asyncio.create_task(come()) for _ in range(QUEUE)]
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await come()
    go.set()
    assert await asyncio.gather(*waiting) == [1] * QUEUE
    assert await come() == 1


def test_generated_passwords_differ_and_can_be_read_out() -> None:
    """Groups of letters that nobody takes for another."""
    made = {passwords.generate() for _ in range(100)}

    assert len(made) == 100
    for each in made:
        passwords.require_good(each)
        assert not set(each) & set("01iloIO")


@pytest.mark.parametrize("length", [0, SHORTEST - 1, LONGEST + 1])
def test_a_password_that_is_too_short_or_too_long_is_refused(length: int) -> None:
    """With what is asked for."""
    with pytest.raises(UserError, match="12 to 256 characters"):
        passwords.require_good("x" * length)

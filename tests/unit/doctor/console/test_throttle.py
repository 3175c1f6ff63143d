"""How long one waits between wrong passwords."""

from __future__ import annotations

import pytest

from doctor.console import throttle
from doctor.console.throttle import (
    FORGOTTEN_AFTER,
    FREE,
    LONGEST_FOR_ACCOUNT,
    LONGEST_FOR_ADDRESS,
    Throttle,
)

HOME, AWAY = "192.0.2.1", "198.51.100.9"


def guess(it: Throttle, times: int, account: str = "admin", address: str = AWAY, now: int = 0) -> None:
    """So many wrong passwords at one time."""
    for _ in range(times):
        it.failed(account, address, now)


def test_the_first_wrong_ones_cost_nothing_then_the_wait_doubles() -> None:
    """Up to a bound that is the address's; it goes with time, and is forgotten at last."""
    it = Throttle()
    waits = []
    for _ in range(10):
        guess(it, 1)
        waits.append(it.wait("admin", AWAY, 0))

    assert waits == [0, 0, *(1000 << step for step in range(6)), LONGEST_FOR_ADDRESS, LONGEST_FOR_ADDRESS]
    assert it.wait("admin", AWAY, 59_000) == 1000
    assert it.wait("admin", AWAY, 60_000) == 0
    guess(it, 1, now=60_000 + FORGOTTEN_AFTER + 1)
    assert it.wait("admin", AWAY, 60_000 + FORGOTTEN_AFTER + 1) == 0


def test_a_stranger_delays_an_account_a_little_and_its_operator_not_at_all() -> None:
    """Where the operator has logged in before, only what comes from there counts."""
    it = Throttle()
    it.succeeded("admin", HOME)
    guess(it, 1000)

    assert it.wait("admin", HOME, 0) == 0
    assert it.wait("admin", "192.0.2.77", 0) == LONGEST_FOR_ACCOUNT
    assert it.wait("bea", "192.0.2.77", 0) == 0
    guess(it, FREE, address=HOME)
    assert it.wait("admin", HOME, 0) == 1000


def test_the_right_password_forgives_the_wrong_ones_before_it() -> None:
    """Who mistypes and then does not begins anew."""
    it = Throttle()
    guess(it, FREE + 2, address=HOME)
    it.succeeded("admin", HOME)

    assert it.wait("admin", HOME, 0) == 0
    guess(it, FREE - 1, address=HOME)
    assert it.wait("admin", HOME, 0) == 0


def test_whoever_has_an_account_guesses_no_faster_at_another_one() -> None:
    """Its own right password in between forgives nothing of that, though the other's operator has been here before."""
    it, now, waited = Throttle(), 0, 0
    it.succeeded("admin", HOME)
    for _ in range(20):
        guess(it, 1, address=HOME, now=now)
        waited = it.wait("admin", HOME, now)
        now += waited
        it.succeeded("bea", HOME)

    assert waited == LONGEST_FOR_ADDRESS


def test_of_so_many_accounts_wrong_passwords_are_told_apart() -> None:
    """Whoever types ever other names fills no memory, and is forgiven nothing for the rest."""
    it = Throttle()
    for number in range(100):
        guess(it, 1, f"name-{number}")
    it.succeeded("name-99", AWAY)

    assert it.wait("admin", AWAY, 0) == LONGEST_FOR_ADDRESS
    assert max(len(record.by_account) for record in it._records.values()) == throttle.TOLD_APART


def test_a_network_of_ipv6_is_one_address() -> None:
    """Anybody has many of those; a peer without an address is one, too."""
    it = Throttle()
    guess(it, 9, address="2001:db8:1:2::1")

    assert it.wait("bea", "2001:db8:1:2:ffff::9", 0) == LONGEST_FOR_ADDRESS
    assert it.wait("bea", "2001:db8:1:3::1", 0) == 0
    guess(it, 9, "bea", "?")
    assert it.wait("carl", "?", 0) == LONGEST_FOR_ADDRESS


def test_what_is_remembered_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes from everywhere fills no memory."""
    monkeypatch.setattr(throttle, "ENTRIES", 10)
    it = Throttle()
    for number in range(100):
        guess(it, 1, address=f"192.0.2.{number}")
        it.succeeded(f"operator-{number}", HOME)

    assert len(it._records) <= 10
    assert len(it._known) == 10

"""Lines that strangers cause: a few in full, the rest counted."""

from __future__ import annotations

from typing import Any

from doctor import noise
from doctor.noise import Noise
from tests.doctor_bench import LogBook

KNOCK = "too many unfinished handshakes"


def warnings(log: LogBook) -> list[dict[str, Any]]:
    """What is told at the usual level."""
    return [line for line in log.lines if line["level"] == "warning"]


def test_the_first_lines_are_told_and_the_rest_is_one(log: LogBook) -> None:
    """A flood of a window is one line more than the few, with the address that most of it came from."""
    heard = Noise()
    for number in range(5000):
        heard.tell(KNOCK, "192.0.2.7" if number % 3 else "192.0.2.8", 100)
    heard.sum_up(100 + noise.WINDOW - 1)
    assert len(warnings(log)) == noise.IN_FULL

    heard.sum_up(100 + noise.WINDOW)
    heard.sum_up(100 + 2 * noise.WINDOW)

    assert len(warnings(log)) == noise.IN_FULL + 1
    last = warnings(log)[-1]
    assert (last["event"], last["count"], last["host"]) == (KNOCK, 4990, "192.0.2.7")
    assert last["cause"] == "3327 of these from 192.0.2.7; 2 addresses"


def test_at_debug_level_each_line_is_told(log: LogBook) -> None:
    """As is each step of each handshake."""
    heard = Noise()
    for number in range(noise.IN_FULL + 5):
        heard.tell("refused", "192.0.2.7", 0, check=f"V-{number:03}")

    assert [line["check"] for line in log.find("refused", level="debug")] == [
        f"V-{n:03}" for n in range(10, 15)
    ]


def test_a_kind_of_line_does_not_drown_another(log: LogBook) -> None:
    """Each has its own few."""
    heard = Noise()
    for _ in range(100):
        heard.tell(KNOCK, "192.0.2.7", 0)
    heard.tell("refused", "192.0.2.8", 0, check="V-004")

    assert log.find("refused", check="V-004", host="192.0.2.8", level="warning")


def test_the_next_window_begins_with_the_last_ones_sum(log: LogBook) -> None:
    """Also where nobody has asked for it in between."""
    heard = Noise()
    for elapsed in (0, noise.WINDOW):
        for _ in range(noise.IN_FULL + 1):
            heard.tell(KNOCK, "192.0.2.7", elapsed)

    assert [line.get("count") for line in warnings(log)] == [None] * 10 + [1] + [None] * 10


def test_what_was_only_counted_is_told_before_the_doctor_stops(log: LogBook) -> None:
    """Whatever of the window is left, and once."""
    heard = Noise()
    for _ in range(noise.IN_FULL + 7):
        heard.tell(KNOCK, "192.0.2.7", 0)
    heard.close()
    heard.sum_up(noise.WINDOW)

    assert [line["count"] for line in warnings(log)[noise.IN_FULL :]] == [7]


def test_a_quiet_window_is_not_told(log: LogBook) -> None:
    """What was told in full is not counted again."""
    heard = Noise()
    heard.tell(KNOCK, "192.0.2.7", 0)
    heard.sum_up(noise.WINDOW)

    assert len(warnings(log)) == 1


def test_so_many_addresses_are_told_apart_and_no_more(log: LogBook) -> None:
    """A botnet does not fill the memory; all of it is counted."""
    heard = Noise()
    for number in range(3000):
        heard.tell(KNOCK, f"address {number}", 0)
    heard.sum_up(noise.WINDOW)

    assert warnings(log)[-1]["count"] == 3000 - noise.IN_FULL
    assert warnings(log)[-1]["cause"].endswith(f"; at least {noise.ADDRESSES} addresses")

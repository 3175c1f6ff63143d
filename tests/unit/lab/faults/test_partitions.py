"""Which networks fail how, and for how long."""

from __future__ import annotations

import random

from lab.faults.rows.partitions import CONVERGED_WITHIN, LASTING, QUICK, Case, Kind, cases


def test_the_quick_cases_have_every_kind_that_fits_into_a_minute() -> None:
    """Only the one that a device must notice by its own watch for silence is left to the release."""
    assert {case.kind for case in QUICK} == set(Kind) - {Kind.SWALLOWED}


def test_a_release_tries_every_kind_often_and_lasts_one_to_sixty_seconds() -> None:
    """The same seed gives the same cases; the quick ones are among them."""
    found = list(cases(100, random.Random(7)))

    assert found == list(cases(100, random.Random(7)))
    assert len(found) == 100
    assert tuple(found[: len(QUICK)]) == QUICK
    drawn = found[len(QUICK) :]
    assert all(sum(case.kind is kind for case in drawn) >= 9 for kind in Kind)
    assert all((1 <= case.seconds <= 60) if case.kind in LASTING else case.seconds == 0 for case in drawn)
    assert max(case.seconds for case in drawn) > 30


def test_fewer_cases_than_quick_ones_are_the_first_of_them() -> None:
    """`--count` may ask for less."""
    assert list(cases(2, random.Random(1))) == list(QUICK[:2])


def test_only_a_device_that_is_never_told_gets_time_to_notice() -> None:
    """A minute of silence more."""
    assert Case(Kind.CUT, 0).patience == CONVERGED_WITHIN
    assert Case(Kind.SWALLOWED, 0).patience == CONVERGED_WITHIN + 60

"""File descriptors are taken, and strangers get a part of them."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from doctor import descriptors
from tests.doctor_bench import LogBook, settings_for


@pytest.fixture(autouse=True)
def limits() -> Iterator[None]:
    """What this process had before is what it has afterwards."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_doctor_takes_as_many_as_it_is_allowed() -> None:
    """Not just the usual 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))

    assert descriptors.take_all() == hard
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)


def test_where_there_are_few_strangers_get_half_of_them(tmp_path: Path, log: LogBook) -> None:
    """And the operator is told; where there are enough the settings hold, and nothing is said."""
    settings = settings_for(tmp_path, half_open_limit=1000, half_open_per_address=300)

    assert descriptors.places_at_the_door(settings, 2000) == (1000, 300)
    assert log.lines == []
    assert descriptors.places_at_the_door(settings, 400) == (200, 200)
    assert log.find("half_open_limit lowered: too few file descriptors", limit=200, count=400)

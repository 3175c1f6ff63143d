"""The conformance of the HTTP API: a doctor in this process, its log in strict mode."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doctor_bench import LOG

STORY_LIMIT = 1800.0  # seconds, for as many requests as anybody asks for


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests in this directory take their time."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.conformance)
            item.add_marker(pytest.mark.timeout(STORY_LIMIT))


@pytest.fixture(autouse=True)
def _log() -> None:
    """The doctor's log, strict and empty."""
    LOG.open()


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A directory whose name leaves room for a Unix socket's path of at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="td") as name:
        yield Path(name)

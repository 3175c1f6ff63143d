"""Integration tests: the shipped images, driven by the shipped Compose file, told as stories.

Each module has a deployment of its own; its stories leave it as they found it, as their order is random. Where something that
they need is missing they are skipped and say so, but with CI=true that is a failure.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

# Containers are removed by the fixture below. Testcontainers' own reaper is an image that would have to be pulled.
os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"

# Whoever runs the tests may have a doctor of their own up: its console keeps its port.
os.environ["CONSOLE_PORT"] = "0"

from tests.integration import engine
from tests.integration.deployment import Deployment

PATIENTS = 5
STORY_LIMIT = 240.0  # seconds, with the start and the end of a deployment


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests in this directory are integration tests, and containers take their time."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.integration)
            item.add_marker(pytest.mark.timeout(STORY_LIMIT))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A story that failed shows the logs of all containers."""
    report = yield
    used = item.funcargs.get("deployment") if isinstance(item, pytest.Function) else None
    if report.failed and isinstance(used, Deployment):
        report.sections.append(("Logs of all containers", used.evidence()))
    return report


@pytest.fixture(scope="session")
def images() -> dict[str, str]:
    """The names of the images by service; what uses this needs an engine."""
    lacking = engine.missing()
    if lacking and os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"CI=true, and {lacking}", pytrace=False)
    if lacking:
        pytest.skip(lacking)
    return engine.IMAGES


@pytest.fixture(scope="module")
def deployment(images: dict[str, str]) -> Iterator[Deployment]:
    """A doctor and five patients, all established."""
    deployment = Deployment(os.environ.get("TELEMED_TEST_PROJECT", "telemed-test"))
    try:
        deployment.scale(PATIENTS)
        deployment.wait_for_established(PATIENTS)
        yield deployment
    except engine.CommandFailed as failed:
        failed.add_note(deployment.evidence())
        raise
    finally:
        deployment.remove()

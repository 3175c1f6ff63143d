"""Tests of what a person meets: the tutorial in terminals, and the console in Debian's Chromium, with real doctors and patients.

Where there is no Chromium the console's are skipped and say so, but with CI=true that is a failure.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.e2e.clinic import Clinic

CHROMIUM = Path("/usr/bin/chromium")
PATIENCE_MS = 20_000.0
STORY_LIMIT = 180.0  # seconds, with the start and the end of doctor and patients


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests in this directory start processes or a browser, and take their time."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.e2e)
            item.add_marker(pytest.mark.timeout(STORY_LIMIT))


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium. It looks up no name and asks its maker nothing."""
    if not CHROMIUM.exists():
        lacking = f"{CHROMIUM} is missing; on Debian: apt-get install chromium libatomic1"
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(f"CI=true, and {lacking}", pytrace=False)
        pytest.skip(lacking)
    expect.set_options(timeout=PATIENCE_MS)
    arguments = ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--lang=en-GB"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def clinic(tmp_path: Path) -> Iterator[Clinic]:
    """A doctor without patients."""
    with Clinic(tmp_path) as clinic:
        yield clinic

"""A bad network between containers: what `make up WEATHER=rural` starts."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.integration import engine
from tests.integration.deployment import Deployment
from tests.integration.flow import Flow

PATIENTS = 2


@pytest.fixture(scope="module")
def deployment(images: dict[str, str]) -> Iterator[Deployment]:
    """A doctor and two patients with the bad network in between, established."""
    files = ("compose.yaml", "containers/weather.yaml")
    deployment = Deployment(os.environ.get("TELEMED_TEST_PROJECT", "telemed-test"), files)
    try:
        deployment.scale(PATIENTS)
        deployment.wait_for_established(PATIENTS)
        yield deployment
    except engine.CommandFailed as failed:
        failed.add_note(deployment.evidence())
        raise
    finally:
        deployment.remove()


def test_everything_goes_by_way_of_the_bad_network(deployment: Deployment) -> None:
    """The doctor sees one address for all patients, and they read what it sends."""
    both = deployment.established()

    message = deployment.broadcast("Slowly but surely.")
    receipts = deployment.wait_for_delivery(message)

    hosts = {line.host for line in deployment.journal() if line.event == "established"}
    assert len(hosts) == 1
    assert receipts == dict.fromkeys(both, "delivered")


def test_a_network_that_stands_still_for_a_while_loses_nothing(deployment: Deployment) -> None:
    """T11: it is frozen, with all connections open and silent, and thaws."""
    both = deployment.established()

    deployment.compose("pause", "weather")
    with Flow(deployment, "T11c") as flow:
        flow.go_on(2)
        deployment.compose("unpause", "weather")

    flow.assert_each_once(both)
    assert deployment.wait_for_established(PATIENTS) == both

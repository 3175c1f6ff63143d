"""T9, T10 and T11 with the shipped images: kill -9 of the doctor and of devices, and partitions, while broadcasts flow."""

from __future__ import annotations

from tests.integration.deployment import Deployment
from tests.integration.engine import Container
from tests.integration.flow import Flow

ROUNDS = 3


def test_a_doctor_that_is_killed_again_and_again_loses_nothing_that_it_accepted(
    deployment: Deployment,
) -> None:
    """T9: SIGKILL to all of its container; after each, all five come back, and in the end each has everything once."""
    five = deployment.established()

    with Flow(deployment, "T9") as flow:
        for _ in range(ROUNDS):
            flow.go_on()
            deployment.doctor.kill()
            deployment.doctor.start()
            flow.go_on(1)
            assert deployment.wait_for_established(5) == five

    flow.assert_each_once(sorted(five))
    assert deployment.audit_is_valid()


def test_devices_that_are_killed_show_everything_once(deployment: Deployment) -> None:
    """T10: each in its turn, in the midst of what it receives; it comes back as who it was."""
    five = deployment.established()

    with Flow(deployment, "T10") as flow:
        for device in deployment.devices[:ROUNDS]:
            flow.go_on()
            device.kill()
            flow.go_on(1)
            device.start()
        flow.go_on(1)

    assert deployment.wait_for_established(5) == five
    flow.assert_each_once(sorted(five))


def test_a_device_that_was_cut_off_from_the_network_catches_up(deployment: Deployment) -> None:
    """T11: its cable is pulled and put in again; neither side is told."""
    five = deployment.established()
    cut = deployment.devices[0]

    with Flow(deployment, "T11a") as flow:
        flow.go_on(1)
        with deployment.cut_off(cut):
            flow.go_on()
        flow.go_on(1)

    flow.assert_each_once(sorted(five))


def test_a_doctor_that_was_cut_off_from_everybody_delivers_what_it_accepted_meanwhile(
    deployment: Deployment,
) -> None:
    """T11: nobody reaches it, and it goes on accepting."""
    five = deployment.established()
    doctor: Container = deployment.doctor

    with Flow(deployment, "T11b") as flow:
        with deployment.cut_off(doctor, "doctor"):
            flow.go_on()
        flow.go_on(1)

    flow.assert_each_once(sorted(five))
    assert deployment.wait_for_established(5) == five

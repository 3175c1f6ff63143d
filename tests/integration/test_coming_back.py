"""Whatever is stopped, killed, removed, scaled or cut off: the same devices come back, and nothing that was accepted is lost.

Here T9, T10 and T11 of the fault campaign meet the shipped images.
"""

from __future__ import annotations

from tests.integration.deployment import Deployment
from tests.integration.engine import run
from tests.integration.flow import Flow


def test_all_patients_come_back_by_themselves_when_the_doctor_is_restarted(deployment: Deployment) -> None:
    """Their containers are not touched; ids and handshakes are what they were made for."""
    five = deployment.established()
    begun = [device.begun() for device in deployment.devices]

    run("docker", "restart", deployment.doctor.id)
    returned = deployment.wait_for_established(5)
    message = deployment.broadcast("The doctor is back.")
    receipts = deployment.wait_for_delivery(message)

    assert returned == five
    assert receipts == dict.fromkeys(five, "delivered")
    assert [device.begun() for device in deployment.devices] == begun


def test_what_was_accepted_while_all_were_away_outlives_a_killed_doctor(deployment: Deployment) -> None:
    """The devices are frozen, the doctor accepts a broadcast and is killed by SIGKILL; the thawed devices read it once."""
    five = deployment.established()
    begun = [device.begun() for device in deployment.devices]
    doctor = deployment.doctor

    deployment.compose("pause", "patient")
    run("docker", "restart", doctor.id)
    deployment.wait_until("the doctor answers and nobody is there", lambda: deployment.away() == five)
    message = deployment.broadcast("Accepted while you were away.")
    queued = deployment.receipts(message)
    doctor.crash()
    deployment.compose("unpause", "patient")
    receipts = deployment.wait_for_delivery(message)
    returned = deployment.wait_for_established(5)

    assert queued == dict.fromkeys(five, "queued")
    assert receipts == dict.fromkeys(five, "delivered")
    assert returned == five
    assert [device.begun() for device in deployment.devices] == begun
    inboxes = deployment.inboxes()
    assert all(texts.count("Accepted while you were away.") == 1 for texts in inboxes.values())
    assert inboxes.keys() == five


def test_down_and_up_bring_back_the_same_five_and_no_sixth(deployment: Deployment) -> None:
    """The volumes hold who they are; containers and network are new."""
    five = deployment.established()
    containers = {container.id for container in deployment.containers()}

    deployment.compose("down")
    deployment.scale(5)
    returned = deployment.wait_for_established(5)

    assert returned == five
    assert {patient.patient for patient in deployment.patients()} == five
    assert not containers & {container.id for container in deployment.containers()}


def test_scaling_to_three_and_back_to_five_brings_back_the_same_five(deployment: Deployment) -> None:
    """Two are away for a while; what comes back are not two new ones."""
    five = deployment.established()

    deployment.scale(3)
    three = deployment.wait_for_established(3)
    deployment.scale(5)
    returned = deployment.wait_for_established(5)

    assert three < five
    assert returned == five
    assert {patient.patient for patient in deployment.patients()} == five


def test_a_doctor_that_is_killed_again_and_again_loses_nothing_that_it_accepted(
    deployment: Deployment,
) -> None:
    """T9: SIGKILL to all of its container; all five come back, and each has everything once."""
    five = deployment.established()

    with Flow(deployment, "T9") as flow:
        for _ in range(3):
            flow.go_on(2)
            deployment.doctor.kill()
            deployment.doctor.start()
        flow.go_on(1)

    assert deployment.wait_for_established(5) == five
    flow.assert_each_once(five)
    assert deployment.audit_is_valid()


def test_devices_that_are_killed_show_everything_once(deployment: Deployment) -> None:
    """T10: each in its turn, in the midst of what it receives; it comes back as who it was."""
    five = deployment.established()

    with Flow(deployment, "T10") as flow:
        for device in deployment.devices[:3]:
            flow.go_on(1)
            device.kill()
            flow.go_on(1)
            device.start()

    assert deployment.wait_for_established(5) == five
    flow.assert_each_once(five)


def test_a_device_that_was_cut_off_from_the_network_catches_up(deployment: Deployment) -> None:
    """T11: its cable is pulled and put in again; neither side is told."""
    five = deployment.established()
    cut = deployment.devices[0]

    with Flow(deployment, "T11a") as flow, deployment.cut_off(cut):
        flow.go_on(2)

    flow.assert_each_once(five)


def test_a_doctor_that_was_cut_off_from_everybody_delivers_what_it_accepted_meanwhile(
    deployment: Deployment,
) -> None:
    """T11: nobody reaches it, and it goes on accepting."""
    five = deployment.established()

    with Flow(deployment, "T11b") as flow, deployment.cut_off(deployment.doctor, "doctor"):
        flow.go_on(2)

    flow.assert_each_once(five)
    assert deployment.wait_for_established(5) == five

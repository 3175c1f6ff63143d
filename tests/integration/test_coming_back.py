"""Whatever is stopped, killed, removed or scaled: the same devices come back, and nothing that was accepted is lost."""

from __future__ import annotations

from tests.integration.deployment import Deployment
from tests.integration.engine import run


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

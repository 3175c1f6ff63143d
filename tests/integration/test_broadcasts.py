"""Five scaled patients: their handshakes, and a broadcast that all of them read."""

from __future__ import annotations

from shared.crypto.suites import DEFAULT_SUITE
from shared.protocol.invitations import derived_id
from tests.integration.deployment import Deployment


def test_five_scaled_patients_establish_each_with_its_own_id_and_handshake(deployment: Deployment) -> None:
    """One image, one invitation, five keys; each id follows from its key."""
    patients = deployment.patients()
    at_home = {deployment.who(device) for device in deployment.devices}
    handshakes = {line.address: line.patient for line in deployment.journal() if line.event == "verified"}

    assert len({patient.patient for patient in patients}) == 5
    assert at_home == {patient.patient for patient in patients}
    assert all(patient.patient == derived_id(patient.fingerprint) for patient in patients)
    assert {patient.suite for patient in patients} == {DEFAULT_SUITE.name}
    assert {patient.address: patient.patient for patient in patients} == handshakes
    assert len({(patient.address or "").rpartition(":")[0] for patient in patients}) == 5


def test_a_broadcast_is_read_by_all_five(deployment: Deployment) -> None:
    """All hold the key of one epoch, each inbox has the text once, and the doctor has each one's receipt."""
    five = deployment.established()
    current = deployment.everyone().epoch
    deployment.wait_until(
        "all hold the current epoch",
        lambda: all(patient.epochs == {"everyone": current} for patient in deployment.patients()),
    )

    message = deployment.broadcast("Rounds begin at nine.")
    receipts = deployment.wait_for_delivery(message)

    assert message.recipients == 5
    assert receipts == dict.fromkeys(five, "delivered")
    inboxes = deployment.inboxes()
    assert inboxes.keys() == five
    assert all(texts.count("Rounds begin at nine.") == 1 for texts in inboxes.values())

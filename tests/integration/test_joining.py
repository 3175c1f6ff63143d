"""A patient that comes later reads what comes later."""

from __future__ import annotations

from tests.integration.deployment import Deployment


def test_a_patient_added_by_scaling_up_reads_the_next_broadcast_but_not_the_earlier_one(
    deployment: Deployment,
) -> None:
    """The earlier one was sealed in an epoch whose key it never gets."""
    five = deployment.established()
    earlier = deployment.broadcast("For five.")
    deployment.wait_for_delivery(earlier)
    epoch_of_earlier = deployment.everyone().epoch

    deployment.scale(6)
    (newcomer,) = deployment.wait_for_established(6) - five
    epoch_of_newcomer = next(p.epochs["everyone"] for p in deployment.patients() if p.patient == newcomer)
    later = deployment.broadcast("For six.")
    receipts = deployment.wait_for_delivery(later)

    assert epoch_of_newcomer > epoch_of_earlier
    assert receipts == dict.fromkeys({*five, newcomer}, "delivered")
    assert newcomer not in deployment.receipts(earlier)
    inboxes = deployment.inboxes()
    assert inboxes.pop(newcomer) == ["For six."]
    assert all(texts == ["For five.", "For six."] for texts in inboxes.values())
    assert inboxes.keys() == five

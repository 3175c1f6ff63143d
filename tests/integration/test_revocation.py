"""A revoked patient reads no more, and what it knows lets nobody in."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from patient.exit_codes import ExitCode
from tests.integration.deployment import Deployment, InboxEntry
from tests.integration.engine import CommandFailed, Container, run

RESTARTS = 5  # compose.yaml: on-failure:5


def first_end(deployment: Deployment, container: Container, moment: float) -> int:
    """The exit code with which a container ends first after the moment."""
    ends = deployment.wait_until(f"{container.name} has ended", lambda: container.ends_since(moment))
    return ends[0]


def latest(deployment: Deployment) -> str:
    """The patient that enrolled last, so by the fleet invitation that is in force: revoking it voids that one."""
    here = [patient for patient in deployment.patients() if patient.state == "established"]
    return max(here, key=lambda patient: patient.enrolled_at).patient


def invite_anew(deployment: Deployment) -> set[str]:
    """Rotate the fleet invitation and fill up to five; containers that have given up are started again. All ids."""
    deployment.order("invite", "--fleet")

    def five() -> set[str]:
        deployment.scale(5)
        found = deployment.established()
        return found if len(found) == 5 else set()

    return deployment.wait_until("five are established with the new invitation", five)


def test_a_revoked_patient_reads_no_more(deployment: Deployment) -> None:
    """It is told and ends; the next broadcast is in an epoch without it, and the others read that."""
    five = deployment.established()
    deployment.wait_for_delivery(deployment.broadcast("For all."))
    epoch_before = deployment.everyone().epoch
    outcast = latest(deployment)
    container = deployment.device_of(outcast)
    bystander = deployment.device_of(min(five - {outcast}))
    moment = time.time()

    deployment.order("revoke", outcast)
    end = first_end(deployment, container, moment)
    group = deployment.everyone()
    receipts = deployment.wait_for_delivery(deployment.broadcast("Not for the outcast."))

    assert group.epoch > epoch_before
    assert set(group.members) == five - {outcast}
    assert receipts == dict.fromkeys(five - {outcast}, "delivered")
    assert end == ExitCode.REVOKED
    assert f"The doctor has revoked {outcast}" in container.logs()
    # Replicas share a volume, so that another container can show what is on the outcast's part of it.
    shown = bystander.execute("telemed-patient", "inbox", outcast, "--json")
    texts = [entry.body for entry in msgspec.json.decode(shown, type=list[InboxEntry])]
    assert "For all." in texts
    assert "Not for the outcast." not in texts
    # Before that, it might come in by one of the restarts that its policy has left, and have none left in the next story.
    deployment.wait_until("the outcast's container has given up", lambda: container.state() == "exited")
    assert outcast not in invite_anew(deployment)


def test_the_invitation_that_a_revoked_patient_knew_is_void_until_there_is_a_new_one(
    deployment: Deployment,
) -> None:
    """Its container tries and gives up, a fresh one is refused as well; a rotated invitation lets five be five again."""
    five = deployment.established()
    outcast = latest(deployment)
    container = deployment.device_of(outcast)
    moment = time.time()

    deployment.order("revoke", outcast)
    end = first_end(deployment, container, moment)
    deployment.wait_until("the outcast's container has given up", lambda: container.state() == "exited")
    restarts, last_end = container.restarts(), container.last_end()
    run("docker", "rm", container.id)
    deployment.scale(5)
    (fresh,) = [device for device in deployment.devices if not deployment.who(device)]
    refused = first_end(deployment, fresh, moment)
    known = {patient.patient for patient in deployment.patients()}

    assert (end, restarts, last_end) == (ExitCode.REVOKED, RESTARTS, ExitCode.INVITATION)
    assert refused == ExitCode.INVITATION
    assert "The invitation has been used already." in fresh.logs()
    assert "V-041" in {line.check for line in deployment.journal()}
    assert known >= five
    assert invite_anew(deployment) - known


def test_a_backup_from_before_brings_nobody_back_who_was_revoked_or_removed_since(
    deployment: Deployment, tmp_path: Path
) -> None:
    """The restored doctor waits for its operator, then goes on: nothing is shown twice, and what comes reaches those who remain."""
    five = deployment.established()
    outcast = latest(deployment)
    removed, *others = sorted(five - {outcast})
    outcasts = deployment.device_of(outcast)
    deployment.order("groups", "create", "ward")
    for patient in (removed, *others):
        deployment.order("groups", "add", "ward", patient)
    deployment.back_up(tmp_path / "clinic.backup")
    deployment.order("groups", "remove", "ward", removed)
    deployment.order("revoke", outcast)
    deployment.wait_for_delivery(deployment.broadcast("Heard and then forgotten by the doctor."))

    deployment.restore(tmp_path / "clinic.backup")
    refusal = deployment.wait_until("the doctor refuses by name", lambda: refused(deployment))
    nobody = deployment.established()
    restored = deployment.confirm_restore()
    four = deployment.wait_for_established(4)
    receipts = deployment.wait_for_delivery(deployment.broadcast("After the restore."))
    ward = deployment.wait_for_delivery(deployment.broadcast("To the ward.", "--group", "ward"))

    assert "confirm-restore" in refusal
    assert nobody == set()
    assert restored.revoked == [outcast]
    assert [(each.group, each.patient) for each in restored.removed] == [("ward", removed)]
    assert four == five - {outcast}
    assert receipts == dict.fromkeys(four, "delivered")
    assert ward == dict.fromkeys(others, "delivered")
    for patient, texts in deployment.inboxes().items():
        assert texts.count("Heard and then forgotten by the doctor.") == 1
        assert texts.count("After the restore.") == 1
        assert texts.count("To the ward.") == (patient in others)
    assert deployment.audit_is_valid()
    run("docker", "rm", "--force", outcasts.id)  # it tries for ever with the invitation that it has read
    assert outcast not in invite_anew(deployment)


def refused(deployment: Deployment) -> str:
    """What the doctor says to an order that it does not accept; '' where it accepts it, or is not there yet."""
    try:
        deployment.broadcast("Too early.")
    except CommandFailed as failed:
        return failed.output if "Not accepted" in failed.output else ""
    return ""

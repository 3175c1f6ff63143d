"""Who has no business here: a device without an invitation, and a doctor with another key."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from msgspec.structs import replace

from patient.exit_codes import ExitCode
from shared.protocol.invitations import Invitation, from_text, to_text
from tests.integration.deployment import Deployment
from tests.integration.engine import CommandFailed, Container

CONNECT = "import socket; socket.create_connection(('doctor', 7700), 5)"
KNOCK = """
import socket, sys
with socket.create_connection(('doctor', 7700), 5) as connection:
    connection.sendall(bytes.fromhex(sys.argv[1]))
    connection.shutdown(socket.SHUT_WR)
    while connection.recv(4096):
        pass
"""
NOISE = b"GET / HTTP/1.1\r\nHost: doctor\r\n\r\n"
SLEEP = ("sleep", "infinity")


@dataclass(frozen=True, slots=True)
class Outsider:
    """A device on the network, with the patient's program.

    Args:
        container: where it lives.
        invitation: a valid one, which it uses when a story says so.
        lines: how long the doctor's log was when it came; addresses are given again.
    """

    container: Container
    invitation: Invitation
    lines: int

    def enrol(self, invitation: Invitation) -> int:
        """Try an invitation; the exit code."""
        try:
            self.container.execute("telemed-patient", "enrol", "-", stdin=to_text(invitation))
        except CommandFailed as failed:
            return failed.code
        return 0

    def refusals(self, deployment: Deployment) -> list[str]:
        """The checks at which the doctor has refused it, by the doctor's log."""
        host = self.container.execute("hostname", "-i").strip()
        lines = deployment.journal()[self.lines :]
        return [line.check for line in lines if line.event == "refused" and line.host == host]


@pytest.fixture
def outsider(deployment: Deployment) -> Iterator[Outsider]:
    """A container of the patient's image on the devices' network, with a disk of its own."""
    invitation = from_text(deployment.invite(f"visitor-{secrets.token_hex(4)}").invitation)
    lines = len(deployment.journal())
    with deployment.stranger("patient", command=SLEEP) as container:
        yield Outsider(container, invitation, lines)


def sessions(deployment: Deployment) -> dict[str, str | None]:
    """Each established patient's end of its connection: the same as long as it is not cut."""
    return {p.patient: p.address for p in deployment.patients() if p.state == "established"}


def test_an_outsider_reaches_the_port_but_gets_in_with_a_valid_invitation_only(
    deployment: Deployment, outsider: Outsider
) -> None:
    """An invented one, a real one with a guessed secret, a patient's id with another key, noise: each has its refusal."""
    before = sessions(deployment)
    valid = outsider.invitation
    invented = replace(valid, invitation_id=secrets.token_bytes(16), secret=secrets.token_bytes(32))
    guessed = replace(valid, secret=secrets.token_bytes(32))
    borrowed = replace(valid, patient_id=min(before))

    outsider.container.execute("python", "-c", CONNECT)  # would fail where the network did not let it
    codes = [outsider.enrol(invitation) for invitation in (invented, guessed, borrowed)]
    outsider.container.execute("python", "-c", KNOCK, NOISE.hex())
    refusals = outsider.refusals(deployment)
    on_the_roster = {patient.patient for patient in deployment.patients()}

    assert codes == [ExitCode.INVITATION] * 3
    assert refusals == ["V-034", "V-034", "V-035", "V-001"]
    assert on_the_roster >= before.keys()
    assert valid.patient_id not in on_the_roster
    assert sessions(deployment) == before  # nobody else has noticed
    assert outsider.enrol(valid) == ExitCode.OK
    assert valid.patient_id in {patient.patient for patient in deployment.patients()}
    assert outsider.refusals(deployment) == refusals


def test_a_doctor_with_another_key_is_refused_by_all_patients(
    deployment: Deployment, outsider: Outsider
) -> None:
    """It has the name, the address and working keys of its own, but not the ones that the patients have pinned."""
    five = deployment.established()
    sentence = "is not the doctor 'doctor' whose key this device pinned"

    # It is not on the console's network, so it has no console.
    without_console = ("--env", "TELEMED_DOCTOR_CONSOLE_PORT=null")
    with deployment.stranger("doctor", "--network-alias", "doctor", *without_console) as impostor:
        deployment.wait_until("the impostor is up", lambda: "api ready" in impostor.logs())
        deployment.compose("stop", "doctor")
        deployment.wait_until(
            "every patient has refused the impostor",
            lambda: all(sentence in device.logs() for device in deployment.devices),
        )
        wrong_doctor = outsider.enrol(outsider.invitation)
        own_invitation = impostor.execute("cat", "/var/lib/telemed/provisioning/fleet.invitation")
        with_its_own = outsider.enrol(from_text(own_invitation))
        roster = impostor.execute("telemed-doctor", "patients", "--json")
    deployment.compose("start", "doctor")

    assert wrong_doctor == ExitCode.WRONG_DOCTOR
    assert with_its_own == ExitCode.OK  # it is a working doctor, but only for whom it has invited itself
    assert roster.count('"patient":') == 1
    assert deployment.wait_for_established(5) == five

"""One deployment of the shipped compose.yaml, with a project name, network and volumes of its own.

Law: a story talks to it as people do, with Compose and the two command lines. Whatever takes time is waited for by its
condition, up to a limit, and the error then shows how things stand.
"""

from __future__ import annotations

import secrets
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import msgspec
from testcontainers.compose import DockerCompose

from doctor.answers import (
    AuditAnswer,
    BroadcastAnswer,
    GroupAnswer,
    InvitationAnswer,
    PatientAnswer,
    ReceiptAnswer,
    RestoreAnswer,
)
from tests.integration.engine import IMAGES, ROOT, CommandFailed, Container, run

T = TypeVar("T")

PATIENCE = 60.0  # seconds for a condition; the longest pause between a device's attempts is 30
POLL = 0.5  # seconds between two looks: containers give no event to wait for


class InboxEntry(msgspec.Struct, frozen=True):
    """What the stories look at in `telemed-patient inbox --json`."""

    number: int
    body: str | None


class LogLine(msgspec.Struct, frozen=True):
    """What the stories look at in the doctor's log."""

    event: str
    address: str = ""
    patient: str = ""
    check: str = ""

    @property
    def host(self) -> str:
        """The address without its port."""
        return self.address.rpartition(":")[0]


class _Compose(DockerCompose):
    """Testcontainers' Compose, for one project. It has no argument for the name."""

    project = ""

    @cached_property
    def compose_command_property(self) -> list[str]:
        return [*super().compose_command_property, "--project-name", self.project]


class Deployment:
    """A doctor and patients in containers.

    Args:
        prefix: the project's name begins with it.
        files: of Compose, each on top of the ones before.
    """

    def __init__(self, prefix: str, files: Sequence[str] = ("compose.yaml",)) -> None:
        self.project = f"{prefix}-{secrets.token_hex(4)}"
        self.network = f"{self.project}_devices"
        self._compose = _Compose(ROOT, list(files))
        self._compose.project = self.project

    # Compose

    def compose(self, *arguments: str) -> str:
        """What a command of Compose prints. Raises CommandFailed."""
        return run(*self._compose.compose_command_property, *arguments)

    def scale(self, patients: int) -> None:
        """`up` with so many patients; those that run are left alone. Does not wait for their handshakes."""
        self.compose("up", "--detach", "--no-recreate", "--scale", f"patient={patients}")

    def remove(self) -> None:
        """Stop and remove containers, network and volumes."""
        self._compose.stop()

    @property
    def doctor(self) -> Container:
        """The doctor's container."""
        return self.containers("doctor")[0]

    @property
    def devices(self) -> list[Container]:
        """The patients' containers, ended ones included."""
        return self.containers("patient")

    def containers(self, service: str | None = None) -> list[Container]:
        """The containers of a service, or all, by name."""
        found = [
            Container(each.ID or "", each.Name or "")
            for each in self._compose.get_containers(include_all=True)
            if service in (None, each.Service)
        ]
        return sorted(found, key=lambda container: container.name)

    @contextmanager
    def stranger(self, service: str, *options: str, command: tuple[str, ...] = ()) -> Iterator[Container]:
        """A container of that service's image on the devices' network, with a disk of its own and nothing else in common.

        Args:
            service: whose image.
            options: of `docker run`.
            command: instead of the image's own; its first part is the entry point.
        """
        name = f"{self.project}-stranger-{secrets.token_hex(2)}"
        labels = ["--label", f"com.docker.compose.project={self.project}"]  # so that clean-ups find it
        entry = ["--entrypoint", command[0]] if command else []
        where = ["--detach", "--init", "--name", name, "--network", self.network]
        arguments = [*where, *labels, *entry, *options, IMAGES[service], *command[1:]]
        container = Container(run("docker", "run", *arguments).strip(), name)
        try:
            yield container
        except BaseException as error:
            error.add_note(f"--- {name}\n{container.logs(tail=40)}")
            raise
        finally:
            run("docker", "rm", "--force", "--volumes", container.id)

    @contextmanager
    def cut_off(self, container: Container, *aliases: str) -> Iterator[None]:
        """Pull a container's cable for the length of the block.

        Args:
            aliases: names by which others find it, which the engine forgets.
        """
        run("docker", "network", "disconnect", self.network, container.id)
        try:
            yield
        finally:
            names = [part for alias in aliases for part in ("--alias", alias)]
            run("docker", "network", "connect", *names, self.network, container.id)

    # The doctor's command line

    def order(self, *arguments: str) -> str:
        """What `telemed-doctor … --json` prints. Raises CommandFailed."""
        return self.compose("exec", "-T", "doctor", "telemed-doctor", *arguments, "--json")

    def patients(self) -> list[PatientAnswer]:
        """Everyone on the roster."""
        return msgspec.json.decode(self.order("patients"), type=list[PatientAnswer])

    def established(self) -> set[str]:
        """The ids of the patients that have a session and hold their group's key."""
        return {patient.patient for patient in self.patients() if patient.state == "established"}

    def away(self) -> set[str]:
        """The ids of the patients that have no session."""
        return {patient.patient for patient in self.patients() if patient.state == "away"}

    def journal(self) -> list[LogLine]:
        """The doctor's log, over all its restarts."""
        return [msgspec.json.decode(line, type=LogLine) for line in self.doctor.logs().splitlines()]

    def everyone(self) -> GroupAnswer:
        """The group of everyone."""
        found = msgspec.json.decode(self.order("groups", "list"), type=list[GroupAnswer])
        return next(group for group in found if group.name == "everyone")

    def broadcast(self, text: str, *options: str) -> BroadcastAnswer:
        """Send a text to everyone, or to whom the options name."""
        return msgspec.json.decode(self.order("broadcast", text, *options), type=BroadcastAnswer)

    def receipts(self, message: BroadcastAnswer) -> dict[str, str]:
        """What became of a broadcast, by recipient."""
        found = msgspec.json.decode(self.order("receipts", message.id), type=list[ReceiptAnswer])
        return {receipt.patient: receipt.state for receipt in found}

    def audit_is_valid(self) -> bool:
        """Whether the audit chain and its signed heads verify."""
        return msgspec.json.decode(self.order("audit", "verify"), type=AuditAnswer).valid

    def invite(self, *arguments: str) -> InvitationAnswer:
        """Make an invitation."""
        return msgspec.json.decode(self.order("invite", *arguments), type=InvitationAnswer)

    def back_up(self, file: Path) -> None:
        """Write a backup to a file of the host, as the guide says."""
        self._through_a_shell("exec", "-T", "doctor", "telemed-doctor", "backup", "-", redirect=f"> {file}")

    def restore(self, file: Path) -> None:
        """Stop the doctor, put a backup in place and start it again; it waits for `confirm_restore`."""
        self.compose("stop", "doctor")
        self._through_a_shell(
            "run", "--rm", "-T", "--no-deps", "doctor", "restore", "-", redirect=f"< {file}"
        )
        self.compose("start", "doctor")

    def confirm_restore(self) -> RestoreAnswer:
        """Say the operator's word."""
        return msgspec.json.decode(self.order("confirm-restore", "--yes"), type=RestoreAnswer)

    def _through_a_shell(self, *arguments: str, redirect: str) -> None:
        run("sh", "-c", f"{shlex.join([*self._compose.compose_command_property, *arguments])} {redirect}")

    # The patients' command line

    def who(self, device: Container) -> str:
        """The id of the patient whose session lives in that container; '' without a session."""
        try:
            return device.execute("cat", "/tmp/telemed-heartbeat").strip()
        except CommandFailed:  # it does not run, or has no session
            return ""

    def device_of(self, patient: str) -> Container:
        """The container in which that patient's session lives."""
        return next(device for device in self.devices if self.who(device) == patient)

    def inbox(self, device: Container) -> list[InboxEntry]:
        """What a patient has received."""
        return msgspec.json.decode(
            device.execute("telemed-patient", "inbox", "--json"), type=list[InboxEntry]
        )

    def inboxes(self) -> dict[str, list[str | None]]:
        """The texts that each connected patient has received, by id."""
        connected = {who: device for device in self.devices if (who := self.who(device))}
        with (
            ThreadPoolExecutor() as pool
        ):  # each is the start of a Python in a container that has half a core
            found = pool.map(self.inbox, connected.values())
            return {who: [entry.body for entry in inbox] for who, inbox in zip(connected, found, strict=True)}

    # Waiting

    def wait_until(self, what: str, condition: Callable[[], T], limit: float = PATIENCE) -> T:
        """Ask until the answer is true; returns that.

        Args:
            what: the condition as the end of the sentence "after 60 s it is not true that …".
            condition: a command that fails in it is an answer too: not yet.
            limit: seconds.

        Raises:
            AssertionError: it did not become true; the message shows the state and the last lines of all containers.
        """
        deadline = time.monotonic() + limit
        while True:
            answer: T | CommandFailed
            try:
                answer = condition()
                if answer:
                    return answer
            except CommandFailed as failed:
                answer = failed
            if time.monotonic() > deadline:
                raise AssertionError(
                    f"After {limit:g} s it is not true that {what}: {answer}\n{self.evidence(12)}"
                )
            time.sleep(POLL)

    def wait_for_established(self, count: int) -> set[str]:
        """Wait until exactly so many patients are established; their ids."""

        def enough() -> set[str]:
            found = self.established()
            return found if len(found) == count else set()

        return self.wait_until(f"{count} patients are established", enough)

    def wait_for_delivery(self, message: BroadcastAnswer) -> dict[str, str]:
        """Wait until every recipient has acknowledged a broadcast; its receipts."""

        def complete() -> dict[str, str]:
            receipts = self.receipts(message)
            return receipts if set(receipts.values()) == {"delivered"} else {}

        return self.wait_until(f"{message.id} is delivered to all its recipients", complete)

    def evidence(self, tail: int | None = None) -> str:
        """How things stand: all containers and their logs, or the last lines of those."""
        parts = [self.compose("ps", "--all")]
        for container in self.containers():
            parts.append(f"--- {container.name}\n{container.logs(tail)}")
        return "\n".join(parts)

"""The whole system on one machine: a doctor and N patients as processes, every step of the protocol shown and verified.

The steps are those of the scheme: key exchange, authentication, session verifier, group key, broadcast; then a revocation, and
a broadcast that the revoked patient gets no key for. A step that does not turn out as it must ends the demo.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from doctor.answers import (
    AuditAnswer,
    BroadcastAnswer,
    ConsoleAnswer,
    DepartureAnswer,
    GroupAnswer,
    InvitationAnswer,
    ReceiptAnswer,
)
from doctor.client import Client
from doctor.orders import BroadcastOrder, InviteOrder
from lab.faults.capture import Discarded
from lab.faults.proxy import FAIR, Proxy, Weather
from lab.handshake import handshake_steps, require_complete
from lab.processes import Program, ScenarioFailed, doctor_program, integer, patient_program, running
from lab.story import Story
from shared.storage.keyfile import write_private

PATIENCE = 60.0  # seconds that any one step may take
REVOKED_EXIT = 7
CONSOLE_PORT = 8080
VITALS_EVERY = 15  # seconds


class BroadcastResult(msgspec.Struct, frozen=True):
    """One broadcast: for how many, and how many have applied it and were seen to have read it."""

    id: str
    recipients: int
    applied: int


class RevocationResult(msgspec.Struct, frozen=True):
    """Who was revoked, and whether it could read what was sent afterwards."""

    patient: str
    could_read_after: bool


class DemoResult(msgspec.Struct, frozen=True):
    """What `telemed-lab demo --json` prints on its last line. `seconds`: until every step was verified."""

    patients: int
    suite: str
    established: int
    broadcasts: list[BroadcastResult]
    revoked: RevocationResult
    seconds: float


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """What to run; `weather`: of the network between the patients and the doctor; `keep`: and leave it running, with the console."""

    patients: int
    suite: str
    message: str
    directory: Path
    weather: Weather = FAIR
    keep: bool = False


@dataclass(slots=True)
class Scene:
    """What is on the stage. The client blocks for the millisecond that an order takes; nothing else runs here meanwhile.

    `address`: where the patients connect, if it is not the doctor's own.
    """

    plan: DemoPlan
    story: Story
    doctor: Program
    client: Client
    address: str = ""
    patients: dict[str, Program] = field(default_factory=dict)


async def run_demo(plan: DemoPlan, story: Story) -> DemoResult:
    """Run the whole demo.

    Raises:
        ScenarioFailed: a step did not turn out as it must.
    """
    began = time.monotonic()
    console_port = _free_port(CONSOLE_PORT) if plan.keep else None
    async with doctor_program(plan.directory, plan.suite, console_port) as doctor:
        await doctor.wait_for("listen", lambda p: bool(p.find(event="api ready")), PATIENCE)
        async with _network(plan, doctor) as address:
            with Client(str(plan.directory / "doctor")) as client:
                story.weather(plan.weather)
                scene = Scene(plan, story, doctor, client, address)
                for number in range(1, plan.patients + 1):
                    name = f"bed-{number:02}"
                    scene.patients[name] = await _invite(scene, name)
                async with running(list(scene.patients.values())):
                    established = await _establish(scene)
                    await _agree_on_epoch(scene, list(scene.patients))
                    first = await _broadcast(scene, plan.message, list(scene.patients))
                    revoked = next(iter(scene.patients))
                    await _revoke(scene, revoked)
                    rest = [name for name in scene.patients if name != revoked]
                    second = await _broadcast(scene, f"After the revocation: {plan.message}", rest)
                    could_read = read_anything(scene, revoked, second)
                    _verify_audit(scene)
                    seconds = round(time.monotonic() - began, 1)
                    if plan.keep:
                        await _keep(scene)
                    await _stop(scene, rest)
    result = DemoResult(
        plan.patients,
        plan.suite,
        established,
        [first, second],
        RevocationResult(revoked, could_read),
        seconds,
    )
    if could_read:
        raise ScenarioFailed(f"{revoked} could read after its revocation.")
    return result


@contextlib.asynccontextmanager
async def _network(plan: DemoPlan, doctor: Program) -> AsyncIterator[str]:
    """What the weather is made by, where there is any; the address for patients."""
    if plan.weather == FAIR:
        yield ""
        return
    async with Proxy(
        "127.0.0.1", integer(doctor.find(event="listening")[-1], "port"), 1, Discarded()
    ) as proxy:
        proxy.weather = plan.weather
        yield f"127.0.0.1:{proxy.port}"


async def _invite(scene: Scene, name: str) -> Program:
    """One invitation for one patient, handed over as a file that only its owner can read."""
    answer = scene.client.post("/v1/invitations", InviteOrder(name), InvitationAnswer)
    path = scene.plan.directory / f"{name}.invitation"
    await asyncio.to_thread(write_private, path, answer.invitation.encode())
    return patient_program(scene.plan.directory, name, scene.plan.suite, path, scene.address, VITALS_EVERY)


async def _establish(scene: Scene) -> int:
    """Wait for each patient's handshake; show it and hold it against what must have been checked."""
    scene.story.chapter(f"{len(scene.patients)} patients enrol and authenticate ({scene.plan.suite})")
    for name, patient in scene.patients.items():
        await patient.wait_for("be established", lambda p: bool(p.find(event="established")), PATIENCE)

        def positioned(doctor: Program, patient_id: str = name) -> bool:
            return bool(doctor.find(event="established", patient=patient_id))

        await scene.doctor.wait_for(f"establish {name}", positioned, PATIENCE)
        steps = handshake_steps(scene.doctor, scene.patients[name], name)
        require_complete(name, steps)
        scene.story.handshake(name, steps)
    return len(scene.patients)


async def _agree_on_epoch(scene: Scene, names: list[str]) -> int:
    """All members hold the key of the same epoch, and it is the group's current one."""
    group = _group(scene)
    if sorted(group.members) != sorted(names):
        raise ScenarioFailed(f"The group has {group.members}, not {names}.")

    def holds(program: Program) -> bool:
        return any(
            integer(line, "epoch") == group.epoch for line in program.find(event="epoch", group=group.name)
        )

    for name in names:
        await scene.patients[name].wait_for(f"hold epoch {group.epoch}", holds, PATIENCE)
    if _group(scene).epoch != group.epoch:
        return await _agree_on_epoch(scene, names)  # another join came in between
    scene.story.epoch(group.name, group.epoch, names)
    return group.epoch


def _group(scene: Scene) -> GroupAnswer:
    found = scene.client.get("/v1/groups", list[GroupAnswer])
    return next(group for group in found if group.name == "everyone")


async def _broadcast(scene: Scene, text: str, names: list[str]) -> BroadcastResult:
    """Send; each recipient must print the very text, and the doctor must hold each one's receipt."""
    order = BroadcastOrder(text)
    answer = scene.client.post("/v1/broadcasts", order, BroadcastAnswer)
    scene.story.chapter(f"The doctor broadcasts {answer.id}")

    def read(program: Program) -> bool:
        return bool(program.find(event="message", number=answer.number, body=text))

    for name in names:
        await scene.patients[name].wait_for(f"read {answer.id}", read, PATIENCE)
        scene.story.read(name, text)
    path = f"/v1/broadcasts/{answer.id}/receipts"
    # The doctor logs each receipt it has committed; its list is asked for when the last one has come.
    for name in names:

        def delivered(doctor: Program, patient_id: str = name) -> bool:
            lines = doctor.find(event="delivered", patient=patient_id)
            return any(integer(line, "number") >= answer.number for line in lines)

        await scene.doctor.wait_for(f"hold the receipt of {name}", delivered, PATIENCE)
    receipts = scene.client.get(path, list[ReceiptAnswer])
    applied = [receipt.patient for receipt in receipts if receipt.state == "delivered"]
    if sorted(applied) != sorted(names) or answer.recipients != len(names):
        raise ScenarioFailed(f"{answer.id} was for {sorted(names)}, its receipts say {receipts}.")
    scene.story.receipts(len(applied), answer.recipients)
    return BroadcastResult(answer.id, answer.recipients, len(applied))


async def _revoke(scene: Scene, name: str) -> None:
    """Revoke; the group must be in a new epoch when the order returns, and the device must be told and end."""
    scene.story.chapter(f"The doctor revokes {name}")
    before = _group(scene).epoch
    began = time.monotonic()
    scene.client.post(f"/v1/patients/{name}/revoke", None, DepartureAnswer)
    milliseconds = (time.monotonic() - began) * 1000
    rest = [other for other in scene.patients if other != name]
    epoch = await _agree_on_epoch(scene, rest)
    if epoch <= before:
        raise ScenarioFailed(f"The epoch is still {epoch} after the revocation.")
    code = await scene.patients[name].wait_for_exit(PATIENCE)
    if code != REVOKED_EXIT:
        raise ScenarioFailed(
            f"{name} ended with {code}, not {REVOKED_EXIT}.\n{scene.patients[name].last_words()}"
        )
    scene.story.revoked(name, milliseconds, before, epoch)


def read_anything(scene: Scene, name: str, later: BroadcastResult) -> bool:
    """Whether the revoked patient got a key of a later epoch, or a later message."""
    patient = scene.patients[name]
    number = int(later.id.rpartition(".")[2])
    messages = [line for line in patient.find(event="message") if integer(line, "number") >= number]
    began = scene.doctor.find(event="epoch begun", group="everyone")
    last_epoch = integer(began[-1], "epoch")
    keys = [
        line for line in patient.find(event="epoch", group="everyone") if integer(line, "epoch") >= last_epoch
    ]
    return bool(messages or keys)


def _verify_audit(scene: Scene) -> None:
    answer = scene.client.get("/v1/audit/verify", AuditAnswer)
    if not answer.valid:
        raise ScenarioFailed(f"The audit log does not verify: {answer.reason}.")
    scene.story.audit(answer.entries)


async def _keep(scene: Scene) -> None:
    """Leave everything as it is, say where the console is and how to log in, and wait for Ctrl-C."""
    place = scene.client.get("/v1/console", ConsoleAnswer)
    scene.story.kept(place.address, place.first_password or "", str(scene.plan.directory / "doctor"))
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    await stopping.wait()


def _free_port(wanted: int) -> int:
    """The wanted port if nobody on this machine has it, else 0, for any."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            return 0
    return wanted


async def _stop(scene: Scene, names: list[str]) -> None:
    """Everyone ends in good order when asked to."""
    codes = await asyncio.gather(*(scene.patients[name].stop() for name in names))
    codes = [*codes, await scene.doctor.stop()]
    # Who was revoked at the console meanwhile has ended by that.
    if any(codes) and not scene.plan.keep:
        raise ScenarioFailed(
            f"Not everyone ended in good order: exit codes {codes}.\n{scene.doctor.last_words()}"
        )

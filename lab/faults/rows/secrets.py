"""T28: every secret of a running clinic is looked for in every place where it does not belong.

The real programs run with all their logs, are lied to, refuse, crash inside and are given bad input by hand; then each secret is
searched for in clear, in hexadecimal and in base64. The harness must prove itself: a canary that is planted in each kind
of place has to be found.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from doctor.answers import DepartureAnswer
from doctor.settings import TOKEN_NAME, api_directory
from lab.faults.orders import NotAnswered, Refused
from lab.faults.row import Row, Scale, Tally, Trial
from lab.faults.search import Search, files_to_search
from lab.faults.spoiling import PATIENT_FRAMES, Caller, Order
from lab.faults.ward import Ward
from lab.processes import Program, inherited_environment
from patient.identity import DeviceHome
from shared.protocol.invitations import from_text

PATIENCE = 60.0
SWARM = ("bed-1", "bed-2")
PROCESS = "anna"

# A doctor that fails inside, with keys and bodies on the stack: its tracebacks must show neither.
FAULTY = """
import sys
from doctor.fanout import Fanout
from doctor.questions import Questions
from doctor.outbox import Outbox
def fail(*arguments, **named):
    shown = (arguments, named)
    raise RuntimeError("planted")
Questions.reports = fail
Fanout.publish = fail
Outbox.load = fail
from doctor.cli import main
sys.argv = ["telemed-doctor", "serve"]
raise SystemExit(main())
"""


async def run(trial: Trial) -> Tally:
    """Run a clinic in every way that makes programs talk, then search."""
    search, findings = Search(), list[str]()
    async with Ward(trial.directory, trial.seed, {"LOG_LEVEL": "debug"}) as ward:
        device = await _start_device(ward, trial.directory)
        try:
            await _converse(ward, device, search)
            findings += _judge_processes(search, [("the doctor", ward.clinic.doctor), (PROCESS, device)])
            trial.on_progress(1, 3)
            await _provoke(ward, trial.directory, search)
            await _crash_inside(ward, search)
            _collect_secrets(ward, trial.directory, search)
        finally:
            await device.stop()
        await ward.rooms["main"].swarm.__aexit__(None, None, None)
        await ward.clinic.stop()
        trial.on_progress(2, 3)
        _collect_places(ward, device, trial.directory, search)
        device.close()
    hits, blind = await asyncio.to_thread(search.hits), search.blind_kinds()
    findings += [*hits, *(f"a canary planted in a {kind} is not found" for kind in blind)]
    kinds = {kind for kind, _, _ in search.places}
    tried = len(search.secrets) * len(search.places)
    figures = (
        ("secrets", float(len(search.secrets))),
        ("places", float(len(search.places))),
        ("kinds_of_places", float(len(kinds))),
        ("mebibytes", round(sum(len(content) for _, _, content in search.places) / 2**20, 1)),
    )
    return Tally(tried, tried - len(hits), leaked=len(hits), findings=tuple(findings), figures=figures)


# A day in the clinic


async def _start_device(ward: Ward, directory: Path) -> Program:
    """A patient as a process of its own, with all its logs."""
    path = directory / f"{PROCESS}.invitation"
    path.touch(mode=0o600)
    path.write_text(await ward.clinic.invite(PROCESS))
    environment = {
        "TELEMED_PATIENT_STATE_DIR": str(directory / "processes"),
        "TELEMED_PATIENT_INVITATION_FILE": str(path),
        "TELEMED_PATIENT_LOG_LEVEL": "debug",
        "TELEMED_PATIENT_LOG_FORMAT": "json",
    }
    device = Program(PROCESS, ["-m", "patient", PROCESS, "--json"], environment, "stdout")
    await device.start()
    await device.wait_for("be established", lambda p: bool(p.find(event="established")), PATIENCE)
    return device


async def _converse(ward: Ward, device: Program, search: Search) -> None:
    """Messages to all and to each, a report, a retirement and a revocation."""
    room = await ward.open_room("main")
    await ward.admit(room, [*SWARM, "leaver"])
    for text in (secrets.token_hex(24), secrets.token_hex(24)):
        answer = await ward.clinic.broadcast(text)
        search.add(f"the body of {answer.id}", text.encode())

        def read(program: Program, body: str = text) -> bool:
            return bool(program.find(event="message", body=body))

        await device.wait_for(f"read {answer.id}", read, PATIENCE)
    report = secrets.token_hex(24)
    search.add("the body of a report", report.encode())
    arguments = ["-m", "patient.cli", "report", "-", "--id", PROCESS]
    code, said = await command(arguments, device, search, stdin=report.encode())
    if code:
        raise AssertionError(f"the report was not taken: {said}")
    await ward.clinic.orders.post("/v1/patients/leaver/revoke", None, DepartureAnswer)


async def command(
    arguments: Sequence[str], device: Program | None, search: Search, shown: bool = True, stdin: bytes = b""
) -> tuple[int, str]:
    """Run a command by hand; what it says is one more place, unless it is asked to show secrets."""
    script = [
        "-c",
        f"from {arguments[1]} import main; import sys; sys.argv[0] = 'telemed'; {_CALL[arguments[1]]}",
    ]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *script,
        *arguments[2:],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**inherited_environment(), **(device.environment if device else {})},
    )
    output, _ = await process.communicate(stdin)
    if shown:
        search.look("command's output", " ".join(arguments[1:3]), output)
    return process.returncode or 0, output.decode(errors="replace")


_CALL = {"patient.cli": "sys.exit(main(sys.argv[1:]))", "doctor.cli": "sys.exit(main())"}


# What goes wrong


async def _provoke(ward: Ward, directory: Path, search: Search) -> None:
    """Refusals on the wire, refused orders, and both command lines with bad input that has secrets in it."""
    port = int(str(ward.clinic.doctor.find(event="listening")[-1]["port"]))
    text = await ward.clinic.invite("liar")
    caller = Caller(from_text(text))
    search.add("the secret of an invitation", from_text(text).secret)
    for place, _ in enumerate(PATIENT_FRAMES):
        await caller.call(
            port, Order(place, lambda frame: [frame[:-1] + bytes([frame[-1] ^ 1])], hang_up=True)
        )
    doctor = ward.clinic.doctor
    canary = secrets.token_hex(24)
    search.add("the body of a refused message", canary.encode())
    spoiled = text[:-9] + "AAAAAAAAA"
    for arguments, program in (
        (["-m", "doctor.cli", "broadcast", "-", "--group", "nobodys"], doctor),
        (["-m", "doctor.cli", "send", "nobody", "-"], doctor),
        (["-m", "doctor.cli", "revoke", "nobody"], doctor),
        (["-m", "doctor.cli", "audit", "verify"], doctor),
    ):
        await command(arguments, program, search, stdin=canary.encode())
    damaged = _damaged_identity(directory)
    for arguments, environment in (
        (["-m", "patient.cli", "enrol", spoiled], {}),
        (["-m", "patient.cli", "enrol", text, "--id", "somebody-else"], {}),
        (["-m", "patient.cli", "run", text], {}),
        (["-m", "patient.cli", "run", "anna"], {"STATE_DIR": str(damaged)}),
        (["-m", "patient.cli", "inbox", "anna"], {"STATE_DIR": str(damaged)}),
        (["-m", "patient.cli", "run", "anna"], {"SUITE": text}),
    ):
        program = Program(
            "bad", [], {f"TELEMED_PATIENT_{key}": value for key, value in environment.items()}, "stdout"
        )
        own = environment.get("SUITE") == text  # a setting holds no secret, so what is refused may be shown
        await command(arguments, program, search, shown=not own)


def _damaged_identity(directory: Path) -> Path:
    """A copy of the device's identity with a flipped bit."""
    source = directory / "processes" / PROCESS / "identity.json"
    home = directory / "damaged" / PROCESS
    home.mkdir(mode=0o700, parents=True)
    home.parent.chmod(0o700)
    content = bytearray(source.read_bytes())
    content[len(content) // 2] ^= 1
    target = home / "identity.json"
    target.touch(mode=0o600)
    target.write_bytes(content)
    return home.parent


async def _crash_inside(ward: Ward, search: Search) -> None:
    """Another life of the doctor, with bugs planted where bodies and keys are on the stack."""
    await ward.clinic.stop()
    await ward.clinic.start(["-c", FAULTY])
    orders = ward.clinic.orders
    for path in (f"/v1/patients/{PROCESS}/reports", "/v1/patients/bed-1/reports"):
        try:
            await orders.get(path, list[str])
        except Refused as refused:
            search.look("answer of the API", path, refused.body)
    text = secrets.token_hex(24)
    search.add("the body of a message that failed inside", text.encode())
    try:
        await ward.clinic.broadcast(text)
    except (Refused, NotAnswered) as error:
        search.look("answer of the API", "/v1/broadcasts", str(error).encode())
    if not any("exception" in line for line in ward.clinic.doctor.lines):
        raise AssertionError("the planted bugs left no traceback, so nothing is shown by its absence")


# Secrets and places


def _collect_secrets(ward: Ward, directory: Path, search: Search) -> None:
    for path in sorted((ward.clinic.state_dir / "keys").iterdir()):
        search.add(f"the doctor's {path.name}", path.read_bytes())
    token = api_directory(str(ward.clinic.state_dir)) / TOKEN_NAME
    search.add("the API's token", token.read_bytes())
    invitation = (directory / f"{PROCESS}.invitation").read_text()
    search.add("an invitation", invitation.encode())
    search.add("the secret of another invitation", from_text(invitation).secret)
    homes = [DeviceHome(directory / "processes" / PROCESS)]
    homes += [member.home for member in ward.rooms["main"].swarm.members.values()]
    for home in homes:
        identity = home.load()
        search.add(f"the key of {identity.patient_id}", identity.private_key)
        search.add(f"the storage key of {identity.patient_id}", identity.storage_key)
    for epoch in ward.record.keys.epochs:
        search.add(f"epoch {epoch.number} of {epoch.group}, held by {epoch.holder}", epoch.secret)
    for number, session in enumerate(ward.record.keys.sessions):
        search.add(f"session {number} of {session.holder}, to the doctor", session.to_doctor)
        search.add(f"session {number} of {session.holder}, to the patient", session.to_patient)


def _collect_places(ward: Ward, device: Program, directory: Path, search: Search) -> None:
    for life in ward.clinic.lives:
        search.look("log", life.name, msgspec.json.encode(life.lines))
        search.look("log", f"what {life.name} said besides", life.unparsed())
    notices = [
        line for line in device.lines if line.get("event") != "message"
    ]  # which shows the body to its reader
    search.look("log", f"the notices of {PROCESS}", msgspec.json.encode(notices))
    search.look("log", f"the log of {PROCESS}", device.unparsed())
    for (connection, way), data in ward.clinic.proxy.capture.streams().items():
        search.look("capture of the wire", f"connection {connection}, {way.value}", data)
    for path in files_to_search(directory):
        search.look("file", str(path.relative_to(directory)), path.read_bytes())


def _judge_processes(search: Search, programs: Sequence[tuple[str, Program]]) -> list[str]:
    """Arguments and environment are places; and no memory may land in a core file."""
    findings = []
    for name, program in programs:
        proc = Path(f"/proc/{program.pid}")
        search.look("command line", name, proc.joinpath("cmdline").read_bytes())
        try:
            search.look("environment", name, proc.joinpath("environ").read_bytes())
        except PermissionError:  # to anybody but root: it is hidden, which is as good
            search.look("environment", name, repr(program.environment).encode())
        limits = proc.joinpath("limits").read_text()
        core = re.search(r"Max core file size\s+(\S+)\s+(\S+)", limits)
        if core is None or core.groups() != ("0", "0"):
            findings.append(f"a core file of {name} may be written: {core.groups() if core else limits}")
        # Of a process that is not dumpable, all below /proc belongs to root; of ours as root that says nothing.
        if os.geteuid() and proc.joinpath("mem").stat().st_uid:
            findings.append(f"the memory of {name} may be dumped")
    return findings


ROW = Row(
    name="canaries",
    threat="T28",
    title="every secret is looked for in logs at debug, tracebacks, arguments, environments, files, the wire and what commands say",
    passes="found nowhere; one that is planted is found everywhere; no core dumps",
    ci=Scale(count=1),
    release=Scale(count=1),
    run=run,
)

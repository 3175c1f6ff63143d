"""The command line `telemed-patient`: it reads arguments and settings, starts a device, and ends with a documented code.

Law: words and exit codes only; what a command does is in the modules below. Nothing secret is taken from the arguments but the
invitation, for which standard input and a file are the better ways.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
import uvloop
from rich.console import Console

from patient import enrolment, listings, outbox, stored, vitals
from patient.device import Conditions, Device
from patient.exit_codes import ExitCode, Refusal
from patient.heartbeat import patient_of
from patient.identity import DeviceHome
from patient.listings import text_of
from patient.notices import Blocks, Tell, json_lines
from patient.options import PREFIX, Config, Json, Owner, PatientId, configured
from patient.outbox import Outbox
from patient.presence import Presence, opened
from patient.settings import PatientSettings
from patient.slots import DeviceLock, claim
from shared import core_dumps, logs, replies
from shared.config import load
from shared.errors import ConfigError, StorageError, UserError
from shared.net.stream import clock
from shared.storage.keyfile import private_directory
from shared.storage.sealed import Sealer
from shared.wire.messages import ReportKind

_CODES = "  \n".join(f"{code.value}: {code.meaning}" for code in ExitCode)
app = typer.Typer(
    help="A patient device of the secure telemedical system.",
    epilog=f"Exit codes:\n\n{_CODES}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # its tracebacks show local variables, which are keys here
    rich_markup_mode="markdown",
)


@app.command()
def run(patient_id: PatientId = None, config: Config = None, as_json: Json = False) -> None:
    """Stay connected to the doctor, store each message and print it.

    Without PATIENT_ID the device takes a numbered slot in `slots_dir` and enrols with `invitation_file` if it is new.
    """
    with _one_line_errors():
        settings = _settings(config)
        _end(_until_signal(_run(patient_id, settings, _tell(as_json)), stopped=ExitCode.OK))


@app.command()
def enrol(
    invitation: Annotated[
        str,
        typer.Argument(
            help="`-` reads the invitation from standard input, `@FILE` from a file. "
            "The string itself works too, but other users of this machine can see it in the process list."
        ),
    ],
    patient_id: Annotated[
        str | None, typer.Option("--id", help="The id, if the invitation names one.")
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Make this device's key, and have the doctor admit it with an invitation."""
    with _one_line_errors():
        settings = _settings(config)
        invited = enrolment.invitation_of(invitation, sys.stdin)
        work = enrolment.enrol(invited, patient_id, settings, _tell(as_json), Conditions())
        _end(_until_signal(work, stopped=ExitCode.UNEXPECTED))


@app.command("inbox")
def show_inbox(patient_id: PatientId = None, config: Config = None, as_json: Json = False) -> None:
    """Show the messages that this device has received. `--json` prints one list."""
    with _one_line_errors():
        settings = _settings(config)
        home = _home_of(patient_id, settings)
        listings.show_inbox(stored.read(home.inbox_file, _sealer(home)), as_json)


@app.command()
def report(
    text: Annotated[str, typer.Argument(help="What to report; `-` reads it from standard input.")],
    patient_id: Owner = None,
    kind: Annotated[Literal["reply", "vitals"], typer.Option(help="A text, or values as JSON.")] = "reply",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Report TEXT to the doctor. When this returns, it is on this device's disk; the running device sends it."""
    with _one_line_errors():
        home = _home_of(patient_id, _settings(config))
        body = text_of(text, sys.stdin)
        report_id = uvloop.run(_write(home, ReportKind[kind.upper()], body))
        listings.show_written(report_id, as_json)


@app.command()
def reply(
    text: Annotated[str, typer.Argument(help="The answer; `-` reads it from standard input.")],
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="MESSAGE", help="The id that `inbox` shows; without it, the newest message."
        ),
    ] = None,
    patient_id: Owner = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Answer a message of the doctor's: a report that says which it answers. It waits on this device's disk like any other."""
    with _one_line_errors():
        home = _home_of(patient_id, _settings(config))
        message = listings.answered(stored.read(home.inbox_file, _sealer(home)), to)
        said = text_of(text, sys.stdin).decode()
        if not said.strip():
            raise UserError("The reply is empty.")
        body = replies.compose(message.stream, message.number, said).encode()
        report_id = uvloop.run(_write(home, ReportKind.REPLY, body))
        listings.show_reply(report_id, message, as_json)


@app.command("reports")
def show_reports(patient_id: PatientId = None, config: Config = None, as_json: Json = False) -> None:
    """Show what this device has reported, and what of it the doctor has. `--json` prints one list."""
    with _one_line_errors():
        home = _home_of(patient_id, _settings(config))
        listings.show_reports(outbox.read(home.outbox_file, _sealer(home)), as_json)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(_version())
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and end."),
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    core_dumps.forbid()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a body's letters may be none of the terminal's
    try:
        app(list(arguments) if arguments is not None else None, prog_name="telemed-patient")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


# --- behind the commands


async def _run(patient_id: str | None, settings: PatientSettings, tell: Tell) -> ExitCode:
    conditions = Conditions()
    with await _locked_home(patient_id, settings) as lock:
        home = lock.home
        if home.revoked:
            raise Refusal(
                ExitCode.REVOKED,
                f"The doctor has revoked the device in {home.path}. Ask for an invitation with a new id.",
            )
        identity = await enrolment.identity_for(home, patient_id, settings, tell, conditions)
        device = Device(home, identity, settings, tell, conditions)
        async with opened(device, settings, tell, conditions), vitals.reporting(device, settings, conditions):
            verdict = await Presence(device, home, settings, tell, conditions).keep()
    return verdict.code


async def _locked_home(patient_id: str | None, settings: PatientSettings) -> DeviceLock:
    if patient_id is None:
        if settings.slots_dir is None:
            raise UserError("Give the id of the patient that this device is for, or set slots_dir.")
        return await claim(Path(settings.slots_dir))
    home = enrolment.find_home(patient_id, settings)
    if not home.has_identity:
        if settings.invitation_file is None:
            raise enrolment.not_enrolled(home)
        private_directory(Path(settings.state_dir))
    return DeviceLock.acquire(DeviceHome(private_directory(home.path)))


def _home_of(patient_id: str | None, settings: PatientSettings) -> DeviceHome:
    """The device that a command is about: the one named, or the one that has a session in this container."""
    if patient_id is None and settings.heartbeat_file is not None:
        patient_id = patient_of(Path(settings.heartbeat_file))
    if patient_id is None:
        raise UserError(
            "Give the id of the patient whose device is meant; without it, that is the one which has a session here."
        )
    home = enrolment.find_home(patient_id, settings)
    if not home.has_identity:
        raise enrolment.not_enrolled(home)
    return home


async def _write(home: DeviceHome, kind: ReportKind, body: bytes) -> bytes:
    """Put a report into the outbox, beside the device that may be running."""
    identity = home.load()
    if home.revoked:
        raise Refusal(
            ExitCode.REVOKED, f"The doctor has revoked {identity.patient_id} and takes no report from it."
        )
    if identity.enrolment is not None:
        # Should the doctor refuse the enrolment, the whole directory goes, and the report with it.
        raise Refusal(
            ExitCode.NOT_ENROLLED,
            f"The doctor has not admitted {identity.patient_id} yet: start it with "
            f"`telemed-patient run {identity.patient_id}`, and report when it is connected.",
        )
    conditions = Conditions()
    box = Outbox(home.outbox_file, Sealer(identity.storage_key, conditions.random), conditions.random)
    try:
        return await box.write(kind, body, clock().wall)
    finally:
        await box.close()


def _sealer(home: DeviceHome) -> Sealer:
    return Sealer(home.load().storage_key, os.urandom)


def _settings(config: Path | None) -> PatientSettings:
    settings = load(PatientSettings, configured(config), os.environ, PREFIX)
    logs.configure(settings.log_level, settings.log_format)
    return settings


def _tell(as_json: bool) -> Tell:
    return json_lines(sys.stdout) if as_json else Blocks(Console())


def _until_signal(work: Coroutine[Any, Any, ExitCode], stopped: ExitCode) -> ExitCode:
    """Do `work`; SIGTERM and SIGINT end it in good order, with the code `stopped`."""
    return uvloop.run(_interruptible(work, stopped))


async def _interruptible(work: Coroutine[Any, Any, ExitCode], stopped: ExitCode) -> ExitCode:
    task = asyncio.ensure_future(work)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        return stopped


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Whatever a person can do something about ends the program with one line and its code."""
    try:
        yield
    except (ConfigError, UserError, StorageError) as error:
        typer.echo(f"telemed-patient: {error}", err=True)
        if isinstance(error, Refusal):
            raise typer.Exit(error.code) from error
        raise typer.Exit(ExitCode.STORAGE if isinstance(error, StorageError) else ExitCode.USAGE) from error


def _end(code: ExitCode) -> None:
    if code is not ExitCode.OK:
        raise typer.Exit(code)


def _version() -> str:
    try:
        return version("secure-telemedical-system")
    except PackageNotFoundError:  # an image holds the sources, not the installed project
        return "source"

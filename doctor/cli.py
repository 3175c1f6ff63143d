"""`telemed-doctor`: runs the gateway and gives it orders.

Exit codes: 0 done · 1 the doctor refused, or the audit log does not verify · 2 configuration or usage · 9 no doctor answers.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from doctor import audit_cli, keys_cli, messages_cli, operators_cli, safekeeping, verdicts, vitals_cli
from doctor.answers import (
    AuditAnswer,
    DepartureAnswer,
    GroupAnswer,
    InvitationAnswer,
    MemberAnswer,
    PatientAnswer,
    ProbeAnswer,
)
from doctor.client import DoctorUnreachable
from doctor.orders import GroupOrder, InviteOrder, MemberOrder
from doctor.terminal import (
    CONSOLE,
    AsJson,
    Configured,
    Group,
    Patient,
    busy,
    calling,
    counted,
    part,
    show_answer,
    show_table,
    time_text,
)
from shared import core_dumps, logs
from shared.errors import ConfigError, StorageError, TelemedError, UserError

app = typer.Typer(no_args_is_help=True, add_completion=True, help=__doc__, rich_markup_mode=None)
groups_app = typer.Typer(no_args_is_help=True, help="Groups and their members.")
audit_app = typer.Typer(no_args_is_help=True, help="The audit log.")
app.add_typer(groups_app, name="groups")
app.add_typer(audit_app, name="audit")
audit_cli.register(audit_app)
safekeeping.register(app)
keys_cli.register(app)
operators_cli.register(app)
vitals_cli.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        try:
            sys.stdout.write(version("secure-telemedical-system") + "\n")
        except PackageNotFoundError:  # in an image the project is not installed
            sys.stdout.write("unknown\n")
        raise typer.Exit


@app.callback()
def options(
    config_file: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="YAML file, named before the command; default $TELEMED_DOCTOR_CONFIG or /etc/telemed/doctor.yaml.",
        ),
    ] = None,
    show_version: Annotated[
        bool,
        typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and end."),
    ] = False,
) -> None:
    """Options for every command."""
    Configured.path = config_file


@app.command()
def serve() -> None:
    """Run the gateway until SIGTERM or Ctrl-C."""
    from doctor import service  # the server's libraries are loaded by this command alone

    settings = Configured.settings()
    logs.configure(settings.log_level, settings.log_format)
    _run(lambda: service.serve(settings))


def _run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    try:
        import uvloop
    except ImportError:
        asyncio.run(main())
    else:
        uvloop.run(main())


@app.command()
def probe(as_json: AsJson = False) -> None:
    """Check that the device port answers as this doctor (the container's health check); exit 9 where it does not."""
    from doctor.probe import probe as check

    settings = Configured.settings()
    try:
        check(settings)
    except (UserError, StorageError) as error:
        raise DoctorUnreachable(str(error)) from error
    answer = ProbeAnswer(settings.doctor_id, settings.listen_port)
    show_answer(answer, as_json, lambda: None)  # a health check's silence is its yes


@app.command("doctor")
def selfcheck(as_json: AsJson = False) -> None:
    """Look for the usual mistakes in how this doctor is set up, and say how to mend each; exit 1 if something is wrong."""
    from doctor.selfcheck_cli import selfcheck as check  # looks at everything, so it loads as much as `serve`

    check(as_json)


@app.command()
def invite(
    patient: Annotated[str | None, typer.Argument(help="The id that the patient will have.")] = None,
    fleet: Annotated[bool, typer.Option("--fleet", help="For many devices, which get derived ids.")] = False,
    group: Annotated[list[str] | None, typer.Option("--group", help="Also a member of this group.")] = None,
    hours: Annotated[float | None, typer.Option(help="How long the invitation lasts.")] = None,
    qr: Annotated[bool, typer.Option("--qr", help="Also show it as a QR code.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make an invitation for one PATIENT, or for a fleet."""
    if fleet == (patient is not None):
        raise typer.BadParameter("name one patient, or say --fleet")
    with calling() as client:
        order = InviteOrder(patient, group or [], hours)
        answer = client.post("/v1/invitations", order, InvitationAnswer)

    def show() -> None:
        until = "until it is rotated" if answer.expires == 0 else f"until {time_text(answer.expires)}"
        whom = answer.patient or f"a fleet of up to {answer.uses} devices"
        # Standard output holds the string alone, so that it can be sent straight into a file.
        text = f"Invitation for {whom}, valid {until}. Whoever holds it can use it; hand it over yourself:"
        sys.stderr.write(text + "\n")
        sys.stdout.write(answer.invitation + "\n")
        if qr:
            import segno

            segno.make(answer.invitation, error="l").terminal(compact=True)

    show_answer(answer, as_json, show)


@app.command()
def patients(as_json: AsJson = False) -> None:
    """List the patients and what is known of each right now."""
    with calling() as client:
        found = client.get("/v1/patients", list[PatientAnswer])
    rows = [
        [
            p.patient,
            p.state,
            ", ".join(f"{group}:{p.epochs[group]}" if group in p.epochs else group for group in p.groups),
            p.suite or "",
            time_text(p.last_seen),
            p.fingerprint,
        ]
        for p in found
    ]
    columns = ["patient", "state", "groups:epoch", "suite", "last admitted", "fingerprint"]

    def show() -> None:
        show_table(counted(len(found), "patient"), columns, rows)
        for each in found:
            if each.trouble is not None:
                CONSOLE.print(Text(f"{each.patient}: {logs.plain(each.trouble)}", "yellow"), soft_wrap=True)

    show_answer(found, as_json, show)


for command in (messages_cli.broadcast, messages_cli.send, messages_cli.receipts, messages_cli.reports):
    app.command()(command)


@app.command()
def revoke(patient: Patient, as_json: AsJson = False) -> None:
    """Expel a PATIENT for good: its connection is cut and its groups have new keys when this returns."""
    _depart("revoke", patient, as_json)


@app.command()
def retire(patient: Patient, as_json: AsJson = False) -> None:
    """Remove a PATIENT that is gone; the same device may come back."""
    _depart("retire", patient, as_json)


def _depart(verb: str, patient: str, as_json: bool) -> None:
    with calling() as client:
        answer = client.post(f"/v1/patients/{part(patient)}/{verb}", None, DepartureAnswer)
    text = f"{answer.patient} is {answer.standing}; new epochs began in {', '.join(answer.groups) or 'no group'}."
    if answer.excluded_in_ms is not None:
        text += f" Excluded within {answer.excluded_in_ms} ms."
    show_answer(answer, as_json, lambda: CONSOLE.print(text))


@groups_app.command("list")
def list_groups(as_json: AsJson = False) -> None:
    """List the groups."""
    with calling() as client:
        found = client.get("/v1/groups", list[GroupAnswer])
    rows = [[g.name, str(g.epoch), str(len(g.members)), " ".join(g.members)] for g in found]
    show_answer(
        found,
        as_json,
        lambda: show_table(counted(len(found), "group"), ["group", "epoch", "members", ""], rows),
    )


@groups_app.command("create")
def create_group(name: str, as_json: AsJson = False) -> None:
    """Make a group called NAME."""
    with calling() as client:
        answer = client.post("/v1/groups", GroupOrder(name), GroupAnswer)
    show_answer(answer, as_json, lambda: CONSOLE.print(f"Group {answer.name} exists."))


@groups_app.command("add")
def add_member(group: Group, patient: Patient, as_json: AsJson = False) -> None:
    """Add PATIENT to GROUP: it reads what is accepted from now on."""
    with calling() as client:
        answer = client.post(f"/v1/groups/{part(group)}/members", MemberOrder(patient), MemberAnswer)
    show_answer(answer, as_json, lambda: CONSOLE.print(f"{answer.patient} is a member of {answer.group}."))


@groups_app.command("remove")
def remove_member(group: Group, patient: Patient, as_json: AsJson = False) -> None:
    """Remove PATIENT from GROUP: it reads nothing that is accepted from now on."""
    with calling() as client:
        answer = client.delete(f"/v1/groups/{part(group)}/members/{part(patient)}", MemberAnswer)
    show_answer(
        answer, as_json, lambda: CONSOLE.print(f"{answer.patient} is no longer a member of {answer.group}.")
    )


@audit_app.command("verify")
def verify_audit(as_json: AsJson = False) -> None:
    """Recompute the audit log's hash chain and compare its signed heads; exit 1 names the first bad entry."""
    with calling() as client, busy("Recomputing the chain"):
        answer = client.get("/v1/audit/verify", AuditAnswer)
    show_answer(answer, as_json, lambda: CONSOLE.print(verdicts.in_words(answer)))
    if not answer.valid:
        raise typer.Exit(1)


def main() -> int:
    """The program; returns its exit code."""
    core_dumps.forbid()
    try:
        app(standalone_mode=True)
    except ConfigError as error:
        return _say(error, 2)
    except DoctorUnreachable as error:
        return _say(error, 9)
    except (UserError, StorageError) as error:
        return _say(error, 1)
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    return 0


def _say(error: TelemedError, code: int) -> int:
    sys.stderr.write(f"telemed-doctor: {logs.plain(str(error))}\n")
    return code

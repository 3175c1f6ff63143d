"""The commands of `telemed-doctor` about the web console and who may log in there."""

from __future__ import annotations

import sys

import typer

from doctor.answers import ConsoleAnswer, OperatorAnswer, PasswordAnswer
from doctor.orders import OperatorOrder
from doctor.terminal import CONSOLE, AsJson, calling, counted, part, show_answer, show_table, time_text

operators_app = typer.Typer(no_args_is_help=True, help="Who may log in at the web console.")


def register(app: typer.Typer) -> None:
    """Add the commands to the program."""
    app.command()(console)
    app.add_typer(operators_app, name="operators")


def console(as_json: AsJson = False) -> None:
    """Show the web console's address, and the first password until somebody has logged in with it."""
    with calling() as client:
        answer = client.get("/v1/console", ConsoleAnswer)

    def show() -> None:
        lines = [f"Console   {answer.address}"]
        if answer.certificate is not None:
            lines.append(f"SHA-256   {_pairs(answer.certificate)}")
            lines.append(
                "          of its certificate; a self-signed one the browser asks about: compare it once"
            )
        if answer.first_password is not None:
            lines += ["Operator  admin", f"Password  {answer.first_password}   (until the first login)"]
        else:
            lines.append(
                "Log in with your operator's name; `telemed-doctor operators password NAME` makes a new password."
            )
        sys.stdout.write("\n".join(lines) + "\n")

    show_answer(answer, as_json, show)


def _pairs(digits: str) -> str:
    """As browsers show a fingerprint."""
    return ":".join(digits[place : place + 2].upper() for place in range(0, len(digits), 2))


@operators_app.command("list")
def list_operators(as_json: AsJson = False) -> None:
    """List the operators."""
    with calling() as client:
        found = client.get("/v1/operators", list[OperatorAnswer])
    rows = [[each.name, time_text(each.created), time_text(each.changed)] for each in found]
    columns = ["operator", "added", "password since"]
    show_answer(found, as_json, lambda: show_table(counted(len(found), "operator"), columns, rows))


@operators_app.command("add")
def add(name: str, as_json: AsJson = False) -> None:
    """Make an operator called NAME, with a password that is shown once."""
    with calling() as client:
        answer = client.post("/v1/operators", OperatorOrder(name), PasswordAnswer)
    _show_password(answer, as_json)


@operators_app.command("password")
def password(name: str, as_json: AsJson = False) -> None:
    """Give the operator NAME a new password, which is shown once; its logins end."""
    with calling() as client:
        answer = client.post(f"/v1/operators/{part(name)}/password", None, PasswordAnswer)
    _show_password(answer, as_json)


@operators_app.command("remove")
def remove(name: str, as_json: AsJson = False) -> None:
    """Remove the operator NAME; its logins end."""
    with calling() as client:
        answer = client.delete(f"/v1/operators/{part(name)}", OperatorAnswer)
    show_answer(answer, as_json, lambda: CONSOLE.print(f"{answer.name} is no operator any more."))


def _show_password(answer: PasswordAnswer, as_json: bool) -> None:
    def show() -> None:
        sys.stderr.write(f"Password of {answer.name}, shown once; it can be changed at the console:\n")
        sys.stdout.write(answer.password + "\n")

    show_answer(answer, as_json, show)

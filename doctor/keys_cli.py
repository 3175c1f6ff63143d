"""The command that gives the doctor new keys, and says who still lacks them."""

from __future__ import annotations

from typing import Annotated

import typer

from doctor.answers import RotationAnswer
from doctor.safekeeping import Yes
from doctor.terminal import CONSOLE, AsJson, calling, show_answer, time_text
from shared.errors import UserError

_PATH = "/v1/keys/rotation"


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("rotate-key")(rotate_key)


def rotate_key(
    status: Annotated[
        bool, typer.Option("--status", help="Change nothing: show the last rotation and who is missing.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Give the doctor new signing keys. Every device comes back at once and learns them; open invitations are void."""
    if as_json and not yes and not status:
        raise typer.BadParameter("--json does not ask: say --yes as well")
    with calling() as client:
        if status:
            answer = client.get(_PATH, RotationAnswer)
        else:
            if not yes and not typer.confirm(
                "Every connection ends for a moment, and open invitations are void. Rotate the keys?",
                err=True,
            ):
                raise UserError("Nothing was changed.")
            answer = client.post(_PATH, None, RotationAnswer)
    show_answer(answer, as_json, lambda: _show(answer))


def _show(answer: RotationAnswer) -> None:
    if answer.time is None:
        _say("The keys are those of the first start.")
    else:
        _say(f"Rotation {answer.sequence} began at {time_text(answer.time)}.")
        missing = ", ".join(answer.missing)
        _say("Everyone has the new keys." if answer.complete else f"Not back since: {missing}.")
    for algorithm, name in answer.keys.items():
        _say(f"{algorithm}: {name}")
    if answer.voided:
        _say(f"Invite anew, their invitations named the former keys: {', '.join(answer.voided)}.")
    if answer.voided or (answer.time is not None and not answer.complete):
        _say("Copy keys/ to where you keep it: an older copy is of no use any more.")


def _say(text: str) -> None:
    CONSOLE.print(text, markup=False, highlight=False, soft_wrap=True)

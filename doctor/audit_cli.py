"""The command of `telemed-doctor` that shows the audit log; `audit verify` is what vouches for it."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

import typer

from doctor.answers import AUDIT_SHOWN, AuditEntriesAnswer
from doctor.terminal import CONSOLE, AsJson, calling, counted, show_answer, show_table, time_text


def register(app: typer.Typer) -> None:
    """Add the command to the program."""
    app.command("list")(list_entries)


def list_entries(
    count: Annotated[int, typer.Option(min=1, max=AUDIT_SHOWN, help="How many entries.")] = 20,
    about: Annotated[
        str, typer.Option(metavar="NAME", help="Only those about this patient, group, message or operator.")
    ] = "",
    before: Annotated[int | None, typer.Option(min=1, metavar="ENTRY", help="Older than this entry.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the newest entries of the audit log: who did what, and when; the newest comes last."""
    query = {"limit": count, "about": about, "before": before}
    with calling() as client:
        answer = client.get(
            "/v1/audit?" + urlencode({name: value for name, value in query.items() if value}),
            AuditEntriesAnswer,
        )
    rows = [
        [str(each.sequence), time_text(each.time), each.actor, each.action, each.subject, each.detail]
        for each in reversed(answer.entries)
    ]

    def show() -> None:
        columns = ["entry", "time", "by", "action", "about", "detail"]
        show_table(counted(len(rows), "entry", "entries"), columns, rows)
        if answer.older is not None:
            CONSOLE.print(f"Older ones: --before {answer.older}", highlight=False)

    show_answer(answer, as_json, show)

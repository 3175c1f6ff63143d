"""The command `telemed-doctor doctor`: a table of what is in order and what is not."""

from __future__ import annotations

import typer
from rich.table import Table
from rich.text import Text

from doctor.selfcheck import Finding, Verdict, examine, look_at
from doctor.terminal import CONSOLE, AsJson, Configured, show_answer
from shared.errors import ConfigError
from shared.text import readable

_MARKS = {Verdict.OK: ("✓", "green"), Verdict.ADVICE: ("!", "yellow"), Verdict.WRONG: ("✗", "red")}


def selfcheck(as_json: AsJson = False) -> None:
    """Look for the usual mistakes in how this doctor is set up, and say how to mend each; exit 1 if something is wrong."""
    findings = _findings()
    show_answer(findings, as_json, lambda: _show(findings))
    if any(each.verdict is Verdict.WRONG for each in findings):
        raise typer.Exit(1)


def _findings() -> list[Finding]:
    try:
        settings = Configured.settings()
    except ConfigError as error:
        # Without settings there is nothing to look at.
        return [
            Finding("settings", Verdict.WRONG, str(error), "Correct this first; the rest is looked at then.")
        ]
    return [Finding("settings", Verdict.OK, "in order"), *examine(look_at(settings))]


def _show(findings: list[Finding]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("", "check", "found"):
        table.add_column(column)
    for each in findings:
        mark, colour = _MARKS[each.verdict]
        told = Text(readable(each.found))
        if each.remedy:
            told.append(f"\n→ {readable(each.remedy)}", style="bold")
        table.add_row(Text(mark, colour), each.check, told)
    CONSOLE.print(table)
    wrong = sum(each.verdict is Verdict.WRONG for each in findings)
    CONSOLE.print(Text(f"{wrong} to mend." if wrong else "Nothing is wrong.", "red" if wrong else "green"))

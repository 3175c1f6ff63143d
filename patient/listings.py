"""What the commands that end at once read and print: the inbox and the outbox, as blocks for a person or as JSON.

Law: decides nothing and stores nothing. The structs are the JSON: their field names are an interface.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

import msgspec
import typer
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from patient.inbox import StoredMessage
from patient.notices import message_block, message_notice
from patient.outbox import WrittenReport
from patient.text import decoded, moment
from shared.errors import UserError
from shared.text import readable
from shared.wire.messages import BODY_LIMIT, TargetKind


class InboxEntry(msgspec.Struct, frozen=True):
    """A message as `inbox --json` prints it; `body` is null where it had expired when it came.

    `private`: it is for this patient alone. `direct`: it came in a frame of this device's own, as private messages and missed
    broadcasts do.
    """

    stream: str
    number: int
    created: str
    received: str
    body: str | None
    direct: bool
    expired: bool
    private: bool


class OutboxEntry(msgspec.Struct, frozen=True):
    """A report as `reports --json` prints it; `state` is `waiting` or `kept`, `kept` since when the doctor has it."""

    id: str
    kind: str
    created: str
    state: str
    kept: str | None
    body: str


class Written(msgspec.Struct, frozen=True):
    """What `report --json` prints."""

    id: str
    state: str = "waiting"


def text_of(argument: str, standard_input: TextIO) -> bytes:
    """What a person wants to report: the argument, or what standard input holds where that is `-`.

    Raises:
        UserError: it is no UTF-8 text.
    """
    try:
        # One character more than can be sent: the limit's own error then names a size above it.
        text = standard_input.read(BODY_LIMIT + 1) if argument == "-" else argument
        return text.encode()
    except UnicodeError as error:
        raise UserError("The report is not UTF-8 text.") from error


def show_inbox(messages: Sequence[StoredMessage], as_json: bool) -> None:
    """All messages, in the order in which they came; a person is not shown what had expired."""
    if as_json:
        _print_json([_inbox_entry(each) for each in messages])
        return
    console = Console()
    for each in messages:
        if each.body is not None:
            console.print(message_block(message_notice(each)))
    if not messages:
        console.print("No messages yet.")


def show_reports(reports: Sequence[WrittenReport], as_json: bool) -> None:
    """All reports that are still here, in the order in which they were written."""
    if as_json:
        _print_json([_outbox_entry(each) for each in reports])
        return
    console = Console()
    for each in reports:
        state = "waiting" if each.kept is None else f"kept by the doctor since {moment(each.kept)}"
        console.print(Text(f"Report {each.report_id.hex()}: {state}"), soft_wrap=True)
        title = Text(f"{each.kind.name.lower()} · {moment(each.created)}", "bold")
        body = Text(readable(decoded(each.body)))
        console.print(Panel(body, title=title, title_align="left", expand=False))
    if not reports:
        console.print("No reports yet.")


def show_written(report_id: bytes, as_json: bool) -> None:
    """A report has been kept on this device."""
    if as_json:
        _print_json(Written(report_id.hex()))
    else:
        typer.echo(
            f"Report {report_id.hex()} is kept on this device and goes to the doctor with the next session."
        )


def _inbox_entry(stored: StoredMessage) -> InboxEntry:
    return InboxEntry(
        stream=str(stored.stream),
        number=stored.number,
        created=moment(stored.created),
        received=moment(stored.received),
        body=None if stored.body is None else decoded(stored.body),
        direct=stored.direct,
        expired=stored.body is None,
        private=stored.stream.kind is TargetKind.PATIENT,
    )


def _outbox_entry(written: WrittenReport) -> OutboxEntry:
    return OutboxEntry(
        id=written.report_id.hex(),
        kind=written.kind.name.lower(),
        created=moment(written.created),
        state="waiting" if written.kept is None else "kept",
        kept=None if written.kept is None else moment(written.kept),
        body=decoded(written.body),
    )


def _print_json(what: msgspec.Struct | Sequence[msgspec.Struct]) -> None:
    typer.echo(msgspec.json.encode(what).decode())

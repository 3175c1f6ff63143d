"""What the commands that end at once read and print: the inbox and the outbox, as blocks for a person or as JSON.

Law: decides nothing and stores nothing. The structs are the JSON: their field names are an interface.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from patient.notices import text_block, way
from patient.outbox import WrittenReport
from patient.stored import StoredMessage
from patient.text import decoded, moment, shortened, time_text
from shared.errors import UserError
from shared.message_ids import parse_message_id
from shared.text import readable
from shared.wire.messages import BODY_LIMIT, TargetKind

KEPT = "is kept on this device and goes to the doctor with the next session."


class InboxEntry(msgspec.Struct, frozen=True):
    """A message as `inbox --json` prints it; `body` is null where it had expired when it came.

    `id`: what `reply --to` takes, and `telemed-doctor receipts`. `private`: it is for this patient alone. `direct`: it came in a
    frame of this device's own, as private messages and missed broadcasts do. `receipted`: the doctor has read the receipt.
    """

    id: str
    stream: str
    number: int
    created: str
    received: str
    body: str | None
    direct: bool
    expired: bool
    private: bool
    receipted: bool


class OutboxEntry(msgspec.Struct, frozen=True):
    """A report as `reports --json` prints it; `state` is `waiting` or `kept`, `kept` since when the doctor has it."""

    id: str
    kind: str
    created: str
    state: str
    kept: str | None
    body: str


class Written(msgspec.Struct, frozen=True):
    """What `report --json` and `reply --json` print. `to`: the message that is answered."""

    id: str
    state: str = "waiting"
    to: str | None = None


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
            title = f"{each.stream} · {time_text(each.created)}{way(each.stream.kind is TargetKind.PATIENT, each.direct)}"
            console.print(text_block(title, decoded(each.body)))
            receipt = Text("the doctor has the receipt", "green")
            if not each.receipted:
                receipt = Text("the doctor has not confirmed the receipt yet", "yellow")
            console.print(Text(f"  {each.message_id} · ") + receipt, soft_wrap=True)
    if not messages:
        console.print("No messages yet.")


def answered(messages: Sequence[StoredMessage], name: str | None) -> StoredMessage:
    """The message that a reply is to: the one of this id, else the newest that has a text.

    Raises:
        UserError: this device has no such message.
    """
    if name is not None:
        place = parse_message_id(name)
        found = next((each for each in messages if (each.stream, each.number) == place), None)
        if found is None:
            raise UserError(f"This device has no message {name}; `telemed-patient inbox` shows those it has.")
        return found
    found = next((each for each in reversed(messages) if each.body is not None), None)
    if found is None:
        raise UserError("This device has no message to reply to yet; `telemed-patient report` needs none.")
    return found


def show_reports(reports: Sequence[WrittenReport], as_json: bool) -> None:
    """All reports that are still here, in the order in which they were written."""
    if as_json:
        _print_json([_outbox_entry(each) for each in reports])
        return
    console = Console()
    for each in reports:
        state = "waiting" if each.kept is None else f"kept by the doctor since {time_text(each.kept)}"
        style = "yellow" if each.kept is None else "green"
        console.print(Text(f"Report {each.report_id.hex()}: ") + Text(state, style), soft_wrap=True)
        console.print(text_block(f"{each.kind.name.lower()} · {time_text(each.created)}", decoded(each.body)))
    if not reports:
        console.print("No reports yet.")


def show_written(report_id: bytes, as_json: bool) -> None:
    """A report has been kept on this device."""
    if as_json:
        _print_json(Written(report_id.hex()))
    else:
        typer.echo(f"Report {report_id.hex()} {KEPT}")


def show_reply(report_id: bytes, to: StoredMessage, as_json: bool) -> None:
    """A reply has been kept on this device; what it answers is said, since it may not be what the person thinks of."""
    if as_json:
        _print_json(Written(report_id.hex(), to=to.message_id))
        return
    quoted = "" if to.body is None else f", “{shortened(readable(decoded(to.body)))}”"
    typer.echo(f"A reply to {to.message_id}{quoted}.\nReport {report_id.hex()} {KEPT}")


def _inbox_entry(stored: StoredMessage) -> InboxEntry:
    return InboxEntry(
        id=stored.message_id,
        stream=str(stored.stream),
        number=stored.number,
        created=moment(stored.created),
        received=moment(stored.received),
        body=None if stored.body is None else decoded(stored.body),
        direct=stored.direct,
        expired=stored.body is None,
        private=stored.stream.kind is TargetKind.PATIENT,
        receipted=stored.receipted,
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

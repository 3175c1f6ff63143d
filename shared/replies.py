"""A patient's answer to one message: a text whose first line says which.

Law: this is a convention inside the body of a REPORT, which the protocol carries as any other text. Who reads it and knows nothing of it
still sees what is answered; what does not have this form is a text like any other. The patient wrote it: it proves nothing.
"""

from __future__ import annotations

from typing import NamedTuple

from shared.errors import UserError
from shared.message_ids import message_id, parse_message_id
from shared.wire.messages import Stream

_PREFIX = "Re: "


class Reply(NamedTuple):
    """What is answered, if anything, and the text."""

    to: tuple[Stream, int] | None
    text: str


def compose(stream: Stream, number: int, text: str) -> str:
    """The body of the report."""
    return f"{_PREFIX}{message_id(stream, number)}\n{text}"


def parse(body: str) -> Reply:
    """A report's body; one of another form is all text."""
    first, _, text = body.partition("\n")
    if not first.startswith(_PREFIX):
        return Reply(None, body)
    try:
        return Reply(parse_message_id(first.removeprefix(_PREFIX)), text)
    except UserError:
        return Reply(None, body)

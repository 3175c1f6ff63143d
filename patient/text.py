"""Other people's words, made safe to show: what came over the network cannot steer a terminal.

Law: every text that the doctor wrote passes through `readable` before it is printed for a person.
"""

from __future__ import annotations

from datetime import UTC, datetime


def decoded(body: bytes) -> str:
    """The body of a message as text; bytes that are no UTF-8 become \\xNN."""
    return body.decode(errors="backslashreplace")


def readable(text: str) -> str:
    """The text with every character that does not print escaped as Python writes it; line breaks stay.

    That covers terminal escapes, marks that change the direction of writing, and invisible characters.
    """
    return "".join(
        character
        if character.isprintable() or character == "\n"
        else character.encode("unicode_escape").decode()
        for character in text
    )


def moment(milliseconds: int) -> str:
    """A time since the Unix epoch, in milliseconds, as ISO 8601 in UTC; one beyond the calendar as its number."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return f"{milliseconds} ms"

"""Bodies and times as texts for a person. What the doctor wrote passes through `shared.text.readable` besides."""

from __future__ import annotations

from datetime import UTC, datetime


def decoded(body: bytes) -> str:
    """The body of a message as text; bytes that are no UTF-8 become \\xNN."""
    return body.decode(errors="backslashreplace")


def time_text(milliseconds: int) -> str:
    """A time since the Unix epoch, in milliseconds, for people: to the second, in UTC; one beyond the calendar as its number."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return f"{milliseconds} ms"


def moment(milliseconds: int) -> str:
    """The same for programs: ISO 8601 in UTC; one beyond the calendar as its number."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return f"{milliseconds} ms"


def shortened(text: str, limit: int = 60) -> str:
    """The text on one line, and no longer than that."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"

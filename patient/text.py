"""Bodies and times as texts for a person. What the doctor wrote passes through `shared.text.readable` besides."""

from __future__ import annotations

from datetime import UTC, datetime


def decoded(body: bytes) -> str:
    """The body of a message as text; bytes that are no UTF-8 become \\xNN."""
    return body.decode(errors="backslashreplace")


def moment(milliseconds: int) -> str:
    """A time since the Unix epoch, in milliseconds, as ISO 8601 in UTC; one beyond the calendar as its number."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return f"{milliseconds} ms"

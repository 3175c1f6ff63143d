"""The recorded history of a trial: what was accepted, applied, refused and done, in the order in which the lab saw it.

Law: append-only, and told by those who did it. A message is accepted when the API has said so, and applied when the device has
told it, which it does behind its commit. The checker knows nothing but this, a capture and keys.

Times are seconds of the monotonic clock. What has a duration carries `asked`, when it was begun, and `time`, when it was
done: what happened in between may have come before it or after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, TypeVar

import msgspec

DAY = 24 * 3600.0


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    """Base of all events."""

    time: float


class Accepted(Event, frozen=True, kw_only=True, tag="accepted"):
    """The API has answered 2xx: `message` is its id there, `recipients` how many it named, `lifetime` in seconds."""

    asked: float
    message: str
    stream: str
    number: int
    recipients: int
    body: bytes
    lifetime: float = DAY


class Applied(Event, frozen=True, kw_only=True, tag="applied"):
    """A device has told a message, in its `life`-th life."""

    patient: str
    life: int
    stream: str
    number: int
    body: bytes


class Kept(Event, frozen=True, kw_only=True, tag="kept"):
    """A message stands in a device's inbox at the end; `body` None: it had expired when it came."""

    patient: str
    stream: str
    number: int
    body: bytes | None


class Receipted(Event, frozen=True, kw_only=True, tag="receipted"):
    """What the doctor's API says at the end about one recipient of a message."""

    message: str
    patient: str
    state: str


class Reported(Event, frozen=True, kw_only=True, tag="reported"):
    """A device has handed a report to its program, which promises to keep it until the doctor has it."""

    patient: str
    report: str
    body: bytes


class ReportKept(Event, frozen=True, kw_only=True, tag="report-kept"):
    """A report that the doctor's API shows at the end."""

    patient: str
    report: str
    body: bytes


class Refused(Event, frozen=True, kw_only=True, tag="refused"):
    """Somebody was told no: by the API or by a device's verdict."""

    who: str
    code: str
    sentence: str


class Joined(Event, frozen=True, kw_only=True, tag="joined"):
    """A patient became a member of a group."""

    asked: float
    patient: str
    group: str


class Left(Event, frozen=True, kw_only=True, tag="left"):
    """A patient ceased to be a member: `reason` is removed, retired or revoked; `group` None: of every group."""

    asked: float
    patient: str
    reason: str
    group: str | None = None


class Killed(Event, frozen=True, kw_only=True, tag="killed"):
    """A program was ended with kill -9, at a failpoint or from outside."""

    program: str
    at: str


class Served(Event, frozen=True, kw_only=True, tag="served"):
    """A program serves again."""

    program: str
    life: int


AnyEvent = (
    Accepted | Applied | Kept | Receipted | Reported | ReportKept | Refused | Joined | Left | Killed | Served
)
E = TypeVar("E", bound=Event)


class History:
    """Events in the order in which they were added.

    Args:
        path: also written there, one JSON object a line; None: only kept in memory.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.events: list[AnyEvent] = []
        self._path = path
        self._file: IO[bytes] | None = None

    def __enter__(self) -> History:
        if self._path is not None:
            self._file = self._path.open("ab")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def add(self, event: AnyEvent) -> None:
        """Append one event."""
        self.events.append(event)
        if self._file is not None:
            self._file.write(msgspec.json.encode(event) + b"\n")

    def of(self, kind: type[E]) -> Iterator[E]:
        """The events of one kind, in order."""
        return (event for event in self.events if isinstance(event, kind))

    @classmethod
    def read(cls, path: Path) -> History:
        """A history from its file.

        Raises:
            msgspec.DecodeError: it is none.
        """
        history = cls()
        with path.open("rb") as lines:
            for line in lines:
                history.events.append(msgspec.json.decode(line, type=AnyEvent))
        return history

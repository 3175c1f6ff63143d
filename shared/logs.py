"""Structured logs of ids, numbers and causes, from an allow-list of fields.

Law: the only place that configures logging. A field that is not in FIELDS does not reach the log, and a value is a
text, a number, a truth value or an enum: so a key, a token or a message body cannot get there by an oversight, only by
somebody adding a name below. Control characters are escaped: a peer's text cannot start a line of its own.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import re
import sys
from typing import ClassVar, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from shared.config import LogFormat, LogLevel
from shared.errors import LocalError

FIELDS = frozenset(
    {
        # set here
        *("direction",),
        *("event", "level", "component", "timestamp", "exception", "dropped"),
        # who: ids, fingerprints and addresses, never a key
        *(
            "doctor",
            "patient",
            "fingerprint",
            "group",
            "role",
            "address",
            "host",
            "port",
            "connection",
            "session",
        ),
        # what: the protocol's numbers and names
        *(
            "suite",
            "opcode",
            "state",
            "check",
            "alert",
            "version",
            "epoch",
            "members",
            "roster_hash",
            "number",
        ),
        *(
            "previous",
            "position",
            "start",
            "kind",
            "stream",
            "message",
            "invitation",
            "uses",
            "reason",
            "cause",
        ),
        # how it went
        *(
            "action",
            "result",
            "code",
            "count",
            "size",
            "seconds",
            "attempt",
            "recipients",
            "delivered",
            "skew_s",
            "excluded_in_ms",
        ),
        *("path", "slot", "deadline_s", "limit", "pending", "process", "signal", "sequence", "schema", "url"),
    }
)
"""Every field an event may carry. A new one is added here, where a reviewer sees it."""

_LONGEST = 500
# C0 and C1 controls, and what Unicode treats as a line's end or a change of direction.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(level: LogLevel, log_format: LogFormat, *, strict: bool = False) -> None:
    """Send all logs to standard error from now on; may be called again.

    Args:
        level: what is below it is not written. Records of other libraries are written from warning on.
        log_format: console (coloured on a terminal) or json (one object a line).
        strict: an event with a field or value that is not allowed raises LocalError instead of losing it. For tests.
    """
    before: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _AllowList(strict),
    ]
    renderer = _renderer(log_format)
    structlog.configure(
        processors=[*before, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_: _Output(sys.stderr),
        cache_logger_on_first_use=False,
    )
    Logger.threshold = _LEVELS[level]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[_name_the_library],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *before, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(_LEVELS[level], logging.WARNING), force=True)


class Logger:
    """Writes the events of one component.

    structlog puts a logger together anew for each event, which costs twenty times what a line that is not written may cost: a
    gateway has a dozen of those in every handshake. So the level is looked at first.

    Attributes:
        threshold: the level of all loggers; what is below it is not written.
    """

    __slots__ = ("_bound",)
    threshold: ClassVar[int] = logging.DEBUG

    def __init__(self, component: str) -> None:
        # Bound when it is used: a logger is older than the configuration.
        self._bound = cast(FilteringBoundLogger, structlog.get_logger(component=component))

    @property
    def debugging(self) -> bool:
        """Whether debug events are written: to be asked before one whose fields cost something."""
        return self.threshold <= logging.DEBUG

    def debug(self, event: str, **fields: object) -> None:
        """Something that helps to find a fault."""
        if self.threshold <= logging.DEBUG:
            self._bound.debug(event, **fields)

    def info(self, event: str, **fields: object) -> None:
        """Something that happens."""
        if self.threshold <= logging.INFO:
            self._bound.info(event, **fields)

    def warning(self, event: str, **fields: object) -> None:
        """Something that should not happen."""
        if self.threshold <= logging.WARNING:
            self._bound.warning(event, **fields)

    def error(self, event: str, **fields: object) -> None:
        """Something that somebody has to look at."""
        self._bound.error(event, **fields)

    def exception(self, event: str, **fields: object) -> None:
        """An error, with the traceback of the exception that is being handled."""
        self._bound.exception(event, **fields)


def get_logger(name: str) -> Logger:
    """A logger whose events carry `name` in the field `component`."""
    return Logger(name)


def plain(text: str) -> str:
    """The text with control characters escaped as Python writes them, and cut after 500 characters."""
    escaped = _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    return escaped if len(escaped) <= _LONGEST else f"{escaped[:_LONGEST]}…"


def _renderer(log_format: LogFormat) -> Processor:
    if log_format == "json":
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())


def _name_the_library(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    event["component"] = event["_record"].name
    return event


class _Output(structlog.WriteLogger):
    """Writes lines; one that cannot be written is lost, and nothing else.

    Where the log goes to a disk that is full, whatever wanted to say so must still do the rest of its work.
    """

    def msg(self, message: str) -> None:
        """Write one line."""
        with contextlib.suppress(OSError):
            super().msg(message)

    debug = info = warning = error = critical = msg


class _AllowList:
    """The processor that decides what an event may carry."""

    def __init__(self, strict: bool) -> None:
        self._strict = strict

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
        allowed: EventDict = {}
        dropped = []
        for name, value in event.items():
            if name == "exception":
                allowed[name] = _indented(str(value))
            elif name in FIELDS and isinstance(value, enum.Enum):  # before int: an IntEnum shows its name
                allowed[name] = value.name.lower()
            elif name in FIELDS and isinstance(value, str):
                allowed[name] = plain(value)
            elif name in FIELDS and (value is None or isinstance(value, int | float)):
                allowed[name] = value
            else:
                dropped.append(name)
        if dropped:
            self._report(allowed, dropped)
        return allowed

    def _report(self, allowed: EventDict, dropped: list[str]) -> None:
        names = plain(", ".join(sorted(dropped)))  # names only: a value is what must not be seen
        if self._strict:
            raise LocalError(f"log event with fields or values that are not allowed: {names}")
        allowed["dropped"] = names
        allowed.setdefault("event", "(not a text)")


def _indented(traceback: str) -> str:
    """Each line of a traceback behind a bar, so that a message with a line break cannot pass for an event."""
    return "\n".join(f"  | {plain(line)}" for line in traceback.splitlines())

"""What the log tells of those who knock without being known: anybody can make a doctor say it, so it is said so often and no more.

Law: every line that a stranger can cause goes through here. The first ones of each kind are written in full; what follows within
the same ten seconds is counted, and told as one line with the address that most of it came from.
"""

from __future__ import annotations

from collections import Counter

from shared.logs import get_logger
from shared.protocol.clock import SECOND

_log = get_logger("gateway")

IN_FULL = 10  # lines of each kind in each window
WINDOW = 10 * SECOND
ADDRESSES = 1024  # that are told apart in one window


class Noise:
    """Lines that strangers cause."""

    def __init__(self) -> None:
        self._kinds: dict[str, Kind] = {}

    def tell(self, event: str, host: str, elapsed: int, **fields: str | float) -> None:
        """Write a warning, or count it.

        Args:
            event: what happened; one of a few fixed texts.
            host: whose doing it is.
            fields: what else the line says.
        """
        kind = self._kinds.get(event)
        if kind is None or elapsed - kind.since >= WINDOW:
            if kind is not None:
                kind.sum_up(event)
            kind = self._kinds[event] = Kind(elapsed)
        if kind.told < IN_FULL:
            kind.told += 1
            _log.warning(event, host=host, **fields)
        else:
            kind.count(host)
            _log.debug(
                event, host=host, **fields
            )  # at that level every step of every handshake is told anyway

    def sum_up(self, elapsed: int) -> None:
        """Called now and then: tell what was only counted in windows that are over."""
        for event, kind in list(self._kinds.items()):
            if elapsed - kind.since >= WINDOW:
                kind.sum_up(event)
                del self._kinds[event]

    def close(self) -> None:
        """The doctor stops: tell what was only counted."""
        for event, kind in self._kinds.items():
            kind.sum_up(event)
        self._kinds.clear()


class Kind:
    """One kind of line within one window."""

    def __init__(self, since: int) -> None:
        self.since = since
        self.told = 0
        self._hosts: Counter[str] = Counter()
        self._more = 0

    def count(self, host: str) -> None:
        """One more that is not told by itself."""
        self._more += 1
        if host in self._hosts or len(self._hosts) < ADDRESSES:
            self._hosts[host] += 1

    def sum_up(self, event: str) -> None:
        """All of them in one line."""
        if not self._more:
            return
        ((host, most),) = self._hosts.most_common(1)
        full = "at least " if len(self._hosts) == ADDRESSES else ""
        text = f"{most} of these from {host}; {full}{len(self._hosts)} addresses"
        _log.warning(event, count=self._more, host=host, cause=text)

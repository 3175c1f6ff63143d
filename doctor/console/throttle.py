"""How long one has to wait between wrong passwords: by account, and by the address that they come from.

Law: delays, never a lock. A stranger can slow down its own address, and an account for addresses from which nobody has logged
in to it; an address from which its operator has logged in before is not slowed down by what others do elsewhere. A right password
forgives the wrong ones for its own account alone: whoever has an account could guess at another one without end.
"""

from __future__ import annotations

import ipaddress
from collections import Counter, OrderedDict
from dataclasses import dataclass, field

from shared.protocol.clock import SECOND

FREE = 3  # wrong ones without any delay
LONGEST_FOR_ADDRESS = 60 * SECOND
LONGEST_FOR_ACCOUNT = 15 * SECOND
FORGOTTEN_AFTER = 15 * 60 * SECOND
ENTRIES = 10_000
TOLD_APART = 16  # accounts in one record; what is wrong for others is not forgiven before it is forgotten


@dataclass(slots=True)
class _Record:
    failures: int = 0
    until: int = 0
    last: int = 0
    by_account: Counter[str] = field(default_factory=Counter)

    def count(self, account: str, longest: int, now: int) -> None:
        self.failures += 1
        self.last = now
        if account in self.by_account or len(self.by_account) < TOLD_APART:
            self.by_account[account] += 1
        beyond = self.failures - FREE
        if beyond >= 0:
            self.until = now + min(SECOND << min(beyond, 10), longest)

    def forgive(self, account: str) -> None:
        self.failures -= self.by_account.pop(account, 0)
        if self.failures < FREE:
            self.until = 0


class Throttle:
    """Counts failures. Times are of a clock that only goes forward, in milliseconds."""

    def __init__(self) -> None:
        self._records: OrderedDict[tuple[str, str], _Record] = OrderedDict()
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def wait(self, account: str, address: str, now: int) -> int:
        """For how many milliseconds no password is looked at; 0: now."""
        return max(0, *(record.until - now for record, _ in self._of(account, address, now)), 0)

    def failed(self, account: str, address: str, now: int) -> None:
        """A password was wrong."""
        for record, longest in self._of(account, address, now, make=True):
            record.count(account, longest, now)

    def succeeded(self, account: str, address: str) -> None:
        """A password was right: from here the account is reached whatever others do."""
        network = _network(address)
        record = self._records.get(("address", network))
        if record is not None:
            record.forgive(account)
        self._known[account, network] = None
        self._known.move_to_end((account, network))
        if len(self._known) > ENTRIES:
            self._known.popitem(last=False)

    def _of(self, account: str, address: str, now: int, make: bool = False) -> list[tuple[_Record, int]]:
        network = _network(address)
        keys = [("address", network, LONGEST_FOR_ADDRESS)]
        if (account, network) not in self._known:
            keys.append(("account", account, LONGEST_FOR_ACCOUNT))
        found = []
        for kind, name, longest in keys:
            record = self._records.get((kind, name))
            if record is not None and now - record.last > FORGOTTEN_AFTER:
                del self._records[kind, name]
                record = None
            if record is None and make:
                record = self._records[kind, name] = _Record()
                if len(self._records) > ENTRIES:
                    self._records.popitem(last=False)
            if record is not None:
                found.append((record, longest))
        return found


def _network(address: str) -> str:
    """What one person can use many of: a single IPv4 address, or a /64 of IPv6."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 6:
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)

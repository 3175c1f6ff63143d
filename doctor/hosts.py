"""Under which names a port of the doctor's is asked for.

Law: a browser says in `Host` which name it was sent to. A name that is not ours is that of a page of somebody else's, which has pointed its
own name here to read what we answer (DNS rebinding): it gets nothing.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})

_HOST = re.compile(r"\A(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:[0-9]{1,5})?\Z")


def name_in(host: str) -> str | None:
    """The name in a `Host` header, lower case, without its port; None: it is none."""
    found = _HOST.match(host.lower())
    return found[1] if found else None


def is_known(name: str, names: Collection[str]) -> bool:
    """Whether a name is one of these or loopback's. `*.` in front of one stands for one label."""
    _, _, parent = name.partition(".")
    return name in LOOPBACK_NAMES or name in names or f"*.{parent}" in names


def is_address(name: str) -> bool:
    """Whether it is an IP address as it stands in `Host`: nobody can point that at another machine."""
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True

"""Which hosts mean every address of this machine, however they are written."""

from __future__ import annotations

import ipaddress
import socket

from doctor.settings import WILDCARDS


def is_everywhere(host: str) -> bool:
    """Whether listening there is listening on the devices' network too: `0`, `::0` and `::ffff:0.0.0.0` are `0.0.0.0` as well."""
    if host in WILDCARDS:
        return True
    try:
        found = socket.getaddrinfo(host, None, flags=socket.AI_NUMERICHOST)[0][4][0]
    except OSError:
        return False  # a name
    address = ipaddress.ip_address(found)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_unspecified

"""File descriptors: each connection takes one, and without one the doctor can open no file either.

Law: strangers get a part of them and never all: a doctor's sessions, its database and its API are to go on when the door is full.
"""

from __future__ import annotations

import contextlib
import resource

from doctor.settings import DoctorSettings
from shared.logs import get_logger

STRANGERS = 0.5  # of all descriptors, at most

_log = get_logger("gateway")


def take_all() -> int:
    """Raise this process's limit to what it is allowed; returns how many it may have open.

    The usual soft limit of 1024 is there for programs that still use `select`.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # a system that knows a lower limit than it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return soft


def places_at_the_door(settings: DoctorSettings, descriptors: int) -> tuple[int, int]:
    """How many handshakes may be unfinished, in all and from one address: as set, unless that leaves too little for the rest."""
    room = max(1, int(descriptors * STRANGERS))
    if room < settings.half_open_limit:
        _log.warning("half_open_limit lowered: too few file descriptors", limit=room, count=descriptors)
    return min(room, settings.half_open_limit), min(room, settings.half_open_per_address)

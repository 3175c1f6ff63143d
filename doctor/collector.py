"""The garbage collector of a doctor's process: it comes seldom, and does not look at what stays for good.

A handshake leaves no cycles behind: a visit that is over is freed by its counts alone (`shared.net.stream` lets go of its owner).
What the collector is still there for are exceptions and libraries. At Python's own settings it would come several times in each
handshake, and sooner or later look at every patient that is connected.
"""

from __future__ import annotations

import gc

ALLOCATIONS = 20_000  # more objects made than freed, before it looks at the young ones
YOUNG, MIDDLE = 20, 50  # how many of its rounds make up the next larger one


def settle() -> None:
    """Call it once, when everything has been loaded that stays as long as the process."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(ALLOCATIONS, YOUNG, MIDDLE)

"""A program that holds keys must not leave its memory on a disk when it crashes.

Law: called first of all by both programs. RLIMIT_CORE keeps the kernel from writing a file, but not from handing the memory to a program
that collects core dumps; for that, and against other programs of the same user that would look into the memory, the process is
also made not dumpable (prctl(2), PR_SET_DUMPABLE), where the kernel is Linux.
"""

from __future__ import annotations

import ctypes
import resource
import sys

_PR_SET_DUMPABLE = 4


def forbid() -> None:
    """No core dump of this process from now on, nor of its children as far as the limit reaches."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)

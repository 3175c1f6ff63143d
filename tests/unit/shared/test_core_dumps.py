"""A program that holds keys leaves no memory behind."""

from __future__ import annotations

import subprocess
import sys

PROBE = """
import resource
from shared import core_dumps
resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
core_dumps.forbid()
import ctypes
print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""


def test_no_core_file_and_no_reader_of_memory() -> None:
    """Both limits are 0, so that nobody raises the one again, and the kernel says that it dumps nothing (PR_GET_DUMPABLE)."""
    said = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True).stdout

    assert said == "(0, 0) 0\n"

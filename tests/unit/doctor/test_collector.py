"""The garbage collector: a process that serves is looked through seldom, and nothing of a visit waits for it."""

from __future__ import annotations

import subprocess
import sys


def test_what_was_loaded_is_not_looked_through_again() -> None:
    """In a process of its own, since the setting is the process's."""
    script = (
        "import gc; from doctor import collector; collector.settle();"
        "assert gc.get_freeze_count() > 1000; assert gc.get_threshold()[0] == collector.ALLOCATIONS"
    )
    subprocess.run([sys.executable, "-c", script], check=True)

"""`python -m lab.faults.clock_runner FILE PROGRAM …`: one of the two programs, under a wall clock that is wrong by what FILE says.

Law: the product has no such clock and gets none. What is replaced, from outside, is the `time` of the one module in which it reads
its clocks; the steady clock stays what it is, as it does when somebody sets the time of a machine. FILE holds eight bytes that the
lab may change while the program runs: the next reading shows it.
"""

from __future__ import annotations

import mmap
import runpy
import struct
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from shared.net import stream

PROGRAMS = ("doctor", "patient")
MODULE = "lab.faults.clock_runner"
_OFFSET = struct.Struct("<q")  # nanoseconds


class WrongClock:
    """The lab's end: how many seconds a program's clock is ahead of the true time; below 0, behind.

    Args:
        path: of the file, which is made.
    """

    def __init__(self, path: Path, seconds: float = 0.0) -> None:
        self.path = path
        self.set(seconds)

    def set(self, seconds: float) -> None:
        """Put the clock there, from now on; one write, so that no reader sees half of it."""
        with self.path.open("r+b" if self.path.exists() else "wb", buffering=0) as file:
            file.write(_OFFSET.pack(round(seconds * 1e9)))

    def runs(self, program: str, *arguments: str) -> list[str]:
        """The interpreter's arguments that run a program under this clock."""
        return ["-m", MODULE, str(self.path), program, *arguments]


def put_under(path: Path) -> None:
    """Let this process read its wall clock through the file."""
    with path.open("rb") as file:
        shared_offset = mmap.mmap(file.fileno(), _OFFSET.size, access=mmap.ACCESS_READ)

    def time_ns() -> int:
        offset: int = _OFFSET.unpack_from(shared_offset)[0]
        return time.time_ns() + offset

    wrong = SimpleNamespace(time_ns=time_ns, monotonic_ns=time.monotonic_ns)
    vars(stream)["time"] = wrong


def main() -> None:
    """Run the program that the command line names."""
    _, path, program, *arguments = sys.argv
    if program not in PROGRAMS:
        sys.exit(f"{MODULE}: {program!r} is none of {', '.join(PROGRAMS)}")
    put_under(Path(path))
    sys.argv = [program, *arguments]
    runpy.run_module(program, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

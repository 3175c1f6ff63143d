"""How much memory a process has and had, by the kernel's account (Linux, proc(5))."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Memory:
    """In MB: resident now, resident at most since the last `forget_peak`, address space at most."""

    resident: float
    peak: float
    address_space: float


def of(pid: int) -> Memory:
    """A process's memory. Raises OSError where it is gone."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = {name: rest for name, _, rest in (line.partition(":") for line in lines)}

    def megabytes(name: str) -> float:
        return int(found[name].split()[0]) * 1024 / 1e6

    return Memory(megabytes("VmRSS"), megabytes("VmHWM"), megabytes("VmPeak"))


def forget_peak(pid: int) -> None:
    """Begin anew to note the most that a process has had resident. Raises OSError where it is gone.

    One that forbids core dumps allows it to root alone; its peak then goes on from where it was.
    """
    with contextlib.suppress(PermissionError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")

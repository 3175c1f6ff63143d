"""The runner that puts a failpoint into a shipped program.

Law: the program runs unchanged; one function is wrapped from outside, and the process killed at its n-th call, before it begins
or behind its end.

    python -m lab.faults.failpoints doctor accept.committed 3
    python -m lab.faults.failpoints patient inbox.stored 1 --keys FILE -- bed-1 --json
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import inspect
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from lab.faults.keys import KeyRing, recorded
from lab.faults.points import BEFORE, COMMITTING, DOCTOR, PATIENT, Failpoint

HIT = "failpoint hit"
NONE = "none"  # run as it is


POINTS = {
    "doctor": {point.name: point for point in DOCTOR},
    "patient": {point.name: point for point in PATIENT},
}


def resolve(target: str) -> tuple[Any, str, Any]:
    """What a target names: its owner, its name there, and itself.

    Raises:
        LookupError: there is no such thing, or it is no function.
    """
    module, _, path = target.partition(":")
    *owners, name = path.split(".")
    try:
        owner: Any = functools.reduce(getattr, owners, importlib.import_module(module))
        found = inspect.getattr_static(owner, name)
    except (ImportError, AttributeError) as error:
        raise LookupError(f"{target}: {error}") from error
    if not inspect.isfunction(found):
        raise LookupError(f"{target} is no function but {type(found).__name__}")
    return owner, name, found


class Trap:
    """Counts the calls that count, and springs at the n-th.

    Args:
        point: where.
        nth: at which call, from 1.
        spring: what happens then; it does not return.
    """

    def __init__(self, point: Failpoint, nth: int, spring: Callable[[], None]) -> None:
        self._point = point
        self._left = nth
        self._spring = spring
        self._armed = point.behind is None

    def set(self) -> None:
        """Put it into this process."""
        for name, value in self._point.settings:
            module, _, constant = name.partition(":")
            setattr(importlib.import_module(module), constant, value)
        if self._point.behind is not None:
            _wrap(self._point.behind, before=self._arm, after=lambda: None)
        if self._point.target == COMMITTING:
            _trace(COMMITTING, "COMMIT", self._count)
            return
        before, after = (
            (self._count, lambda: None) if self._point.when is BEFORE else (lambda: None, self._count)
        )
        _wrap(self._point.target, before, after)

    def _arm(self) -> None:
        self._armed = True

    def _count(self) -> None:
        if not self._armed:
            return
        self._armed = self._point.behind is None
        self._left -= 1
        if self._left == 0:
            time.sleep(self._point.linger)
            self._spring()


def _wrap(target: str, before: Callable[[], None], after: Callable[[], None]) -> None:
    owner, name, function = resolve(target)

    @functools.wraps(function)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        before()
        result = function(*arguments, **options)
        after()
        return result

    @functools.wraps(function)
    async def wrapped_async(*arguments: Any, **options: Any) -> Any:
        before()
        result = await function(*arguments, **options)
        after()
        return result

    setattr(owner, name, wrapped_async if inspect.iscoroutinefunction(function) else wrapped)


def _trace(target: str, statement: str, seen: Callable[[], None]) -> None:
    """Have `seen` called before each such statement on the connections that `target` returns."""
    owner, name, function = resolve(target)

    @functools.wraps(function)
    def wrapped(*arguments: Any, **options: Any) -> Any:
        connection = function(*arguments, **options)
        connection.set_trace_callback(lambda text: seen() if text == statement else None)
        return connection

    setattr(owner, name, wrapped)


def die(name: str, descriptor: int) -> None:
    """Say where, and end as `kill -9` ends a process: nothing is flushed, closed or tidied up."""
    os.write(descriptor, b"\n" + msgspec.json.encode({"event": HIT, "at": name}) + b"\n")
    os.kill(os.getpid(), signal.SIGKILL)


def main(arguments: Sequence[str]) -> int:
    """Run a shipped program with a failpoint in it; returns its exit code where the point is never reached.

    What stands behind `--` are the program's own arguments.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    ours, rest = arguments[:end], list(arguments[end + 1 :])
    parser = argparse.ArgumentParser(prog="python -m lab.faults.failpoints")
    parser.add_argument("program", choices=sorted(POINTS))
    parser.add_argument("point", help=f"its name, or {NONE}")
    parser.add_argument("nth", type=int)
    parser.add_argument("--keys", type=Path, help="take down the keys that a patient holds in this file")
    given = parser.parse_args(ours)
    if given.point != NONE:
        descriptor = 2 if given.program == "doctor" else 1  # where its JSON lines go
        Trap(POINTS[given.program][given.point], given.nth, lambda: die(given.point, descriptor)).set()
    with contextlib.ExitStack() as stack:
        if given.keys is not None:
            stack.enter_context(recorded(KeyRing(given.keys)))
        return _run(given.program, rest)


def _run(program: str, rest: list[str]) -> int:
    if program == "doctor":
        from doctor.cli import main as run_doctor

        sys.argv = ["telemed-doctor", "serve", *rest]
        return run_doctor()
    from patient.cli import main as run_patient

    return run_patient(["run", *rest])


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

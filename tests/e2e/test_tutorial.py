"""The tutorial is true: what it has a reader type is typed, and what it shows is what comes of it."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest

from lab.processes import inherited_environment
from tests.e2e.shells import Mismatch, Reader, pattern, steps

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")


def free_port() -> int:
    """One that nobody has; the page's own may be taken here."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.timeout(900)  # a demo, nine starts of programs for people, and a row of the campaign
def test_the_tutorial_is_true(tmp_path: Path) -> None:
    """On real processes, with a home of their own; what is typed is what stands there."""
    environment = inherited_environment() | {
        "HOME": str(tmp_path),
        "TELEMED_DOCTOR_LISTEN_PORT": str(free_port()),
        "TELEMED_DOCTOR_CONSOLE_PORT": str(free_port()),
    }
    for name in ("COLUMNS", "LINES", "FORCE_COLOR", "MAKEFLAGS", "MAKELEVEL", "PATIENTS"):
        environment.pop(name, None)

    with Reader(environment, ROOT) as reader:
        reader.follow(PAGE)


@pytest.mark.parametrize(
    "command",
    [
        "make demo",
        "invite",
        "enrol",
        "run",
        "broadcast",
        "receipts",
        "reply",
        "inbox",
        "revoke",
        "audit list",
        "audit verify",
        "kill -9",
        "faults",
    ],
)
def test_the_tutorial_goes_all_the_way(command: str) -> None:
    """Nothing of the round is left out by a change of the page."""
    assert any(re.search(rf"\b{command}\b", step.command or "") for step in steps(PAGE))


def test_a_page_that_says_something_else_is_found(tmp_path: Path) -> None:
    """A line too many, a line that differs, a command that was never printed."""
    lies = (
        "$ echo one; echo two\none\n",
        "$ echo one\ntwo\n",
        "$ echo one …\n",
    )
    for lie in lies:
        with pytest.raises(Mismatch), Reader(dict(os.environ), tmp_path) as reader:
            reader.follow(f"```console\n{lie}```\n")


def test_a_page_that_is_true_passes(tmp_path: Path) -> None:
    """Exit codes, folders, what is printed and typed again, what another terminal shows later, Ctrl-C."""
    page = """
```console
each$ mkdir -p there && cd there
$ (exit 7)
$ echo $?
7
$ echo "echo a-$((6 * 7))"
echo …
$ echo …
a-42
```
```console
b$ bash -c 'trap "echo ended; exit" INT; echo begun; while :; do sleep 0.1; test -e now && echo seen && rm now; done'
begun
```
```console
$ touch now; pwd
…/there
```
```console b
seen
```
```console
b$ ^C
…
ended
```
"""
    with Reader(dict(os.environ), tmp_path) as reader:
        reader.follow(page)


@pytest.mark.parametrize(
    ("shown", "said", "fits"),
    [
        (["a … c"], "a b c\n", True),
        (["a … c"], "a b\nc\n", False),
        (["…", "c"], "a\nb\nc\n", True),
        (["…", "c"], "c\n", True),
        (["c"], "b\nc\n", False),
        (["a.c"], "abc\n", False),
        ([], "", True),
        ([], "x\n", False),
    ],
)
def test_an_ellipsis_stands_for_part_of_a_line_or_for_lines(shown: list[str], said: str, fits: bool) -> None:
    """And for nothing else."""
    assert (re.fullmatch(pattern(shown), said) is not None) == fits

"""Terminals that a test types into, and pages whose console blocks are typed there and compared.

A page's rules: in a block that is marked `console`, a line `NAME$ command` is typed into that terminal, a bare `$ ` into the reader's own, `each$ ` into
every one; what follows up to the next prompt is what it shows. `^C` is Ctrl-C. A block `console NAME` has no prompt: that
terminal shows this next. `…` stands for anything within a line; on a line of its own, for any lines. A command with a `…`
is one that was printed before, and is taken from there.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 60.0  # seconds until a command must have shown what it shows
OWN = "you"
_BLOCK = re.compile(r"^```console(?: (\w+))?\n(.*?)^```$", re.M | re.S)
_PROMPT = re.compile(r"(\w*)\$ (.+)")
_DONE = "telemed-terminal-done"


class Mismatch(AssertionError):
    """A terminal does not show what the page says; the text has both."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that a reader does: type a command, or, where that is None, look at what the terminal shows next."""

    terminal: str
    command: str | None
    shown: tuple[str, ...]


def steps(page: str) -> Iterator[Step]:
    """What a page has its reader do, in order."""
    for terminal, text in _BLOCK.findall(page):
        name, command, shown = terminal, None, list[str]()
        for line in text.splitlines():
            found = _PROMPT.fullmatch(line)
            if found is None:
                shown.append(line)
                continue
            if name:
                yield Step(name, command, tuple(shown))
            name, command, shown = found[1] or OWN, found[2], []
        yield Step(name, command, tuple(shown))


def pattern(shown: Sequence[str]) -> str:
    """The regular expression of what a page shows."""
    lines = "\n".join(shown).strip("\n").splitlines()
    parts = [
        r"(?:[^\n]*\n)*?" if line == "…" else "[^\n]*?".join(map(re.escape, line.split("…"))) + r"[ ]*\n"
        for line in lines
    ]
    return r"\n*" + "".join(parts) + r"\n*"


class Terminal:
    """A shell that a reader has open."""

    def __init__(self, name: str, environment: Mapping[str, str], directory: Path) -> None:
        self._name = name
        self._shell = subprocess.Popen(
            ["bash", "--noprofile", "--norc"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=dict(environment),
            start_new_session=True,
        )
        self._changed = threading.Condition()
        self._said = ""
        self._done = True
        self._expected = ""
        self._reader = threading.Thread(target=self._read, name=f"terminal {name}")
        self._reader.start()

    @property
    def said(self) -> str:
        """What the last command has shown so far."""
        with self._changed:
            return self._said

    def type(self, command: str) -> None:
        """Begin a command; the one before must have ended, and have shown what it was to show and nothing else."""
        self.require_ended()
        with self._changed:
            self._said, self._done, self._expected = "", False, ""
        # A command has the terminal to itself; its exit code is what the next one finds in $?.
        assert self._shell.stdin is not None
        text = f'{{ {command}\n}} </dev/null\ncode=$?; printf "%s\\n" {_DONE}; (exit $code)\n'
        self._shell.stdin.write(text.encode())
        self._shell.stdin.flush()

    def interrupt(self) -> None:
        """Ctrl-C: for the command, not for the shell."""
        children = Path(f"/proc/{self._shell.pid}/task/{self._shell.pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGINT)

    def show(self, shown: Sequence[str]) -> None:
        """Wait until it shows this, behind what it has shown before."""
        self._expected += pattern(shown)
        self._wait(f"show {shown}", lambda: re.fullmatch(self._expected, self._said) is not None)

    def require_ended(self) -> None:
        """Wait until the command has ended, and judge all that it has shown."""
        self._wait("end", lambda: self._done)
        if self._expected and re.fullmatch(self._expected, self.said) is None:
            raise self._mismatch("show nothing else")

    def close(self) -> None:
        """End it and whatever runs in it."""
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._shell.pid, signal.SIGKILL)
        self._shell.stdin.close()
        self._shell.wait()
        self._reader.join()
        self._shell.stdout.close()

    def _wait(self, what: str, holds: Callable[[], bool]) -> None:
        with self._changed:
            if (
                not self._changed.wait_for(lambda: holds() or (self._done and what != "end"), PATIENCE)
                or not holds()
            ):
                raise self._mismatch(what)

    def _mismatch(self, what: str) -> Mismatch:
        return Mismatch(
            f"Terminal {self._name} did not {what}. It shows:\n{self._said}\n-- expected:\n{self._expected}"
        )

    def _read(self) -> None:
        assert self._shell.stdout is not None
        for raw in self._shell.stdout:
            line = raw.decode(errors="replace")
            with self._changed:
                if line.rstrip("\n").endswith(_DONE):
                    self._said += line.rstrip("\n").removesuffix(_DONE)
                    self._done = True
                else:
                    self._said += line
                self._changed.notify_all()


class Reader:
    """Somebody who does what a page says.

    Args:
        environment: of the terminals. directory: where they are opened.
    """

    def __init__(self, environment: Mapping[str, str], directory: Path) -> None:
        self._environment = environment
        self._directory = directory
        self._terminals: dict[str, Terminal] = {}
        self._printed: list[str] = []

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        for terminal in self._terminals.values():
            terminal.close()

    def follow(self, page: str) -> None:
        """Do every step. Raises Mismatch at the first that shows something else."""
        doing = list(steps(page))
        for name in {step.terminal for step in doing} - {"each"}:
            self._terminals[name] = Terminal(name, self._environment, self._directory)
        for step in doing:
            for name in self._terminals if step.terminal == "each" else (step.terminal,):
                self._do(self._terminals[name], step)
        for terminal in self._terminals.values():
            terminal.require_ended()

    def _do(self, terminal: Terminal, step: Step) -> None:
        if step.command == "^C":
            terminal.interrupt()
        elif step.command is not None:
            terminal.type(self._printed_before(step.command) if "…" in step.command else step.command)
        terminal.show(step.shown)
        if step.terminal == OWN:
            terminal.require_ended()  # what is typed elsewhere next builds on it
        self._printed += terminal.said.splitlines()

    def _printed_before(self, command: str) -> str:
        wanted = re.compile("(.+)".join(map(re.escape, command.split("…"))))
        found = [line for line in self._printed if wanted.fullmatch(line)]
        if not found:
            raise Mismatch(f"{command} was not printed before")
        return found[-1]

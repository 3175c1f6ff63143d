"""A program at a terminal: what it shows, and the keys that are pressed there.

Law: the terminal is a real one, so that Ctrl-C does what it does for people: the kernel sends SIGINT to every process in front.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import select
import subprocess
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from lab.processes import inherited_environment

PATIENCE = 90.0  # seconds without the text that is awaited
WIDTH = 200
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """One program that a person has started. `with` starts it; if it still runs in the end it is killed, with all that it started.

    Attributes:
        text: all that it has shown, without colours.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = arguments
        self._raw = b""

    def __enter__(self) -> Terminal:
        self._ours, theirs = os.openpty()
        fcntl.ioctl(
            theirs, termios.TIOCSWINSZ, (50).to_bytes(2, "little") + WIDTH.to_bytes(2, "little") + bytes(4)
        )
        self._process = subprocess.Popen(
            self._arguments,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**inherited_environment(), "TERM": "xterm"},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pid in self.processes():
            os.kill(pid, 9)
        self._process.wait()
        os.close(self._ours)

    @property
    def text(self) -> str:
        """See above."""
        return _COLOURS.sub("", self._raw.decode(errors="replace")).replace("\r\n", "\n")

    def processes(self) -> list[int]:
        """Everything that runs at this terminal: the program and what it has started."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    session = int((entry / "stat").read_text().rpartition(")")[2].split()[3])
                except (FileNotFoundError, ProcessLookupError):
                    continue
                if session == self._process.pid:
                    found.append(int(entry.name))
        return found

    def until(self, pattern: str) -> re.Match[str]:
        """Wait until it has shown something that matches."""
        deadline = time.monotonic() + PATIENCE
        while not (found := re.search(pattern, self.text)):
            assert self._read(deadline), f"{pattern!r} was not shown:\n{self.text}"
        return found

    def press_ctrl_c(self) -> None:
        """As a person does."""
        os.write(self._ours, b"\x03")

    def exit_code(self) -> int:
        """Wait until it has ended by itself."""
        deadline = time.monotonic() + PATIENCE
        while self._read(deadline):
            pass
        return self._process.wait(max(0.0, deadline - time.monotonic()))

    def _read(self, deadline: float) -> bool:
        """Some more of what it shows; False: it has ended, or the time is over."""
        ready, _, _ = select.select([self._ours], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            more = os.read(self._ours, 1 << 16)
        except OSError as error:
            if error.errno != errno.EIO:  # which says that nobody has the other end any more
                raise
            return False
        self._raw += more
        return bool(more)

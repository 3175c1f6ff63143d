"""The container engine by its command line: is it there, run a command, look at a container.

Law: knows nothing of doctors and patients. Every command has a time limit, and one that fails says what it printed. Nothing
secret goes into an argument, as those are shown when a command fails; standard input is for that.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
IMAGES = {"doctor": "telemed/doctor:local", "patient": "telemed/patient:local"}
LIMIT = 120.0  # seconds for one command; Compose waits in it until the doctor is healthy


class CommandFailed(Exception):
    """A command ended with another code than 0.

    Args:
        command: its arguments.
        code: what it ended with.
        output: the end of what it printed, standard error last.
    """

    def __init__(self, command: tuple[str, ...], code: int, output: str) -> None:
        super().__init__(f"{shlex.join(command)} ended with {code}:\n{output}")
        self.code = code
        self.output = output


def run(*command: str, stdin: str = "", limit: float = LIMIT) -> str:
    """What a command prints.

    Raises:
        CommandFailed: it ended with another code than 0, or not in time.
    """
    try:
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, errors="replace", timeout=limit, cwd=ROOT
        )
    except FileNotFoundError as error:
        raise CommandFailed(command, 127, str(error)) from error
    except subprocess.TimeoutExpired as error:
        raise CommandFailed(command, 124, f"no end after {limit:g} s") from error
    if done.returncode:
        raise CommandFailed(command, done.returncode, (done.stdout + done.stderr)[-4000:])
    return done.stdout


def missing() -> str | None:
    """What these tests need and do not find here, with what to do; None where all is there."""
    needs = (
        (
            ("docker", "info"),
            "no container engine answers: start one, or let .ci/engine (Debian, root) provide it",
        ),
        (("docker", "compose", "version"), "no Compose v2: install the plugin, or let .ci/engine provide it"),
        (("docker", "image", "inspect", *IMAGES.values()), "the images are not built: make images"),
    )
    for command, sentence in needs:
        try:
            run(*command)
        except CommandFailed as failed:
            last_words = failed.output.strip().splitlines() or [f"code {failed.code}"]
            return f"{sentence} ({shlex.join(command[:3])}: {last_words[-1]})"
    return None


@dataclass(frozen=True, slots=True)
class Container:
    """A container, running or not."""

    id: str
    name: str

    def execute(self, *command: str, stdin: str = "") -> str:
        """What a command prints in it. Raises CommandFailed."""
        return run("docker", "exec", "--interactive", self.id, *command, stdin=stdin)

    def logs(self, tail: int | None = None) -> str:
        """Its standard output and error, in the order in which the engine took them down."""
        lines = [] if tail is None else ["--tail", str(tail)]
        # The engine keeps the two apart again when it shows them, so they are put together by a shell.
        command = shlex.join(["docker", "logs", *lines, self.id])
        return run("sh", "-c", f"{command} 2>&1")

    def inspect(self) -> str:
        """All that the engine knows of it, as JSON: one object."""
        return run("docker", "inspect", "--format", "{{json .}}", self.id)

    def state(self) -> str:
        """created, running, paused, restarting or exited."""
        return run("docker", "inspect", "--format", "{{.State.Status}}", self.id).strip()

    def begun(self) -> str:
        """When its process was started, the last time."""
        return run("docker", "inspect", "--format", "{{.State.StartedAt}}", self.id).strip()

    def restarts(self) -> int:
        """How often its restart policy has started it, since a person did."""
        return int(run("docker", "inspect", "--format", "{{.RestartCount}}", self.id))

    def last_end(self) -> int:
        """The exit code with which it ended, the last time."""
        return int(run("docker", "inspect", "--format", "{{.State.ExitCode}}", self.id))

    def ends_since(self, moment: float) -> list[int]:
        """The exit codes with which it ended since then (seconds since the epoch), oldest first; restarts included.

        To be asked soon: the engine remembers only its last 256 events.
        """
        span = ["--since", f"{moment:.3f}", "--until", f"{time.time():.3f}"]
        about = ["--filter", f"container={self.id}", "--filter", "event=die"]
        lines = run("docker", "events", *span, *about, "--format", "{{json .}}").splitlines()
        return [int(json.loads(line)["Actor"]["Attributes"]["exitCode"]) for line in lines]

    def kill(self) -> None:
        """SIGKILL to all that runs in it, from the outside; it stays down until `start`."""
        run("docker", "kill", "--signal", "KILL", self.id)

    def start(self) -> None:
        """Start it again."""
        run("docker", "start", self.id)

    def crash(self) -> None:
        """Kill its program by SIGKILL from the inside.

        `docker kill` will not do: the engine takes it for a person's wish, and does not restart the container.
        """
        self.execute("sh", "-c", "kill -9 $(cat /proc/1/task/1/children)")

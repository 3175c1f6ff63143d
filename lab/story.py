"""How the demo tells its story to a person: chapters, one picture for each handshake, colours where there is a terminal."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape

from lab.faults.proxy import FAIR, Weather
from lab.faults.weather import described

FULL_HANDSHAKES = 10  # more than these are told in a line each


@dataclass(frozen=True, slots=True)
class Step:
    """One message of a handshake and what its receiver checked."""

    sender: str
    message: str
    opcode: int
    size: int
    checks: tuple[str, ...]


class Story:
    """Prints to one console; `quiet` prints nothing."""

    def __init__(self, console: Console, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._handshakes = 0

    def chapter(self, title: str) -> None:
        """A new part begins."""
        self._print(f"\n[bold]{escape(title)}[/]")

    def weather(self, weather: Weather) -> None:
        """What the network between patients and doctor is like, unless it is fair."""
        if weather != FAIR:
            self._print(f"\n[bold]The network: {escape(described(weather))}[/]")

    def handshake(self, patient: str, steps: list[Step]) -> None:
        """Who sent what, and which checks it passed."""
        self._handshakes += 1
        passed = sum(len(step.checks) for step in steps)
        if self._handshakes > FULL_HANDSHAKES:
            self._print(f"  [green]✓[/] {patient}: {len(steps)} messages, {passed} checks passed")
            return
        self._print(f"  [cyan]{patient}[/] ⇄ doctor")
        for step in steps:
            arrow = "──▶" if step.sender == "patient" else "◀──"
            checks = f"[green]✓[/] {_ranges(step.checks)}"
            self._print(f"    {arrow} {step.opcode:>2} {step.message:<19} {step.size:>5} B  {checks}")

    def epoch(self, group: str, number: int, members: list[str]) -> None:
        """All members hold the same epoch's key."""
        holders = "1 member holds" if len(members) == 1 else f"{len(members)} members hold"
        self._print(f"  [green]✓[/] epoch {number} of {group}: {holders} its key")

    def read(self, patient: str, text: str) -> None:
        """A patient has decrypted, verified and stored a message."""
        self._print(f"  [green]✓[/] {patient} reads: {escape(text)}")

    def receipts(self, delivered: int, recipients: int) -> None:
        """The doctor holds the receipts."""
        self._print(f"  [green]✓[/] receipts: {delivered} of {recipients} delivered")

    def revoked(self, patient: str, milliseconds: float, before: int, after: int) -> None:
        """A patient is out."""
        self._print(
            f"  [green]✓[/] {patient} is cut off in {milliseconds:.0f} ms, and is refused when it comes back"
        )
        self._print(f"  [green]✓[/] it has no key after epoch {before}; the group is in epoch {after}")

    def audit(self, entries: int) -> None:
        """The audit chain verifies."""
        self._print(f"\n  [green]✓[/] the audit log's {entries} entries verify")

    def verified(self, seconds: float) -> None:
        """Nothing was otherwise than it must be."""
        self._print(f"\n[bold green]Every step was verified[/] in {seconds} s.")

    def kept(self, address: str, password: str, state_dir: str) -> None:
        """Everything goes on running: where the console is, and how to log in."""
        self.chapter("Still running, until Ctrl-C")
        self._print(f"  Console   [bold cyan]{address}[/]")
        self._print(f"  Operator  [bold]admin[/]\n  Password  [bold]{escape(password)}[/]")
        self._print(f"  Commands  TELEMED_DOCTOR_STATE_DIR={escape(state_dir)} telemed-doctor patients")

    def _print(self, text: str) -> None:
        if not self._quiet:
            self._console.print(text, highlight=False, soft_wrap=True)


def _ranges(checks: tuple[str, ...]) -> str:
    """V-020 V-021 V-022 becomes V-020…022."""
    numbers = sorted({int(check[2:]) for check in checks})
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return " ".join(f"V-{run[0]:03}" if len(run) == 1 else f"V-{run[0]:03}…{run[-1]:03}" for run in runs)

"""What the three programs have in common on the command line: JSON for programs, help for people, completion for shells."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from doctor import cli as doctor_cli
from lab import cli as lab_cli
from patient import cli as patient_cli
from patient.identity import DeviceHome
from tests.command_tree import commands, options

PROGRAMS = {"telemed-doctor": doctor_cli.app, "telemed-patient": patient_cli.app, "telemed-lab": lab_cli.app}

WITHOUT_JSON = {
    "telemed-doctor serve": "it runs until it is stopped and answers nothing; `log_format: json` makes its log JSON",
}
EVERY = [
    (f"{program} {path}", command)
    for program, app in PROGRAMS.items()
    for path, command in commands(app).items()
]


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only this test's settings."""
    for name in list(os.environ):
        if name.startswith("TELEMED_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TELEMED_PATIENT_STATE_DIR", str(tmp_path / "patients"))
    monkeypatch.setenv("TELEMED_DOCTOR_STATE_DIR", str(tmp_path / "doctor"))


def test_every_command_takes_json() -> None:
    """But for the few that are named here, with their reason. That each prints it is tested beside the program."""
    lacking = {name for name, command in EVERY if "--json" not in options(command)}

    assert lacking == set(WITHOUT_JSON)
    assert len(EVERY) > 30, "the walk has seen them all"


def test_every_command_says_what_it_is_for() -> None:
    """In `--help`, in one sentence at least."""
    assert [name for name, command in EVERY if not (command.help or "").strip()] == []


def complete(program: str, typed: str, shell: str = "bash") -> str:
    """What a shell is offered for a line that ends where the cursor is."""
    words = f"{program} {typed}"
    variables = {
        f"_{program.upper().replace('-', '_')}_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
        "_TYPER_COMPLETE_ARGS": words,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    result = CliRunner().invoke(PROGRAMS[program], [], env=variables, prog_name=program)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("program", "typed", "offered"),
    [
        ("telemed-doctor", "bro", "broadcast"),
        ("telemed-doctor", "groups a", "add"),
        ("telemed-patient", "rep", "reply"),
        ("telemed-lab", "fau", "faults"),
        ("telemed-lab", "demo --weather ru", "rural"),
        ("telemed-lab", "faults --run kill-d", "kill-doctor"),
    ],
)
def test_shells_complete_commands_and_known_values(
    program: str, typed: str, offered: str, shell: str
) -> None:
    """As the scripts do that `--show-completion` prints."""
    assert offered in complete(program, typed, shell)


def test_a_patients_ids_are_completed(tmp_path: Path) -> None:
    """Those that live on this machine; a directory without an identity is none."""
    for name in ("alice", "albert", "bea", "alien"):
        (tmp_path / "patients" / name).mkdir(parents=True)
    for name in ("alice", "albert", "bea"):
        DeviceHome(tmp_path / "patients" / name).identity_file.touch()

    assert complete("telemed-patient", "inbox al").split() == ["albert", "alice"]


@pytest.mark.parametrize(("program", "typed"), [("telemed-patient", "inbox "), ("telemed-doctor", "revoke ")])
def test_where_there_is_nobody_nothing_is_completed(program: str, typed: str) -> None:
    """No directory, no doctor: no word about it on the line that somebody is typing."""
    assert complete(program, typed).strip() == ""


@pytest.mark.parametrize("app", PROGRAMS.values(), ids=PROGRAMS)
def test_a_shell_can_be_taught(app: typer.Typer) -> None:
    """By the program's own option."""
    assert "--install-completion" in CliRunner().invoke(app, ["--help"]).stdout

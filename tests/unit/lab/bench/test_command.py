"""The command refuses combinations that would keep or judge something that was not measured."""

from __future__ import annotations

import msgspec
import pytest
from typer.testing import CliRunner

from lab.bench import command
from lab.bench.results import Results
from lab.bench.surroundings import Surroundings
from lab.cli import app
from shared.errors import UserError


@pytest.mark.parametrize(
    "arguments",
    [
        ["--readme", "README.md"],
        ["--readme", "README.md", "--report", "x", "--quick"],
        ["crypto", "--readme", "README.md", "--report", "x"],
        ["--guard"],
        ["crypto", "--quick", "--guard"],
        ["--patients", "300", "--quick", "--guard"],
    ],
)
def test_only_a_full_run_renews_the_readme_and_only_a_whole_quick_one_is_judged(arguments: list[str]) -> None:
    """Before anything is measured."""
    found = CliRunner().invoke(app, ["bench", *arguments])
    assert isinstance(found.exception, UserError)


def test_the_last_line_of_json_is_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was measured goes to standard error meanwhile. The parts themselves have tests of their own."""

    def nothing(*_: object, **__: object) -> Results:
        return Results(rows=[], series=[], missing=[], failed=[], quick=True, surroundings=Surroundings.now())

    monkeypatch.setattr(command, "run_parts", nothing)

    found = CliRunner().invoke(app, ["bench", "--quick", "--json"])

    assert found.exit_code == 0
    assert msgspec.json.decode(found.stdout.splitlines()[-1], type=Results).quick

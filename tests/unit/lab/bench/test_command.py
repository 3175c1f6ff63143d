"""The command refuses combinations that would keep or judge something that was not measured."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

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

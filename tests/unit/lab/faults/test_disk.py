"""A disk that is made sick is sick, and wrong answers to it are found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lab.faults import volumes
from lab.faults.every_order import is_refused
from lab.faults.orders import Refused
from lab.faults.rows import disk
from lab.faults.rows.disk import CASES
from lab.faults.sick_disks import Case, Place, Report, Trouble

WRITER = """
import sys
for line in sys.stdin:
    try:
        with open(sys.argv[1], "a") as file:
            file.write("four")
        print("written", flush=True)
    except OSError as error:
        print(error.strerror, flush=True)
"""


def test_growth_is_refused_to_a_running_process_and_given_back(tmp_path: Path) -> None:
    """From outside, without its doing, as a disk fails and is mended."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "file")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None
        said = []
        for refuse in (None, True, False):
            if refuse is not None:
                volumes.refuse_growth(program.pid, refuse)
            program.stdin.write("go\n")
            program.stdin.flush()
            said.append(program.stdout.readline())
        program.stdin.close()

    assert said == ["written\n", "File too large\n", "written\n"]


def test_asking_whether_one_may_mount_leaves_nothing_behind(tmp_path: Path) -> None:
    """Whatever the answer is."""
    volumes.can_mount(tmp_path)

    assert str(tmp_path) not in Path("/proc/mounts").read_text()


def work(report: Report) -> disk.Work:
    return disk.Work(Case(Trouble.FULL, Place.STATE), Path("/clinic"), 1, report)


@pytest.mark.parametrize(("status", "flaws"), [(503, 0), (507, 1), (500, 1), (409, 1)])
async def test_only_not_accepted_is_the_right_answer(status: int, flaws: int) -> None:
    """A bug or a refusal of another kind is a finding."""
    report = Report()

    async def order() -> None:
        raise Refused(status, b"no")

    assert await is_refused(report, "broadcast", order)
    assert (len(report.flaws), report.refused) == (flaws, 1)


@pytest.mark.parametrize(
    ("words", "flaws"),
    [
        ("telemed-doctor: /clinic/doctor/doctor.db: disk full", 0),
        ("telemed-doctor: disk full", 1),
        ("Traceback: /clinic/doctor", 1),
        ("it started", 1),
    ],
)
def test_a_start_that_fails_must_name_the_place_in_a_line(words: str, flaws: int) -> None:
    """A traceback is none."""
    report = Report()
    work(report).judge_words(words)

    assert len(report.flaws) == flaws


def test_the_first_three_cases_are_the_three_places() -> None:
    """Continuous integration runs just these."""
    assert disk.ROW.ci.count == 3
    assert [str(case) for case in CASES[:3]] == [
        "the doctor's state, full",
        "the patients' homes, full",
        "the doctor's state, failing every write",
    ]

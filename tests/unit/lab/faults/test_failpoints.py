"""Every failpoint names a function that exists, and a process that comes by it is gone at once."""

from __future__ import annotations

import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from lab.faults.clinic import Clinic
from lab.faults.failpoints import HIT, Trap, resolve
from lab.faults.points import AFTER, BEFORE, COMMITTING, DOCTOR, PATIENT, Errand, Failpoint, When
from lab.faults.watch import Watch
from lab.processes import ScenarioFailed
from shared.storage import sqlite

CALLS: list[str] = []


def work() -> None:
    """What the tests below wrap."""
    CALLS.append("work")


def commit() -> None:
    """What comes behind some work, and behind other things."""
    CALLS.append("commit")


async def wait() -> None:
    """As `work`, but awaited."""
    CALLS.append("wait")


class Killed(BaseException):
    """Stands for the end of the process."""


def spring() -> None:
    """Leaves the call that the trap stands at."""
    raise Killed


@pytest.fixture(autouse=True)
def _unwrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a test wraps is itself again behind it."""
    CALLS.clear()
    for name in ("work", "commit", "wait"):
        monkeypatch.setitem(globals(), name, globals()[name])


def trap(name: str, when: When, nth: int = 1, behind: str | None = None) -> None:
    """A trap at a function of this module."""
    here = __name__
    point = Failpoint("x", f"{here}:{name}", when, Errand.MESSAGES, behind and f"{here}:{behind}")
    Trap(point, nth, spring).set()


@pytest.mark.parametrize("point", [*DOCTOR, *PATIENT], ids=lambda point: point.name)
def test_every_failpoint_names_a_function_that_exists(point: Failpoint) -> None:
    """A refactoring that moves one must move the point."""
    resolve(point.target)
    if point.behind is not None:
        resolve(point.behind)
    for name, _ in point.settings:
        module, _, constant = name.partition(":")
        assert hasattr(__import__(module, fromlist=["x"]), constant)


def test_there_are_as_many_points_as_the_campaign_promises() -> None:
    """At least twenty in the doctor and ten in the patient, each with a name of its own."""
    for points, least in ((DOCTOR, 20), (PATIENT, 10)):
        assert len({point.name for point in points}) == len(points) >= least


@pytest.mark.parametrize(
    "target", ["doctor.nothing:at_all", "doctor.outbox:Outbox.reject", "doctor.outbox:DAY"]
)
def test_a_point_that_is_no_function_is_said(target: str) -> None:
    """Before anything is run with it."""
    with pytest.raises(LookupError, match="doctor"):
        resolve(target)


def test_a_trap_springs_before_or_behind_the_nth_call() -> None:
    """Before: the call never happens. Behind: it has."""
    trap("work", BEFORE, 2)
    work()
    with pytest.raises(Killed):
        work()
    assert CALLS == ["work"]


async def test_a_trap_behind_an_awaited_call_springs_when_it_is_done() -> None:
    """Not when it is merely begun."""
    trap("wait", AFTER)
    waiting = wait()
    assert CALLS == []
    with pytest.raises(Killed):
        await waiting
    assert CALLS == ["wait"]


def test_a_call_counts_only_behind_the_one_that_it_has_to_follow() -> None:
    """A commit in which nothing of interest was done is let through."""
    trap("commit", AFTER, 2, behind="work")
    commit()
    work()
    commit()
    commit()
    work()
    with pytest.raises(Killed):
        commit()
    assert CALLS == ["commit", "work", "commit", "commit", "work", "commit"]


async def test_a_doctor_that_comes_by_its_failpoint_is_killed_and_has_said_where(tmp_path: Path) -> None:
    """The shipped program, in a process of its own."""
    arguments = ("-m", "lab.faults.failpoints", "doctor", "start.loaded", "1")
    watch = Watch()
    clinic = Clinic(tmp_path, watch)
    async with clinic.proxy:
        with pytest.raises(ScenarioFailed):
            await clinic.start(arguments)
        await clinic.died(20)
        assert [line["at"] for line in clinic.doctor.find(event=HIT)] == ["start.loaded"]
        assert await clinic.doctor.stop() == -signal.SIGKILL
        clinic.doctor.close()


def test_a_trap_at_the_commit_leaves_nothing_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The very last moment at which a transaction can be lost; the row behind which it counts is in it."""
    monkeypatch.setattr(sqlite, "open_database", sqlite.open_database)
    sprung: list[int] = []
    point = Failpoint("x", COMMITTING, BEFORE, Errand.MESSAGES, f"{__name__}:work")

    with closing(sqlite3.connect(tmp_path / "other.db")) as other:
        Trap(point, 1, lambda: sprung.append(count(other))).set()
        with closing(sqlite.open_database(tmp_path / "doctor.db", ["CREATE TABLE t (a)"])) as database:
            other.execute("ATTACH ? AS doctor", (str(tmp_path / "doctor.db"),))
            database.execute("BEGIN IMMEDIATE")
            database.execute("INSERT INTO t VALUES (1)")
            database.execute("COMMIT")
            database.execute("BEGIN IMMEDIATE")
            work()
            database.execute("INSERT INTO t VALUES (2)")
            database.execute("COMMIT")
            assert (sprung, count(other)) == ([1], 2)


def count(database: sqlite3.Connection) -> int:
    """How many rows somebody else sees."""
    (rows,) = database.execute("SELECT count(*) FROM doctor.t").fetchone()
    return int(rows)

"""The campaign runs rows, judges them by their counts, and keeps what came of them."""

from __future__ import annotations

import io
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from rich.console import Console
from typer.testing import CliRunner

from lab import cli
from lab.faults import campaign, record
from lab.faults.campaign import Overrides, run_rows, select
from lab.faults.row import FINDINGS_KEPT, Result, Row, Scale, Size, Tally, Trial
from shared.errors import StorageError, UserError

GOOD = Tally(3, 3)


def row(tally: Tally | Callable[[Trial], Tally] = GOOD, name: str = "calm") -> Row:
    """A row that only counts."""

    async def run(trial: Trial) -> Tally:
        trial.on_progress(trial.scale.count, trial.scale.count)
        return tally(trial) if callable(tally) else tally

    checked: Callable[[Trial], Awaitable[Tally]] = run
    return Row(name, "T0", "nothing happens", "all of it", Scale(count=3), Scale(count=30), checked)


def run_one(tally: Tally | Callable[[Trial], Tally], size: Size = Size.CI) -> Result:
    """The result of one row."""
    return next(run_rows([row(tally)], size, Overrides(), 1, Console(file=io.StringIO())))


@pytest.mark.parametrize(
    ("tally", "passed"),
    [
        (GOOD, True),
        (Tally(0, 0), False),
        (Tally(3, 2), False),
        (Tally(3, 3, lost=1), False),
        (Tally(3, 3, duplicated=1), False),
        (Tally(3, 3, leaked=1), False),
        (Tally(3, 3, findings=("something odd",)), False),
    ],
)
def test_a_row_passes_only_if_something_was_tried_and_everything_held(tally: Tally, passed: bool) -> None:
    """The verdict follows from the counts."""
    assert run_one(tally).passed is passed


def test_a_size_and_the_callers_wishes_make_the_scale() -> None:
    """What the caller does not name stays as the size has it."""
    seen = []

    def look(trial: Trial) -> Tally:
        seen.append(trial.scale)
        assert list(trial.directory.iterdir()) == []
        return GOOD

    rows = [row(look)]
    console = Console(file=io.StringIO())
    assert [r.scale for r in run_rows(rows, Size.RELEASE, Overrides(patients=7), 1, console)] == seen
    assert seen == [Scale(count=30, patients=7)]


def test_a_failing_row_does_not_stop_the_next_one() -> None:
    """Every row's result comes."""
    out = io.StringIO()
    rows = [row(Tally(2, 1, findings=("[b] was lost",)), "bad"), row(GOOD, "good")]
    results = list(run_rows(rows, Size.CI, Overrides(), 1, Console(file=out)))
    assert [(result.row, result.passed) for result in results] == [("bad", False), ("good", True)]
    assert "[b] was lost" in out.getvalue()


def test_recovery_is_told_as_median_and_maximum_and_findings_are_bounded() -> None:
    """A broken defence does not fill the terminal."""
    result = run_one(Tally(1, 1, recovery=(3.0, 1.0, 2.0), findings=("x",) * 100))
    assert result.recovery_seconds is not None
    assert (result.recovery_seconds.median, result.recovery_seconds.max) == (2.0, 3.0)
    assert len(result.findings) == FINDINGS_KEPT


def test_rows_are_selected_by_name_in_the_campaigns_order() -> None:
    """`all` is every row; an unknown one is answered with those that there are."""
    rows = [row(name="a"), row(name="b")]
    assert select(["b", "a"], rows) == rows
    assert select(["all"], rows) == rows
    with pytest.raises(UserError, match=r"no row 'c'.*all, a, b"):
        select(["c"], rows)


def test_the_command_prints_one_object_a_row_and_fails_for_a_row_that_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Programs read the last line; the exit code says whether all passed."""
    monkeypatch.setattr(campaign, "ROWS", rows := (row(GOOD, "good"), row(Tally(2, 1), "bad")))
    monkeypatch.setattr("lab.faults.command.ROWS", rows)
    monkeypatch.setattr("lab.faults.command.select", lambda names: select(names, rows))
    done = CliRunner().invoke(cli.app, ["faults", "--run", "all", "--json", "--count", "5"])
    results = [msgspec.json.decode(line, type=Result) for line in done.stdout.splitlines()]
    assert [(r.row, r.passed, r.scale.count) for r in results] == [("good", True, 5), ("bad", False, 5)]
    assert "bad" in str(done.exception)


def test_the_list_shows_every_row_with_its_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """For people a table, for programs a line a row."""
    monkeypatch.setattr("lab.faults.command.ROWS", (row(name="calm"),))
    assert "calm" in CliRunner().invoke(cli.app, ["faults", "--list"]).stdout
    line = CliRunner().invoke(cli.app, ["faults", "--list", "--json"]).stdout.splitlines()[0]
    assert msgspec.json.decode(line)["release"]["count"] == 30


def test_a_kept_result_replaces_its_own_line_of_the_table_and_no_other(tmp_path: Path) -> None:
    """The table is made from the files."""
    rows = [row(name="a"), row(name="b")]
    for name, survived in (("a", 1), ("b", 2), ("a", 3)):
        result = msgspec.structs.replace(run_one(Tally(3, survived)), row=name)
        record.keep(tmp_path, rows, record.Kept.now(result, Size.RELEASE, " --size release"))
    lines = [line for line in (tmp_path / "README.md").read_text().splitlines() if "T0" in line]
    assert [line.split("|")[2:5] for line in lines] == [
        [" a: nothing happens ", " 3 ", " 3 "],
        [" b: nothing happens ", " 3 ", " 2 "],
    ]
    assert "`telemed-lab faults --run a --size release --seed 1`" in lines[0]


def test_a_result_that_cannot_be_kept_is_said(tmp_path: Path) -> None:
    """A file in the way is named."""
    (tmp_path / "a.json").write_text("not json")
    with pytest.raises(StorageError, match="cannot be kept"):
        record.keep(
            tmp_path,
            [row(name="a"), row(name="b")],
            record.Kept.now(msgspec.structs.replace(run_one(GOOD), row="b"), Size.CI, ""),
        )

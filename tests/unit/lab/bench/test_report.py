"""What a run leaves behind says what was measured, and the README shows what is kept."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from lab.bench import plots, report
from shared.errors import UserError
from tests.bench_results import results, row

ROOT = Path(__file__).parents[4]
KEPT = "docs/bench"
RUN = results(row(200, 100), row(110, 100, peer="another broker"), row(120, None, measure="memory"))


def test_a_report_is_written_with_its_plots_and_can_be_read_again(tmp_path: Path) -> None:
    """Everything that was measured, for people and for programs."""
    report.write(tmp_path / "new", RUN)
    assert report.read(tmp_path / "new") == RUN
    names = {path.name for path in (tmp_path / "new").iterdir()}
    plots_of_it = {f"{name}-{page}.svg" for name in ("ratios", "scale") for page in ("light", "dark")}
    assert names == {"results.json", "report.md", *plots_of_it}


def test_a_report_says_what_is_kept_missed_and_missing() -> None:
    """In its table and in a sentence."""
    text = report.report(RUN)
    assert "**1 of 3 promises are kept.**" in text
    assert "Not measured: Debian package nats-server is not installed." in text
    assert "| ✓ P3 | deliveries | 200 /s | a broker | 100 | 2 × | ≥ 1.3 × | 20% / 10% | a word |" in text
    assert "| ✗ P3 | deliveries | 200 /s |" not in text
    assert "| not installed |" in text
    assert "| mosquitto | 2.0 |" in text


def test_a_readme_is_renewed_between_its_marks_alone(tmp_path: Path) -> None:
    """And stays as it is when the same is written again."""
    path = tmp_path / "README.md"
    path.write_text(f"before\n\n{report.BEGIN}\nold\n{report.END}\n\nafter\n")
    report.renew(path, RUN, "docs/bench")
    once = path.read_text()
    assert once == f"before\n\n{report.section(RUN, 'docs/bench')}\n\nafter\n"
    report.renew(path, RUN, "docs/bench")
    assert path.read_text() == once


def test_a_readme_without_marks_is_left_alone(tmp_path: Path) -> None:
    """Nobody knows where the table would belong."""
    path = tmp_path / "README.md"
    path.write_text("nothing here")
    with pytest.raises(UserError, match="no lines"):
        report.renew(path, RUN, "docs/bench")
    assert path.read_text() == "nothing here"


def test_plots_are_the_same_for_the_same_results() -> None:
    """So that a kept one changes only with what it shows; and they are drawings."""
    drawn = plots.draw(RUN)
    assert drawn == plots.draw(RUN)
    for text in drawn.values():
        assert ElementTree.fromstring(text).tag.endswith("svg")


def test_of_peers_with_one_promise_the_nearest_is_shown() -> None:
    """And one that is missing, where there is no other."""
    assert [(each.measure, each.peer) for each in RUN.nearest] == [
        ("deliveries", "another broker"),
        ("memory", "a broker"),
    ]


def test_the_readme_and_the_report_show_the_kept_results() -> None:
    """Nobody writes a figure there by hand: make bench KEEP=1."""
    kept = report.read(ROOT / KEPT)
    assert report.section(kept, KEPT) in (ROOT / "README.md").read_text()
    assert (ROOT / KEPT / report.REPORT_FILE).read_text() == report.report(kept)

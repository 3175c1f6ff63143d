"""What a run leaves behind for people: report.md with its plots and results.json, and the part of the README that shows them.

Law: every text is made from the results alone, so that a test can make it again and compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from lab.bench import plots
from lab.bench.comparison import Line
from lab.bench.results import Results
from shared.errors import StorageError, UserError

RESULTS_FILE, REPORT_FILE = "results.json", "report.md"
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"

_HOW_TO_READ = """A ratio is how many times better this system is, whichever way the figure counts; all that are compared were measured in turns
in one call on one machine, and each figure is the median of its runs. The spread is (largest − smallest) / median, ours and theirs.
What each row measures, what is honest about it and where its time goes: [docs/performance.md]({performance})."""


def write(directory: Path, results: Results) -> None:
    """Write everything into a directory, which is made if need be.

    Raises:
        StorageError: it cannot be written. UserError: the library for the plots is not there.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        encoded = msgspec.json.format(msgspec.json.encode(results), indent=2)
        (directory / RESULTS_FILE).write_bytes(encoded + b"\n")
        for name, drawing in plots.draw(results).items():
            (directory / name).write_text(drawing)
        (directory / REPORT_FILE).write_text(report(results))
    except OSError as error:
        raise StorageError(f"{directory}: the report cannot be written: {error}") from error


def read(directory: Path) -> Results:
    """The results that `write` has left there."""
    return msgspec.json.decode((directory / RESULTS_FILE).read_bytes(), type=Results)


def renew(readme: Path, results: Results, directory: str) -> None:
    """Put these results between the marks of a README. `directory`: where the report is, as seen from there.

    Raises:
        UserError: it has no such marks.
    """
    text = readme.read_text()
    head, begun, rest = text.partition(BEGIN)
    _, ended, tail = rest.partition(END)
    if not begun or not ended:
        raise UserError(f"{readme} has no lines {BEGIN} and {END}: put them where the table shall stand.")
    readme.write_text(head + section(results, directory) + tail)


def section(results: Results, directory: str) -> str:
    """What the README shows, with the marks around it."""
    head = ("", "Measured", "Ours", "Beside", "Theirs", "Ratio", "Promised")
    lines = [_table(head, [_short(row) for row in results.nearest])]
    lines += [_picture("ratios", f"{directory}/", "Ratios beside what was promised")]
    where = results.surroundings
    size = " This was a quick run: small sizes, few turns." if results.quick else ""
    said = f"{_summary(results)}{size} Of {where.date}, {where.machine}. Of peers with one promise the nearest is shown; "
    lines += [said + f"[all rows, with spreads, notes and curves]({directory}/{REPORT_FILE})."]
    return "\n\n".join([BEGIN, *lines, END])


def report(results: Results) -> str:
    """The whole report."""
    size = "quick: small sizes, few runs" if results.quick else "full"
    parts = ["# Beside the peers", _HOW_TO_READ.format(performance="../performance.md"), _summary(results)]
    parts += [_picture("ratios", "", "Ratios beside what was promised")]
    head = ("", "Measured", "Ours", "Beside", "Theirs", "Ratio", "Promised", "Spread", "Note")
    parts += [_table(head, [(*_short(row), _spread(row), row.note) for row in results.rows])]
    if results.series:
        parts += [
            "## From a few patients to many",
            _picture("scale", "", "Costs against the number of patients"),
        ]
    parts += ["## Measured on", f"{results.surroundings.date}, {results.surroundings.machine}; {size}. "]
    parts[-1] += f"When it began, {results.surroundings.load:g} processes wanted a processor."
    versions = [(each.name, each.version) for each in results.surroundings.versions]
    parts += [_table(("Took part", "Version"), versions)]
    return "\n\n".join(parts) + "\n"


def _summary(results: Results) -> str:
    kept = sum(row.met is True for row in results.promised)
    said = [f"**{kept} of {len(results.promised)} promises are kept.**"]
    said += [f"Not measured: {each} is not installed." for each in results.missing]
    said += [f"Part {each.part} came to no result: {each.reason}." for each in results.failed]
    return " ".join(said)


def _short(row: Line) -> tuple[str, ...]:
    mark = {True: "✓", False: "✗", None: ""}[row.met]
    theirs = "not installed" if row.theirs is None else f"{row.theirs:,g}"
    ratio = "" if row.ratio is None else f"{row.ratio:.3g} ×"
    target = "" if row.target is None else f"≥ {row.target:g} ×"
    ours = f"{row.ours:,g} {row.unit.removeprefix('1')}"
    return f"{mark} {row.id}", row.measure, ours, row.peer, theirs, ratio, target


def _spread(row: Line) -> str:
    theirs = "" if row.theirs_spread is None else f" / {row.theirs_spread:.0%}"
    return f"{row.ours_spread:.0%}{theirs}"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _picture(name: str, directory: str, words: str) -> str:
    """A drawing for light pages and one for dark ones; the page picks."""
    dark = f'<source media="(prefers-color-scheme: dark)" srcset="{directory}{name}-dark.svg">'
    return f'<picture>{dark}<img alt="{words}" src="{directory}{name}-light.svg"></picture>'

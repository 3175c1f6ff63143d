"""The plots of a report as SVG, for light pages and for dark ones: ratios beside their promises, and costs beside the number of patients.

Colours are Okabe and Ito's, which everybody can tell apart, and no colour says anything that a sign or a word does not say too.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING

from lab.bench.comparison import Line, Series
from lab.bench.results import Results
from shared.errors import UserError

if TYPE_CHECKING:
    from matplotlib import RcParams
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FAR = 30.0  # times better; a bar beyond is cut, and says so
NEAR = 0.1


@dataclass(frozen=True, slots=True)
class Page:
    """What a drawing stands on."""

    name: str
    text: str
    quiet: str
    lines: str
    kept: str
    missed: str

    @property
    def curves(self) -> tuple[str, ...]:
        """Colours of curves: ours first."""
        return self.kept, "#e69f00", "#009e73", "#cc79a7"


PAGES = (
    Page("light", text="#1f2328", quiet="#59636e", lines="#d1d9e0", kept="#0072b2", missed="#d55e00"),
    Page("dark", text="#f0f6fc", quiet="#9198a1", lines="#3d444d", kept="#3a9bdc", missed="#e8703a"),
)


def draw(results: Results) -> dict[str, str]:
    """Every plot that these results allow, by its file's name.

    Raises:
        UserError: matplotlib is not there.
    """
    try:
        import matplotlib as library
    except ImportError:
        raise UserError(
            "Plots need matplotlib, which is among the libraries of development: make bench."
        ) from None
    drawn: dict[str, str] = {}
    bars = [row for row in results.nearest if row.ratio is not None]
    for page in PAGES:
        with library.rc_context():
            _style(library.rcParams, page)
            if bars:
                drawn[f"ratios-{page.name}.svg"] = _svg(_ratios(bars, page))
            if results.series:
                drawn[f"scale-{page.name}.svg"] = _svg(_scale(results.series, page))
    return drawn


def _style(settings: RcParams, page: Page) -> None:
    settings["svg.hashsalt"] = "telemed"  # the same results are the same file
    # Text stays text: a tenth of the size, and whoever has no such font, which is a wide one, sees a narrower.
    settings["svg.fonttype"], settings["font.family"] = "none", ["DejaVu Sans", "sans-serif"]
    settings["text.color"], settings["axes.edgecolor"] = page.text, page.lines
    settings["axes.labelcolor"] = settings["xtick.color"] = settings["ytick.color"] = page.quiet


def _ratios(rows: Sequence[Line], page: Page) -> Figure:
    """A bar for each ratio, from 1, where the peer stands, and a stroke where the promise does."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.4, 0.42 * len(rows) + 0.7), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xscale("log")
    lowest = min([NEAR, *(row.ratio / 1.6 for row in rows if row.ratio)])
    axes.set_xlim(lowest, FAR * 2.2)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    for place, row in enumerate(rows):
        _named(axes, place, row, page)
        _bar(axes, place, row, page)
    axes.axvline(1, color=page.quiet, linewidth=1)
    axes.set_yticks([])
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20) if tick >= lowest]
    axes.set_xticks(ticks, [f"{tick:g} ×" for tick in ticks], fontsize=8)
    axes.minorticks_off()
    axes.set_xlabel("times better than the peer; the stroke is what was promised", fontsize=8.5)
    axes.grid(axis="x", color=page.lines, linewidth=0.6)
    _plain(axes)
    return figure


def _named(axes: Axes, place: int, row: Line, page: Page) -> None:
    """Two texts and not two lines of one: each ends at the axis, however wide the reader's font is."""
    lines = (
        (f"{row.id} {row.measure}", 1.5, "bottom", page.text),
        (f"beside {row.peer}", -1.5, "top", page.quiet),
    )
    for text, up, upright, colour in lines:
        axes.annotate(
            text,
            (0, place),
            xycoords=axes.get_yaxis_transform(),
            xytext=(-6, up),
            textcoords="offset points",
            ha="right",
            va=upright,
            color=colour,
            fontsize=7.5,
        )


def _bar(axes: Axes, place: int, row: Line, page: Page) -> None:
    assert row.ratio is not None  # noqa: S101  only such rows are drawn
    end, colour = min(row.ratio, FAR), page.kept if row.met else page.missed
    axes.barh(place, end - 1, left=1, height=0.56, color=colour, zorder=2)
    if row.target is not None:
        axes.plot(
            [row.target, row.target], [place - 0.4, place + 0.4], color=page.text, linewidth=2, zorder=3
        )
    sign = "✓" if row.met else "✗"
    text = f"{row.ratio:,.3g} × {sign}" if row.ratio <= FAR else f"→ {row.ratio:,.0f} × {sign}"
    axes.annotate(
        text,
        (max(end, row.target or 0, 1), place),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=8.5,
        zorder=4,
    )


def _scale(series: Sequence[Series], page: Page) -> Figure:
    """One small plot for each measure, with all of its curves."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    measures = list(dict.fromkeys(each.measure for each in series))
    columns = min(2, len(measures))
    lines = -(-len(measures) // columns)
    apart = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.12)
    figure = Figure(figsize=(4.7 * columns, 2.7 * lines), layout=apart)
    for place, measure in enumerate(measures):
        axes = figure.add_subplot(lines, columns, place + 1)
        _curves(axes, [each for each in series if each.measure == measure], page)
    return figure


def _curves(axes: Axes, series: Sequence[Series], page: Page) -> None:
    axes.set_xscale("log")
    for number, (each, colour) in enumerate(zip(series, cycle(page.curves), strict=False)):
        across, up = [point.patients for point in each.points], [point.value for point in each.points]
        form = "o-" if number == 0 else "s--"
        axes.plot(across, up, form, color=colour, linewidth=2, markersize=4.5, label=each.name)
    axes.set_ylim(0, 1.25 * max(point.value for each in series for point in each.points))
    counts = sorted({point.patients for each in series for point in each.points})
    axes.set_xticks(counts, [f"{count:,}" for count in counts], fontsize=8)
    axes.minorticks_off()
    axes.tick_params(axis="y", labelsize=8)
    axes.set_title(f"{series[0].measure}, {series[0].unit}", fontsize=9, loc="left")
    axes.set_xlabel("patients", fontsize=8.5)
    axes.grid(axis="y", color=page.lines, linewidth=0.6)
    axes.locator_params(axis="y", nbins=5)
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=8, loc="lower right")
    _plain(axes)


def _plain(axes: Axes) -> None:
    """No frame, no tick marks: the grid is enough."""
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)


def _svg(figure: Figure) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"

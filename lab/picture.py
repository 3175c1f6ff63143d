"""A picture of a real run of the demo, as a terminal shows it: SVG for a light and for a dark page.

Law: nothing is drawn by hand. What stands in the picture is what the demo printed; a picture is renewed by running it again.
"""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme

from lab.story import Story

WIDTH = 100  # columns
LIGHT, DARK = "demo-light.svg", "demo-dark.svg"

# The colours of the console's style sheet would do as well; these have 4.5 : 1 and more on their own ground (WCAG AA).
_LIGHT = TerminalTheme(
    (246, 248, 250),
    (36, 41, 47),
    [
        (36, 41, 47),
        (180, 30, 40),
        (17, 99, 41),
        (125, 78, 0),
        (9, 80, 174),
        (110, 60, 170),
        (27, 98, 110),
        (87, 96, 106),
    ],
)
_DARK = TerminalTheme(
    (13, 17, 23),
    (230, 237, 243),
    [
        (110, 118, 129),
        (255, 123, 114),
        (86, 211, 100),
        (227, 179, 65),
        (121, 192, 255),
        (210, 168, 255),
        (86, 212, 221),
        (230, 237, 243),
    ],
)
# As Rich's own, without the fonts that it would fetch from the network: a page that shows the picture asks nobody for anything.
_FORM = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
  <style>
    .{unique_id}-matrix {{ font-family: ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: {char_height}px; line-height: {line_height}px; }}
    {styles}
  </style>
  <defs>
    <clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>
    {lines}
  </defs>
  {chrome}
  <g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
    {backgrounds}
    <g class="{unique_id}-matrix">
    {matrix}
    </g>
  </g>
</svg>
"""


class Recorder:
    """A story that is kept as it is told; `write` makes the pictures."""

    def __init__(self, command: str) -> None:
        self._console = Console(
            file=io.StringIO(),
            record=True,
            width=WIDTH,
            force_terminal=True,
            color_system="standard",
            legacy_windows=False,
        )
        self._console.print(f"[bold]$ {command}[/]", highlight=False)
        self.story = Story(self._console)

    def write(self, directory: Path) -> list[Path]:
        """The same run on both grounds; the files that were written. The directory is made if it is not there."""
        directory.mkdir(parents=True, exist_ok=True)
        written = []
        for name, theme in ((LIGHT, _LIGHT), (DARK, _DARK)):
            path = directory / name
            path.write_text(
                self._console.export_svg(
                    title="", theme=theme, clear=False, code_format=_FORM, unique_id="demo"
                ),
                encoding="utf-8",
            )
            written.append(path)
        return written

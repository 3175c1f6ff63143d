"""The picture of the demo: what it shows was told, on both grounds, and the one in the documents is of this release."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lab.handshake import HANDSHAKE
from lab.picture import DARK, LIGHT, Recorder
from lab.story import Step

DOCS = Path(__file__).resolve().parents[3] / "docs"


def words(path: Path) -> str:
    """What a picture says, line by line, without the width of its spaces."""
    root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
    lines: dict[float, list[str]] = {}
    for text in root.iter("{http://www.w3.org/2000/svg}text"):
        if "y" in text.attrib:
            lines.setdefault(float(text.attrib["y"]), []).append("".join(text.itertext()))
    return "\n".join(" ".join(unescape("".join(parts)).split()) for _, parts in sorted(lines.items()))


def handshake() -> list[Step]:
    """One of each message, with the checks that it must pass."""
    return [Step(sender, message, 10, 100, tuple(sorted(checks))) for sender, message, checks in HANDSHAKE]


def told(directory: Path) -> list[Path]:
    """A short story."""
    recorder = Recorder("make demo")
    recorder.story.chapter("1 patient <enrols> & [authenticates]")
    recorder.story.handshake("bed-01", handshake())
    recorder.story.verified(1.5)
    return recorder.write(directory / "new")


def test_a_story_becomes_a_picture_for_each_ground(tmp_path: Path) -> None:
    """The same words, other colours; whatever letters the words have."""
    light, dark = told(tmp_path)

    assert (light.name, dark.name) == (LIGHT, DARK)
    assert words(light) == words(dark)
    assert words(light).splitlines()[0] == "$ make demo"
    assert "1 patient <enrols> & [authenticates]" in words(light)
    assert "Every step was verified in 1.5 s." in words(light)
    assert light.read_text(encoding="utf-8") != dark.read_text(encoding="utf-8")


def test_a_picture_asks_nobody_for_anything(tmp_path: Path) -> None:
    """No font, no script, no link: whoever looks at the page is not told on."""
    for path in (*told(tmp_path), DOCS / LIGHT, DOCS / DARK):
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|url\((?!#)|@import|<script|<image|href", text), path


@pytest.mark.parametrize("name", [LIGHT, DARK])
def test_the_picture_in_the_documents_is_of_this_release(name: str, tmp_path: Path) -> None:
    """Each message with the checks it passes today; else: make picture."""
    new, kept = words(told(tmp_path)[0]), words(DOCS / name)
    marks = re.findall(r"(\w+) \d+ B (✓ .+)", new)

    assert len(marks) == len(HANDSHAKE)
    assert set(marks) <= set(re.findall(r"(\w+) \d+ B (✓ .+)", kept)), "make picture"
    assert "Every step was verified" in kept

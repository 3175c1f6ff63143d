"""Colours: text can be read, and borders that matter can be seen, in light and in dark (WCAG 2.2, 1.4.3 and 1.4.11, level AA)."""

from __future__ import annotations

import re

import pytest

from doctor.console.rendering import static_files

TEXT, SHAPE = 4.5, 3.0
GROUNDS = ("ground", "card", "sunk")
# What stands on the page, on cards, and on what is sunk into them: text, then shapes.
READ = [(ink, ground) for ink in ("ink", "soft", "accent", "good", "wait", "bad") for ground in GROUNDS]
BAR = ("accent", "quiet-ground")  # of what was delivered: a shape, though its rule says `color`
SEEN = [
    (edge, ground) for edge in ("edge", "accent", "bad", "ink") for ground in (*GROUNDS, "bad-ground")
] + [BAR]


def sheets() -> dict[str, str]:
    """The stylesheets by name, without comments."""
    texts = {name: content.decode() for name, (content, kind) in static_files().items() if kind == "text/css"}
    return {name: re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL) for name, text in texts.items()}


def colours() -> dict[str, dict[str, str]]:
    """The variables of the light and the dark scheme, as #rrggbb."""
    text = sheets()["console.css"]
    light, dark, *_ = [
        dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6})", block))
        for block in re.findall(r":root \{(.*?)\}", text, re.DOTALL)
    ]
    assert light.keys() == dark.keys()
    return {"light": light, "dark": dark}


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """From 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def pairs_in_rules() -> set[tuple[str, str]]:
    """Text and ground that one rule names together."""
    found = set()
    for text in sheets().values():
        for rule in re.findall(r"\{([^{}]*)\}", text):
            ink = re.search(r"(?:^|[;\s])color: var\(--([a-z-]+)\)", rule)
            ground = re.search(r"background(?:-color)?: var\(--([a-z-]+)\)", rule)
            if ink and ground:
                found.add((ink[1], ground[1]))
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_and_shapes_can_be_seen(scheme: str) -> None:
    """On whatever they stand."""
    known = colours()[scheme]
    read = (pairs_in_rules() - {BAR}) | set(READ)
    poor = {
        pair: contrast(known[pair[0]], known[pair[1]])
        for pair in read
        if contrast(known[pair[0]], known[pair[1]]) < TEXT
    }
    faint = {
        pair: contrast(known[pair[0]], known[pair[1]])
        for pair in SEEN
        if contrast(known[pair[0]], known[pair[1]]) < SHAPE
    }

    assert poor == {}
    assert faint == {}
    assert len(pairs_in_rules()) >= 10, "the rules are found"


def test_the_measure_is_that_of_the_recommendation() -> None:
    """Black on white is 21, and grey #767676 on white is the first that is enough for text."""
    assert round(contrast("#000000", "#ffffff"), 2) == 21
    assert contrast("#767676", "#ffffff") >= TEXT > contrast("#777777", "#ffffff")


def test_colours_have_names() -> None:
    """No rule has a colour of its own, which no scheme would change; a picture to scan is black on white."""
    for name, text in sheets().items():
        rules = re.sub(r":root \{.*?\}", "", text, flags=re.DOTALL)
        assert set(re.findall(r"#[0-9a-f]{3,8}\b", rules)) <= {"#fff"}, name
        assert set(re.findall(r"var\(--([a-z-]+)\)", rules)) <= {
            *colours()["light"],
            "shadow",
            "round",
            "gap",
        }, name

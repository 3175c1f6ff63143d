"""Templates into HTML.

Law: every text is escaped for HTML, and what does not print is spelled out, so that nobody's name or words can dress up as ours.
Only what a macro has made passes as it is.
"""

from __future__ import annotations

import functools
import hashlib
from datetime import UTC, datetime
from importlib import resources

import jinja2
import segno
from markupsafe import Markup, escape

from doctor.console.incidents import plain
from doctor.console.measures import brief, told
from doctor.console.states import describe
from shared.text import readable

STATIC_TYPES = {
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}


def _shown(value: object) -> object:
    return readable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def moment(milliseconds: int, exact: bool = False, axis: str = "") -> Markup:
    """A time since the Unix epoch; the browser shows how long ago it is, or, `exact`, the time in its own zone.

    `axis`: the "hour" or the "day" alone, as it stands below a drawing.

    A number that is no time, as a changed log may have it, is shown as it is.
    """
    try:
        when = datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return escape(f"time {milliseconds}")
    shown = {"hour": "%H:%M UTC", "day": "%Y-%m-%d"}.get(axis, "%Y-%m-%d %H:%M:%S UTC")
    machine, people = when.strftime("%Y-%m-%dT%H:%M:%SZ"), when.strftime(shown)
    kind = axis or ("exact" if exact else "ago")
    return Markup('<time datetime="{}" data-show="{}">{}</time>').format(machine, kind, people)


def lines(text: str) -> Markup:
    """A text of several lines, as paragraphs people have typed."""
    return Markup("<br>").join(escape(readable(line)) for line in text.split("\n"))


def qr(text: str) -> Markup:
    """A text as a QR code: black on white whatever the page's colours, as readers want it."""
    made = segno.make(text, error="l", micro=False)
    return Markup(made.svg_inline(scale=4, border=4, dark="#000", light="#fff", omitsize=True))  # noqa: S704  segno's own


@functools.cache
def static_files() -> dict[str, tuple[bytes, str]]:
    """What is served beside the pages, by name: content and media type. All of it is ours or vendored, and small."""
    folder = resources.files("doctor.console") / "static"
    return {
        each.name: (each.read_bytes(), STATIC_TYPES[suffix])
        for each in folder.iterdir()
        if (suffix := each.name.rpartition(".")[2]) in STATIC_TYPES
    }


def static_url(name: str) -> str:
    """The address of a static file; another content has another address, so that browsers may keep it."""
    content, _ = static_files()[name]
    return f"/static/{name}?v={hashlib.sha256(content).hexdigest()[:12]}"


@functools.cache
def environment() -> jinja2.Environment:
    """All templates. An unknown name in one is a bug and fails."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("doctor.console"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(moment=moment, lines=lines, describe=describe, told=told, brief=brief, plain=plain)
    found.globals.update(static=static_url)
    return found


def render(template: str, **context: object) -> str:
    """One page or a part of one."""
    return environment().get_template(template).render(**context)

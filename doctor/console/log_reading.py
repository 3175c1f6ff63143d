"""A part of the audit log for a page: where it begins, and what is shown where somebody has made it unreadable.

Law: a log that was changed on the disk takes down no page: what cannot be read is told in its place, and the verification says from where on.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from dataclasses import dataclass

from doctor import chronicle
from doctor.audit import Action
from doctor.chronicle import Entry, Found
from doctor.console.desk import HtmlRequest, View
from shared.errors import StorageError


@dataclass(frozen=True, slots=True)
class Reading:
    """What was found; `unreadable`: why that is nothing, "" where it could be read."""

    found: Found
    unreadable: str = ""

    @property
    def entries(self) -> list[Entry]:
        """The entries, newest first."""
        return self.found.entries


def place_in(request: HtmlRequest) -> int | None:
    """The entry before which to look; None: at the newest. What is no number means the same."""
    text = request.query_params.get("before", "")
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


def read(
    view: View, limit: int, before: int | None = None, actions: Collection[Action] = (), subject: str = ""
) -> Reading:
    """As `chronicle.find`."""
    try:
        return Reading(chronicle.find(view.commands.reader, limit, before, actions, subject))
    except (StorageError, sqlite3.Error, UnicodeError) as error:  # pages or bytes that are none
        return Reading(Found([], None, False), str(error))

"""What a FHIR search may ask for: `patient`, `date`, `_count`; search.html of FHIR R4.

Law: a parameter that is not understood is refused, never passed over: an answer to another question could be taken for the right one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from doctor.reports import Times
from shared.errors import UserError

COUNT = 100  # resources in a bundle where nothing else is said
MOST = 1000

# The forms of values, as the description of the API tells them too.
DATE = r"(eq|ge|gt|le|lt)?(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(Z|[+-]\d\d:\d\d))?)?)?"
NAME = r"(?:Patient/)?([a-z0-9][a-z0-9._-]{0,63})"
NUMBER = r"([1-9][0-9]{0,2}|1000)"

_DATE, _NAME, _NUMBER = (re.compile(form, re.ASCII) for form in (DATE, NAME, NUMBER))


class BadSearch(UserError):
    """A parameter that is none, or has no such value; says which."""


@dataclass(frozen=True, slots=True)
class FhirSearch:
    """What is asked for: whose ("": everybody's), of which time, and how many resources at most."""

    patient: str
    times: Times
    count: int


def parse(parameters: Iterable[tuple[str, str]], of_all: bool = False) -> FhirSearch:
    """A search from its query parameters. `of_all`: it need not be about one patient.

    Raises:
        BadSearch: one is missing, given twice, unknown or has no such value.
    """
    given: dict[str, list[str]] = {}
    for name, value in parameters:
        given.setdefault(name, []).append(value)
    for name, values in given.items():
        if name not in ("patient", "date", "_count"):
            raise BadSearch(f"The parameter {name!r} is not supported; patient, date and _count are.")
        if len(values) > 1 and name != "date":
            raise BadSearch(f"The parameter {name} is given twice.")
    if "patient" not in given and not of_all:
        raise BadSearch("The parameter patient is missing: this search is about one patient.")
    whose = _patient(given["patient"][0]) if "patient" in given else ""
    return FhirSearch(whose, _times(given.get("date", [])), _count(given.get("_count")))


def _patient(text: str) -> str:
    found = _NAME.fullmatch(text)
    if found is None:
        raise BadSearch(f"patient={text[:80]!r} names no patient; give its id, or Patient/ and its id.")
    return found[1]


def _count(values: Sequence[str] | None) -> int:
    text = values[0] if values else str(COUNT)
    if not _NUMBER.fullmatch(text):
        raise BadSearch(f"_count={text[:80]!r} is no whole number from 1 to {MOST}.")
    return int(text)


def _times(texts: Sequence[str]) -> Times:
    """The time that all of them leave."""
    start, end = 0, Times().end
    for text in texts:
        found = _DATE.fullmatch(text)
        if found is None:
            raise BadSearch(
                f"date={text[:80]!r} is no date: YYYY, YYYY-MM, YYYY-MM-DD or a time with its zone,"
                " with eq, ge, gt, le or lt before it."
            )
        try:
            first, behind = _span(found)
        except (ValueError, OverflowError) as error:
            raise BadSearch(f"date={text[:80]!r} is no date: {error}.") from error
        prefix = found[1] or "eq"
        if prefix in ("eq", "ge"):
            start = max(start, first)
        if prefix == "gt":
            start = max(start, behind)
        if prefix in ("eq", "le"):
            end = min(end, behind)
        if prefix == "lt":
            end = min(end, first)
    return Times(start, end)


def _span(found: re.Match[str]) -> tuple[int, int]:
    """The milliseconds that a date of this precision means: the first, and the one behind the last."""
    _, year, month, day, hour, minute, second, fraction, zone = found.groups()
    text = f"{year}-{month or '01'}-{day or '01'}T{hour or '00'}:{minute or '00'}:{second or '00'}"
    first = datetime.fromisoformat(text + (zone or "Z")).astimezone(UTC)
    if fraction is not None:
        start = _milliseconds(first) + int(fraction[:3].ljust(3, "0"))
        return start, start + 1
    if hour is not None:
        return _milliseconds(first), _milliseconds(first + timedelta(seconds=60 if second is None else 1))
    if day is not None:
        return _milliseconds(first), _milliseconds(first + timedelta(days=1))
    if month is not None:
        return _milliseconds(first), _milliseconds((first + timedelta(days=32)).replace(day=1))
    return _milliseconds(first), _milliseconds(first.replace(year=first.year + 1))


def _milliseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)

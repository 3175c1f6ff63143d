"""The parameters of a FHIR search: what is refused. What they mean, the tests of the resources show."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest

from doctor.fhir import searches
from doctor.fhir.searches import BadSearch


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("", "patient is missing"),
        ("?patient=", "names no patient"),
        ("?patient=Group/anna", "names no patient"),
        ("?patient=anna&patient=bert", "given twice"),
        ("?patient=anna&code=8867-4", "'code' is not supported"),
        *((f"?patient=anna&_count={count}", "no whole number") for count in ("0", "1001", "x", "-1", "%00")),
        *(
            (f"?patient=anna&date={date}", "is no date")
            for date in (
                "yesterday",
                "2026-13",
                "2026-02-30",
                "0000",
                "9999",
                "ne2026",
                "2026-11-23T12",
                "2026-11-23T12:00",
                "2026-11-23T25:00Z",
                "0001-01-01T00:00%2B14:00",
                "9999-12-31T23:59-14:00",
            )
        ),
    ],
)
def test_a_parameter_that_is_not_understood_is_refused(query: str, reason: str) -> None:
    """And named."""
    with pytest.raises(BadSearch, match=reason):
        searches.parse(parse_qsl(query.removeprefix("?"), keep_blank_values=True))

"""What the commands print about what is stored."""

from __future__ import annotations

import io
import json

import pytest

from patient import listings
from patient.inbox import StoredMessage
from patient.outbox import WrittenReport
from shared.errors import UserError
from shared.wire.messages import BODY_LIMIT, ReportKind, Stream, TargetKind

WAITING = WrittenReport(1, b"\x01" * 16, ReportKind.REPLY, 0, None, b"\x1b[2J[bold]better")
KEPT = WrittenReport(2, b"\x02" * 16, ReportKind.VITALS, 0, 5000, b'{"pulse": 70}')


def test_reports_are_told_with_id_state_and_body(capsys: pytest.CaptureFixture[str]) -> None:
    """The state is never cut off, however long; a body cannot leave its block."""
    listings.show_reports([WAITING, KEPT], as_json=False)

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Report {'01' * 16}: waiting"
    assert "reply · 1970-01-01T00:00:00.000+00:00" in lines[1]
    assert "\\x1b[2J[bold]better" in lines[2]
    assert lines[4] == f"Report {'02' * 16}: kept by the doctor since 1970-01-01T00:00:05.000+00:00"


def test_the_json_of_reports_is_an_interface(capsys: pytest.CaptureFixture[str]) -> None:
    """Other programs read these fields."""
    listings.show_reports([WAITING, KEPT], as_json=True)

    assert json.loads(capsys.readouterr().out)[1] == {
        "id": "02" * 16,
        "kind": "vitals",
        "created": "1970-01-01T00:00:00.000+00:00",
        "state": "kept",
        "kept": "1970-01-01T00:00:05.000+00:00",
        "body": '{"pulse": 70}',
    }


def test_the_json_of_the_inbox_tells_what_is_private(capsys: pytest.CaptureFixture[str]) -> None:
    """And what had expired."""
    mine, ward = Stream(TargetKind.PATIENT, "alice"), Stream(TargetKind.GROUP, "ward")
    messages = [StoredMessage(mine, 1, 0, 0, True, b"x"), StoredMessage(ward, 2, 0, 0, True, None)]

    listings.show_inbox(messages, as_json=True)

    entries = json.loads(capsys.readouterr().out)
    assert [(each["stream"], each["private"], each["expired"]) for each in entries] == [
        ("patient:alice", True, False),
        ("group:ward", False, True),
    ]


def test_no_more_is_read_from_standard_input_than_shows_that_it_is_too_much() -> None:
    """Whatever is piped in."""
    endless = io.StringIO("x" * 10 * BODY_LIMIT)

    assert len(listings.text_of("-", endless)) == BODY_LIMIT + 1
    assert endless.tell() == BODY_LIMIT + 1


def test_what_is_no_text_is_refused() -> None:
    """Bytes of another encoding, as an argument or from standard input."""
    latin = io.TextIOWrapper(io.BytesIO(b"caf\xe9"), encoding="utf-8")

    for argument in ("-", "caf\udce9"):
        with pytest.raises(UserError, match="not UTF-8"):
            listings.text_of(argument, latin)

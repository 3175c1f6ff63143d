"""What the commands print about what is stored."""

from __future__ import annotations

import io
import json

import pytest

from patient import listings
from patient.outbox import WrittenReport
from patient.stored import StoredMessage
from shared.errors import UserError
from shared.wire.messages import BODY_LIMIT, ReportKind, Stream, TargetKind

WAITING = WrittenReport(1, b"\x01" * 16, ReportKind.REPLY, 0, None, b"\x1b[2J[bold]better")
KEPT = WrittenReport(2, b"\x02" * 16, ReportKind.VITALS, 0, 5000, b'{"pulse": 70}')


def test_reports_are_told_with_id_state_and_body(capsys: pytest.CaptureFixture[str]) -> None:
    """The state is never cut off, however long; a body cannot leave its block."""
    listings.show_reports([WAITING, KEPT], as_json=False)

    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"Report {'01' * 16}: waiting"
    assert "reply · 1970-01-01 00:00:00 UTC" in lines[1]
    assert "\\x1b[2J[bold]better" in lines[2]
    assert lines[4] == f"Report {'02' * 16}: kept by the doctor since 1970-01-01 00:00:05 UTC"


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


def test_a_person_sees_when_to_whom_and_whether_the_doctor_has_the_receipt(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Each message as a block that wraps, with the id that a reply takes; what had expired is not shown."""
    ward, mine = Stream(TargetKind.GROUP, "ward"), Stream(TargetKind.PATIENT, "alice")
    messages = [
        StoredMessage(ward, 1, 0, 9, False, b"take two " * 20, True),
        StoredMessage(mine, 2, 1000, 9, True, b"\x1b[2J[bold]x"),
        StoredMessage(ward, 3, 0, 9, False, None, True),
    ]

    listings.show_inbox(messages, as_json=False)

    lines = capsys.readouterr().out.splitlines()
    assert "╭─ group:ward · 1970-01-01 00:00:00 UTC ─" in lines[0]
    assert max(map(len, lines)) <= 80
    assert sum(line.count("take") for line in lines) == 20
    assert "  ward.1 · the doctor has the receipt" in lines
    assert any("patient:alice · 1970-01-01 00:00:01 UTC · for this patient alone" in line for line in lines)
    assert any("\\x1b[2J[bold]x" in line for line in lines)
    assert lines[-1] == "  patient:alice.2 · the doctor has not confirmed the receipt yet"


def test_a_reply_is_to_the_newest_message_or_to_the_one_that_is_named() -> None:
    """An expired one was never shown, and is answered only by name; one that is not here is refused."""
    ward = Stream(TargetKind.GROUP, "ward")
    shown, expired = StoredMessage(ward, 1, 0, 9, False, b"x"), StoredMessage(ward, 2, 0, 9, False, None)

    assert listings.answered([shown, expired], None) is shown
    assert listings.answered([shown, expired], "ward.2") is expired
    for name, words in (
        ("ward.3", "no message ward.3"),
        ("patient:ward.1", "no message"),
        ("x", "not a message id"),
    ):
        with pytest.raises(UserError, match=words):
            listings.answered([shown, expired], name)
    with pytest.raises(UserError, match="no message to reply to yet"):
        listings.answered([expired], None)


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

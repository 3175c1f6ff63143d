"""Notices are one JSON object a line for programs, and readable blocks for people."""

from __future__ import annotations

import contextlib
import io
import json
import os

import pytest
from rich.console import Console

from patient.notices import (
    Blocks,
    Disconnected,
    Enrolled,
    Epoch,
    Established,
    Handshake,
    Message,
    Notice,
    Refused,
    ReportKept,
    SettingIgnored,
    Waiting,
    json_lines,
    message_notice,
)
from patient.stored import StoredMessage
from shared.wire.messages import Stream, TargetKind

MESSAGE = Message("group:everyone", 7, "2027-01-15", "2027-01-15", "take two", False, False)


def as_json(notice: Notice) -> dict[str, object]:
    """The line that a notice becomes."""
    out = io.StringIO()
    json_lines(out)(notice)
    found: dict[str, object] = json.loads(out.getvalue())
    return found


def as_text(*notices: Notice) -> str:
    """What a person reads, without colours."""
    out = io.StringIO()
    blocks = Blocks(Console(file=out, width=60))
    for notice in notices:
        blocks(notice)
    return out.getvalue()


@pytest.mark.parametrize(
    ("notice", "expected"),
    [
        (
            Handshake("sent", "KEY_EXCHANGE", 10, 1296, ("V-020",)),
            {
                "event": "handshake",
                "direction": "sent",
                "message": "KEY_EXCHANGE",
                "opcode": 10,
                "size": 1296,
                "checks": ["V-020"],
            },
        ),
        (Epoch("everyone", 3), {"event": "epoch", "group": "everyone", "epoch": 3}),
        (
            Refused("revoked", "Gone.", True),
            {"event": "refused", "code": "revoked", "sentence": "Gone.", "final": True},
        ),
        (Disconnected("cut", "Cut."), {"event": "disconnected", "reason": "cut", "sentence": "Cut."}),
        (ReportKept("ab" * 16), {"event": "report-kept", "report": "ab" * 16}),
        (
            SettingIgnored("suite", "No."),
            {"event": "setting-ignored", "setting": "suite", "sentence": "No."},
        ),
    ],
)
def test_the_json_is_an_interface(notice: Notice, expected: dict[str, object]) -> None:
    """Other programs read these fields."""
    assert as_json(notice) == expected


def test_a_message_is_one_line_whatever_its_body() -> None:
    """Line breaks in a body are escaped by JSON."""
    out = io.StringIO()
    stored = StoredMessage(Stream(TargetKind.GROUP, "ward"), 9, 0, 1, True, b"two\nlines \xff")

    json_lines(out)(message_notice(stored))

    assert out.getvalue().count("\n") == 1
    line = json.loads(out.getvalue())
    assert (line["event"], line["stream"], line["number"]) == ("message", "group:ward", 9)
    assert (line["body"], line["direct"]) == ("two\nlines \\xff", True)


def test_each_message_is_a_block_of_its_own() -> None:
    """Stream, time and body in a frame."""
    shown = as_text(MESSAGE, MESSAGE)

    assert shown.count("take two") == 2
    assert shown.count("╭─ group:everyone · 2027-01-15 ") == 2


def test_a_body_cannot_leave_its_block() -> None:
    """Control characters are escaped, markup is text."""
    shown = as_text(Message("group:everyone", 7, "now", "now", "\x1b[2J[bold]x", False, False))

    assert "\\x1b[2J[bold]x" in shown
    assert "\x1b" not in shown


@pytest.mark.parametrize(
    ("stream", "direct", "title"),
    [
        ("group:everyone", False, "group:everyone · now ─"),
        ("group:everyone", True, "group:everyone · now · missed at first ─"),
        ("patient:alice", True, "patient:alice · now · for this patient alone ─"),
    ],
)
def test_a_person_can_tell_what_is_private(stream: str, direct: bool, title: str) -> None:
    """A broadcast that was missed comes in a frame of this device's own as well, and is for everyone all the same."""
    private = stream.startswith("patient:")

    assert title in as_text(Message(stream, 7, "now", "now", "take two of them at noon", direct, private))


def test_a_program_can_tell_what_is_private() -> None:
    """By the stream that the doctor signed, not by the frame in which it came."""
    streams = [Stream(TargetKind.GROUP, "ward"), Stream(TargetKind.PATIENT, "alice")]

    stored = [StoredMessage(stream, 9, 0, 1, True, b"x") for stream in streams]

    assert [as_json(message_notice(each))["private"] for each in stored] == [False, True]


def test_a_sentence_is_said_once_while_nothing_changes() -> None:
    """An hour without a doctor is one line, not a hundred; a new state says the next one again."""
    refused = Refused("unreachable", "Nobody there.", False)
    established = Established("alice", "doctor", "elgamal-p256", "h:1")

    shown = as_text(
        refused,
        refused,
        established,
        Waiting("Wait."),
        Disconnected("cut", "Cut."),
        refused,
        ReportKept("ab" * 16),
        SettingIgnored("suite", "No."),
    )

    assert shown.splitlines() == [
        "Nobody there.",
        "Connected to doctor doctor as alice (elgamal-p256).",
        "Wait.",
        "Cut.",
        "Nobody there.",
        f"The doctor has report {'ab' * 16}.",
        "No.",
    ]


def test_steps_of_the_protocol_are_not_shown_to_people() -> None:
    """They are for `--json`."""
    assert as_text(Handshake("sent", "KEY_EXCHANGE", 10, 1, ()), Epoch("everyone", 1)) == ""


def test_an_enrolment_tells_who_and_what_next() -> None:
    """Fingerprints to compare, and the next command."""
    shown = as_text(Enrolled("alice", "doctor", ("a" * 32, "b" * 32)))

    assert "this device is alice" in shown
    assert "a" * 32 in shown
    assert "b" * 32 in shown
    assert shown.endswith("telemed-patient run alice\n")


def test_a_notice_that_cannot_be_written_does_not_stop_the_device(capfd: pytest.CaptureFixture[str]) -> None:
    """Standard output goes into a file on a full disk: the device must live on, to heal when the disk does."""
    full = open("/dev/full", "w", buffering=1)  # noqa: SIM115  to close it is to fail again
    json_lines(full)(MESSAGE)
    Blocks(Console(file=full))(MESSAGE)
    with contextlib.suppress(OSError):
        full.close()

    assert capfd.readouterr().err.count("No space left on device") == 2


def test_a_reader_that_goes_away_does_not_stop_the_device() -> None:
    """The pipe breaks; later notices go nowhere, without an error at the end either."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as out:
        tell = json_lines(out)

        tell(MESSAGE)
        tell(MESSAGE)

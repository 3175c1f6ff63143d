"""Logs: what an event may carry, and that nobody else's text can forge one."""

from __future__ import annotations

import enum
import json
import logging
import re
from collections.abc import Iterator

import pytest
import structlog

from shared.config import LogFormat
from shared.crypto.secret import Secret
from shared.errors import LocalError
from shared.logs import FIELDS, Logger, configure, get_logger, plain


class Alert(enum.IntEnum):
    """A code as the wire has them."""

    BAD_SEAL = 3


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Each test configures for itself and leaves nothing behind."""
    root = logging.getLogger()
    handlers, level, threshold = root.handlers[:], root.level, Logger.threshold
    root.handlers[:] = []
    yield
    structlog.reset_defaults()
    Logger.threshold = threshold
    root.handlers[:] = handlers
    root.setLevel(level)


def events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    """What was logged as JSON, without the times; nothing went to standard output."""
    captured = capsys.readouterr()
    assert captured.out == ""
    found = [json.loads(line) for line in captured.err.splitlines()]
    for event in found:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", event.pop("timestamp"))
    return found


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_log_that_cannot_be_written_stops_nothing(
    log_format: LogFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes to a full disk, say: whoever wanted to say so has other things to do as well."""
    full = open("/dev/full", "w")  # noqa: SIM115  to close it is to fail again
    monkeypatch.setattr("sys.stderr", full)
    configure("debug", log_format)
    logger = get_logger("device")

    for say in (logger.debug, logger.info, logger.warning, logger.error):
        say("message not stored", cause="disk full")

    monkeypatch.undo()
    with pytest.raises(OSError, match="No space left"):
        full.close()


def test_an_event_is_one_json_object_with_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    """Enums show their names, also those that are integers."""
    configure("info", "json")
    get_logger("gateway").info(
        "refused", patient="p-1", alert=Alert.BAD_SEAL, seconds=0.5, count=3, group=None
    )

    assert events(capsys) == [
        {
            "component": "gateway",
            "event": "refused",
            "level": "info",
            "patient": "p-1",
            "alert": "bad_seal",
            "seconds": 0.5,
            "count": 3,
            "group": None,
        }
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("password", "hunter2"),
        ("body", "hunter2"),
        ("patient", b"hunter2"),
        ("patient", Secret(b"hunter2")),
        ("patient", ["hunter2"]),
        ("patient", {"a": "hunter2"}),
        ("patient", ValueError("hunter2")),
    ],
)
@pytest.mark.parametrize("log_format", ["json", "console"])
def test_what_is_not_allowed_is_dropped_by_name(
    capsys: pytest.CaptureFixture[str], field: str, value: object, log_format: LogFormat
) -> None:
    """The event itself is kept; the name of what was lost is in it, the value is not."""
    configure("info", log_format)
    get_logger("gateway").info("refused", **{field: value})
    written = capsys.readouterr().err

    assert "refused" in written
    assert field in written
    assert "dropped" in written
    assert "hunter2" not in written
    assert repr(value) not in written


@pytest.mark.parametrize(("field", "value"), [("password", "hunter2"), ("patient", b"hunter2")])
def test_in_tests_what_is_not_allowed_is_an_error(field: str, value: object) -> None:
    """So that a missing field is found before it is missed."""
    configure("info", "json", strict=True)

    with pytest.raises(LocalError, match=f"not allowed: {field}$") as refused:
        get_logger("gateway").info("refused", **{field: value})

    assert "hunter2" not in str(refused.value)


def test_an_event_that_is_no_text_is_dropped_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Otherwise the event would be the way around the list."""
    configure("info", "json")
    get_logger("gateway").info(b"hunter2")  # type: ignore[arg-type]

    assert events(capsys) == [
        {"component": "gateway", "event": "(not a text)", "level": "info", "dropped": "event"}
    ]


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_peers_text_starts_no_line_and_sends_no_escape_sequence(
    capsys: pytest.CaptureFixture[str], log_format: LogFormat
) -> None:
    """Line ends of every kind, terminal controls and changes of direction are shown, not obeyed."""
    hostile = "x\n2026-11-23 [info] forged\r\x1b[2J\x9b31m\u2028\u202e"
    configure("info", log_format)
    get_logger("gateway").info("refused", cause=hostile)
    written = capsys.readouterr().err

    assert len(written.splitlines()) == 1
    assert not set(written.rstrip("\n")) & set("\n\r\x1b\x9b\u2028\u202e")
    assert "u202e" in written


def test_a_long_text_is_cut() -> None:
    """A peer cannot fill the disk with one field; ordinary text, umlauts included, is left alone."""
    assert plain("ä" * 600) == "ä" * 500 + "…"
    assert plain("Größe 5 µg – ok") == "Größe 5 µg – ok"


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_is_written_and_cannot_pass_for_an_event(
    capsys: pytest.CaptureFixture[str], log_format: LogFormat
) -> None:
    """Each of its lines stands behind a bar, those of the exception's message too."""
    configure("info", log_format)
    try:
        raise ValueError("first\n2026-11-23 [info] forged\x1b[2J")
    except ValueError:
        get_logger("gateway").exception("failed")
    written = capsys.readouterr().err
    text = json.loads(written)["exception"] if log_format == "json" else written.partition("\n")[2].rstrip()

    assert all(line.startswith("  | ") for line in text.splitlines())
    assert "  | ValueError: first\n  | 2026-11-23 [info] forged\\x1b[2J" in text


def test_what_is_below_the_level_is_not_written(capsys: pytest.CaptureFixture[str]) -> None:
    """Configured anew, the same logger follows."""
    logger = get_logger("gateway")
    configure("warning", "json")
    logger.info("one")
    logger.warning("two")
    configure("debug", "json")
    logger.debug("three")

    assert [event["event"] for event in events(capsys)] == ["two", "three"]


def test_other_libraries_log_in_the_same_form_from_warning_on(capsys: pytest.CaptureFixture[str]) -> None:
    """asyncio's complaints must not get lost; its chatter may, even at debug."""
    configure("debug", "json")
    logging.getLogger("asyncio").info("chatter")
    logging.getLogger("asyncio").warning(
        "%s was never retrieved\nforged", "exception", extra={"password": "x"}
    )

    assert events(capsys) == [
        {"component": "asyncio", "event": "exception was never retrieved\\nforged", "level": "warning"}
    ]


def test_the_console_form_is_for_people_and_without_colours_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line with the event and its fields."""
    configure("info", "console")
    get_logger("gateway").info("established", patient="p-1", epoch=3)
    written = capsys.readouterr().err

    assert re.search(r"Z \[info +\] established +component=gateway epoch=3 patient=p-1\n$", written)


def test_the_console_form_is_coloured_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The colours are ours; a peer's are escaped (above)."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    configure("info", "console")
    get_logger("gateway").info("established")

    assert "\x1b[" in capsys.readouterr().err


def test_no_field_is_named_after_a_secret_or_a_body() -> None:
    """A reviewer's rule, kept by a machine."""
    forbidden = {"key", "secret", "token", "password", "body", "plaintext", "payload", "seed", "nonce", "mac"}

    assert not {field for field in FIELDS if forbidden & set(field.split("_"))}

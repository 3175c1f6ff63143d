"""What a running device tells whoever started it: readable blocks for a person, or one JSON object a line.

Law: the only place that writes to standard output while a device runs. The structs are the JSON: their field names are
an interface. A reader that goes away does not stop the device, whose messages are in its inbox.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, TypeAlias

import msgspec
from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.text import Text

from patient.stored import StoredMessage
from patient.text import decoded, moment
from shared.logs import get_logger
from shared.text import readable
from shared.wire.messages import TargetKind

_log = get_logger("notices")


class Notice(msgspec.Struct, frozen=True, tag_field="event"):
    """Base of all notices."""


class Handshake(Notice, frozen=True, tag="handshake"):
    """A handshake message went out or was accepted; `checks` are the numbers of the checks it passed."""

    direction: str
    message: str
    opcode: int
    size: int
    checks: tuple[str, ...]


class Established(Notice, frozen=True, tag="established"):
    """The doctor's first record has come."""

    patient: str
    doctor: str
    suite: str
    address: str


class Epoch(Notice, frozen=True, tag="epoch"):
    """A group's new key has come."""

    group: str
    epoch: int


class Message(Notice, frozen=True, tag="message"):
    """A message has been stored for the first time.

    `private`: it is for this patient alone. `direct`: it came in a frame of this device's own, as private messages and missed
    broadcasts do.
    """

    stream: str
    number: int
    created: str
    received: str
    body: str
    direct: bool
    private: bool


class ReportKept(Notice, frozen=True, tag="report-kept"):
    """The doctor has a report; `report` is its id."""

    report: str


class Refused(Notice, frozen=True, tag="refused"):
    """An attempt failed; `final`: there will be no other."""

    code: str
    sentence: str
    final: bool


class Disconnected(Notice, frozen=True, tag="disconnected"):
    """An established session has ended."""

    reason: str
    sentence: str


class SettingIgnored(Notice, frozen=True, tag="setting-ignored"):
    """A setting does not fit this device, which does something else instead."""

    setting: str
    sentence: str


class Waiting(Notice, frozen=True, tag="waiting"):
    """The device cannot begin yet."""

    sentence: str


class Enrolled(Notice, frozen=True, tag="enrolled"):
    """The doctor has admitted this device."""

    patient: str
    doctor: str
    fingerprints: tuple[str, ...]


class KeysRotated(Notice, frozen=True, tag="keys-rotated"):
    """The doctor has proved that it has new keys, and this device has pinned them."""

    doctor: str
    sequence: int
    fingerprints: tuple[str, ...]


Tell: TypeAlias = Callable[[Notice], None]
"""Where notices go."""


def message_notice(stored: StoredMessage) -> Message:
    """The notice of a message that has not expired."""
    return Message(
        stream=str(stored.stream),
        number=stored.number,
        created=moment(stored.created),
        received=moment(stored.received),
        body=decoded(stored.body or b""),
        direct=stored.direct,
        private=stored.stream.kind is TargetKind.PATIENT,
    )


def json_lines(out: IO[str]) -> Tell:
    """Write each notice to `out` as one line of JSON."""

    def tell(notice: Notice) -> None:
        with _unhindered(out):
            out.write(msgspec.json.encode(notice).decode() + "\n")

    return tell


class Blocks:
    """Write notices for a person. A sentence is not repeated while nothing changes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last = ""

    def __call__(self, notice: Notice) -> None:
        """Show one notice."""
        if isinstance(notice, Message):
            self._show(message_block(notice))
        elif isinstance(notice, Refused | Waiting | Disconnected | SettingIgnored):
            self._say(notice.sentence, "red" if isinstance(notice, Refused) else "yellow")
        elif isinstance(notice, Established):
            self._say(f"Connected to doctor {notice.doctor} as {notice.patient} ({notice.suite}).", "green")
        elif isinstance(notice, ReportKept):
            self._say(f"The doctor has report {notice.report}.", "green")
        elif isinstance(notice, Enrolled):
            self._show(_enrolled_text(notice))
        elif isinstance(notice, KeysRotated):
            names = ", ".join(notice.fingerprints)
            self._say(f"The doctor {notice.doctor} has new keys: {names}.", "green")

    def _say(self, sentence: str, style: str) -> None:
        if sentence != self._last:
            self._last = sentence
            self._show(Text(readable(sentence), style))

    def _show(self, what: RenderableType) -> None:
        with _unhindered(self._console.file) as out:
            with self._console.capture() as captured:
                # Lines of text are the terminal's to wrap.
                self._console.print(what, soft_wrap=isinstance(what, Text))
            out.write(captured.get())


def message_block(notice: Message) -> Panel:
    """One message as a block of its own."""
    return text_block(f"{notice.stream} · {notice.created}{way(notice.private, notice.direct)}", notice.body)


def way(private: bool, direct: bool) -> str:
    """How a message came, where there is something to say about it."""
    # What was missed comes in a frame of this device's own as well; everybody else had it as a broadcast.
    return " · for this patient alone" if private else " · missed at first" if direct else ""


def text_block(title: str, text: str) -> Panel:
    """A text in a frame; whatever is in it stays in it."""
    shown = Text(readable(title), "bold")
    return Panel(Text(readable(text)), title=shown, title_align="left", expand=False)


def _enrolled_text(notice: Enrolled) -> Text:
    lines = [
        f"Enrolled: this device is {notice.patient}, its doctor is {notice.doctor}.",
        *(f"Doctor's key fingerprint: {each}" for each in notice.fingerprints),
        f"Next: telemed-patient run {notice.patient}",
    ]
    return Text(readable("\n".join(lines)))


@contextmanager
def _unhindered(out: IO[str]) -> Iterator[IO[str]]:
    """Write to `out`; what stands in the way of that stops nobody."""
    try:
        yield out
        out.flush()
    except BrokenPipeError:
        # Whoever read is gone. What is still buffered must go somewhere, or the interpreter fails over it at exit.
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, out.fileno())
        os.close(silence)
    except OSError as error:
        # It goes into a file on a full disk, say. A device that stopped for that would not heal when the disk does.
        _log.warning("notice not written", cause=error.strerror)

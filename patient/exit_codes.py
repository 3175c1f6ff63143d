"""The numbers that `telemed-patient` ends with, and what each means to whoever started it.

Law: the only place that says what an exit code means. `--help` prints this table.
"""

from __future__ import annotations

from enum import IntEnum

from shared.errors import UserError


class ExitCode(IntEnum):
    """Exit codes of every command; `meaning` is one sentence for a person."""

    meaning: str

    def __new__(cls, number: int, meaning: str) -> ExitCode:
        """Give the number its sentence."""
        member = int.__new__(cls, number)
        member._value_ = number
        member.meaning = meaning
        return member

    OK = 0, "it did as asked, was told to stop, or was retired by the doctor"
    UNEXPECTED = 1, "something unexpected; the last line says what"
    USAGE = 2, "a setting or an argument is wrong"
    INVITATION = 3, "the invitation is expired, used up, refused or unreadable"
    WRONG_DOCTOR = 4, "whoever answered does not hold the key that this device pinned"
    CLOCK = 5, "this device's clock and the doctor's are too far apart"
    SUITE = 6, "the doctor does not allow the suite that this device asks for"
    REVOKED = 7, "the doctor has revoked this device"
    NOT_ENROLLED = 8, "no doctor knows this device; enrol it first"
    UNREACHABLE = 9, "the doctor cannot be reached or is not ready"
    STORAGE = 10, "this device cannot store or read its data; the last line says more"


class Refusal(UserError):
    """A UserError that has an exit code of its own.

    Args:
        code: what the program ends with.
        sentence: what is wrong and what to do.
    """

    def __init__(self, code: ExitCode, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code

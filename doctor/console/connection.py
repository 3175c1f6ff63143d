"""For how many browsers the console has room at once."""

from __future__ import annotations

from typing import ClassVar

from doctor.answering import PortConnection

ANSWERED = 256  # connections at once; one more is told to come later


class ConsoleConnection(PortConnection):
    """One browser's connection."""

    most: ClassVar[int] = 320

"""A text that stands in every body of a trial must be found nowhere else in clear: not on the wire, not on a disk, not in a log."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

Places = Iterable[tuple[str, bytes]]


def forms(canary: bytes) -> dict[str, bytes]:
    """The encodings in which it would be recognised: as it is, in hexadecimal digits, and in base64 at each of three offsets."""
    found = {"in clear": canary, "in hexadecimal": canary.hex().encode()}
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + canary)
        # The first digits depend on what stands in front, the last ones on what follows.
        found[f"in base64 ({offset})"] = encoded[(0, 2, 3)[offset] : len(canary) * 4 // 3 - 3]
    return found


def finder(canary: bytes) -> Callable[[Places], list[str]]:
    """A search for one canary: a sentence for each place and form in which it was found."""
    wanted = forms(canary)

    def find(places: Places) -> list[str]:
        return [
            f"A body stands {form} in {name}."
            for name, content in places
            for form, pattern in wanted.items()
            if pattern in content
        ]

    return find


def files_below(*directories: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below these directories, with its content."""
    for directory in directories:
        for path in sorted(directory.rglob("*")):
            if path.is_file():
                yield str(path), path.read_bytes()

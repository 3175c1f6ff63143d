"""Looks for every secret in every place, in every form that it may be written in.

Law: a search that found nothing proves something only where it would have found a canary; it says itself where it would not.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lab.faults.canaries import forms

SHORTEST = 16  # bytes; fewer are found by chance
KEY_FILES = re.compile(r"/(keys/|api/|identity\.json$|.*\.invitation$)")


@dataclass(slots=True)
class Search:
    """Secrets by name, and places by name with what was found in them to read.

    Args:
        secrets: each of SHORTEST bytes or more.
        places: kind of place, name and content.
    """

    secrets: dict[str, bytes] = field(default_factory=dict)
    places: list[tuple[str, str, bytes]] = field(default_factory=list)

    def add(self, name: str, secret: bytes) -> None:
        """One more secret."""
        if len(secret) < SHORTEST:
            raise ValueError(f"{name} is too short to be looked for")
        self.secrets[name] = secret

    def look(self, kind: str, name: str, content: bytes) -> None:
        """One more place."""
        self.places.append((kind, name, content))

    def hits(self) -> list[str]:
        """A sentence for each secret in each place."""
        return [
            f"{secret} stands {form} in {name} ({kind})"
            for secret, content in self.secrets.items()
            for form, pattern in forms(content).items()
            for kind, name, place in self.places
            if pattern in place
        ]

    def blind_kinds(self) -> list[str]:
        """The kinds of places in which a canary that is planted now is not found: there the search proves nothing."""
        canary = secrets.token_bytes(24)
        blind = []
        for kind in sorted({kind for kind, _, _ in self.places}):
            planted = Search({"the canary": canary})
            for number, form in enumerate(forms(canary).values()):
                content = next(content for each, _, content in self.places if each == kind)
                middle = len(content) // 2
                planted.look(kind, str(number), content[:middle] + form + content[middle:])
            if len({hit.rpartition(" in ")[2] for hit in planted.hits()}) < len(forms(canary)):
                blind.append(kind)
        return blind


def files_to_search(directory: Path) -> Iterator[Path]:
    """Every file but those that are there to hold keys."""
    for path in sorted(directory.rglob("*")):
        if path.is_file() and not KEY_FILES.search(str(path)):
            yield path

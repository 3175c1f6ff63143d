"""Secret bytes: where they come from, and a wrapper that keeps them out of logs, messages and reprs.

Law of this module: the content leaves only through `reveal()`, so that every use of a secret can be found by searching
for that word. It does not promise erasure: CPython copies bytes freely and frees them without overwriting.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import NoReturn, TypeAlias

Random: TypeAlias = Callable[[int], bytes]
"""Entropy as an argument: called with a number of bytes, returns as many unpredictable ones (`os.urandom` in programs)."""


class Secret:
    """Secret bytes without a readable repr, without a hash and without a pickle."""

    __slots__ = ("_content",)

    def __init__(self, content: bytes) -> None:
        self._content = content

    def reveal(self) -> bytes:
        """Return the content; the caller answers for where it goes."""
        return self._content

    def __len__(self) -> int:
        return len(self._content)

    def __repr__(self) -> str:
        return f"Secret({len(self._content)} bytes)"

    def __eq__(self, other: object) -> bool:
        # Equality with plain bytes is refused: it would invite a comparison that leaks where two values differ.
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._content, other._content)

    # A hash is a function of the content and would turn up in sets and dicts that are printed.
    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is neither pickled nor copied; call reveal() where the bytes are needed")

"""Operators' passwords: made, hashed with Argon2id, verified on another thread, one at a time.

Law: one hash takes a quarter of a second and 64 MiB; whoever asks for many at once waits in a short queue or is sent away, and the
event loop never computes one.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from shared.errors import UserError

SHORTEST, LONGEST = 12, 256  # characters
QUEUE = 8  # who may wait for a turn

_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # none that look alike


class Busy(UserError):
    """Too many are logging in at this moment."""

    def __init__(self) -> None:
        super().__init__("Too many people are logging in at this moment. Try again in a few seconds.")


@dataclass(frozen=True, slots=True)
class Cost:
    """What a hash costs: RFC 9106's second recommendation, on one thread. `memory` in KiB."""

    memory: int = 64 * 1024
    iterations: int = 3


def generate() -> str:
    """A password nobody has to think of: 98 bits, in groups that can be read out."""
    return "-".join("".join(secrets.choice(_LETTERS) for _ in range(5)) for _ in range(4))


def require_good(password: str) -> None:
    """Raises UserError where a password is too short or too long; says what is asked for."""
    if not SHORTEST <= len(password) <= LONGEST:
        raise UserError(
            f"Use {SHORTEST} to {LONGEST} characters; several words that do not belong together are good."
        )


class Hasher:
    """Hashes and verifies, one at a time.

    Args:
        cost: of new hashes.
    """

    def __init__(self, cost: Cost | None = None) -> None:
        self._cost = cost or Cost()
        self._turn = asyncio.Semaphore(1)
        self._waiting = 0
        self._nobody: str | None = None

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for one's turn.

        Raises:
            Busy: too many wait.
        """
        if self._waiting >= QUEUE:
            raise Busy
        self._waiting += 1
        try:
            async with self._turn:
                yield
        finally:
            self._waiting -= 1

    async def hash(self, password: str) -> str:
        """The hash of a password, in PHC format, with its salt and cost."""
        return await asyncio.to_thread(self._hash, password)

    async def verify(self, password: str, expected: str | None) -> bool:
        """Whether it is the password of this hash; None, where there is no such account, takes as long. Inside a turn."""
        if expected is None:
            if self._nobody is None:
                self._nobody = await self.hash(secrets.token_urlsafe())
            expected, known = self._nobody, False
        else:
            known = True
        return await asyncio.to_thread(_matches, password, expected) and known

    def _hash(self, password: str) -> str:
        cost = self._cost
        kdf = Argon2id(
            salt=os.urandom(16), length=32, iterations=cost.iterations, lanes=1, memory_cost=cost.memory
        )
        return kdf.derive_phc_encoded(password.encode())


def _matches(password: str, expected: str) -> bool:
    try:
        Argon2id.verify_phc_encoded(password.encode(), expected)
    except (InvalidKey, ValueError):  # wrong, or no hash at all
        return False
    return True

"""Who is logged in: in memory alone, so that nothing of it outlives the doctor.

Law: a token is known here by its hash. A login ends by itself when nothing was asked for some time, whatever a page that is
left open asks for in the background.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from shared.protocol.clock import SECOND

IDLE = 15 * 60 * SECOND
LONGEST = 12 * 3600 * SECOND
LIMIT = 256
LIMIT_EACH = 16


@dataclass(slots=True)
class Login:
    """One operator at one browser.

    Attributes:
        operator: the account's name.
        version: the account's, when this began; another one ends it.
        csrf: what each form of this login bears.
        began, seen: when, in milliseconds of a clock that only goes forward; `seen`: the last that a person asked for.
        streams: how many pages of it watch.
    """

    operator: str
    version: int
    csrf: str
    began: int
    seen: int
    streams: int = 0


class Logins:
    """All logins.

    Args:
        now: a clock that only goes forward, in milliseconds.
    """

    def __init__(self, now: Callable[[], int]) -> None:
        self._now = now
        self._logins: dict[bytes, Login] = {}

    def begin(self, operator: str, version: int) -> str:
        """Log in: a fresh token. Where there are too many, the one that was not used the longest time ends."""
        self._drop_ended()
        own = [key for key, login in self._logins.items() if login.operator == operator]
        for keys, limit in ((own, LIMIT_EACH), (list(self._logins), LIMIT)):
            if len(keys) >= limit:
                del self._logins[min(keys, key=lambda key: self._logins[key].seen)]
        token, now = secrets.token_urlsafe(32), self._now()
        self._logins[_digest(token)] = Login(operator, version, secrets.token_urlsafe(32), now, now)
        return token

    def find(self, token: str, by_person: bool) -> Login | None:
        """The login of a token; `by_person` False: what a page does by itself does not keep it alive."""
        login = self._logins.get(_digest(token))
        if login is None or self.ended(login):
            return None
        if by_person:
            login.seen = self._now()
        return login

    def ended(self, login: Login) -> bool:
        """Whether its time is over, or somebody has ended it."""
        now = self._now()
        over = now - login.seen >= IDLE or now - login.began >= LONGEST
        return over or not any(login is each for each in self._logins.values())

    def streams_of(self, operator: str) -> int:
        """How many pages of an operator watch, at whatever browsers."""
        return sum(login.streams for login in self._logins.values() if login.operator == operator)

    def end(self, token: str) -> None:
        """Log out."""
        self._logins.pop(_digest(token), None)

    def end_all(self, operator: str) -> None:
        """End every login of an operator."""
        for key in [key for key, login in self._logins.items() if login.operator == operator]:
            del self._logins[key]

    def _drop_ended(self) -> None:
        for key in [key for key, login in self._logins.items() if self.ended(login)]:
            del self._logins[key]


class Visitors:
    """Ties a login form to the browser that asked for it, without remembering anything of strangers."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def greet(self) -> str:
        """A visitor's cookie."""
        return secrets.token_urlsafe(16)

    def form_token(self, visitor: str) -> str:
        """What the login form bears for this visitor."""
        return hmac.new(self._key, visitor.encode(), hashlib.sha256).hexdigest()


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()

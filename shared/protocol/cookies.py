"""Cookies: under load, who asks for a handshake must first show that it receives what is sent to its address.

A cookie is `time (8) ‖ HMAC(key, address, time, KEY_EXCHANGE without its cookie)` and the doctor keeps nothing for it: checking one
costs a MAC, or two around a change of keys. The address is without its port, since a client's next connection has another. The
key changes every minute; the one before is still good. Within its ten seconds a cookie holds as often as it is shown: it
proves an address, and is no ticket for one handshake.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from shared.crypto import kdf
from shared.crypto.kdf import Label
from shared.errors import InvalidSignature
from shared.protocol.clock import SECOND, Instant
from shared.wire import messages
from shared.wire.messages import KeyExchange

LIFETIME = 10 * SECOND
KEY_LIFETIME = 60 * SECOND
TIME_SIZE = 8


class CookieJar:
    """Bakes and judges cookies.

    Args:
        random: entropy.
        demanded: whether the doctor is under load now.
    """

    def __init__(self, random: Callable[[int], bytes], demanded: Callable[[], bool]) -> None:
        self._random = random
        self._demanded = demanded
        self._keys = [random(32)]
        self._renewed: int | None = None

    def admits(self, message: KeyExchange, address: str, now: Instant) -> bool:
        """Whether this KEY_EXCHANGE may cost an asymmetric operation: no load, or a cookie that holds."""
        return not self._demanded() or self._holds(message, address, now)

    def bake(self, message: KeyExchange, address: str, now: Instant) -> bytes:
        """The 40-byte cookie for just this message from this address."""
        self._renew(now)
        time = now.elapsed.to_bytes(TIME_SIZE, "big")
        return time + kdf.mac(Label.COOKIE_MAC, self._keys[0], *_covered(message, address, time))

    def _holds(self, message: KeyExchange, address: str, now: Instant) -> bool:
        self._renew(now)
        time, tag = message.cookie[:TIME_SIZE], message.cookie[TIME_SIZE:]
        age = now.elapsed - int.from_bytes(time, "big")
        if not 0 <= age <= LIFETIME:
            return False
        return any(_matches(key, tag, _covered(message, address, time)) for key in self._keys)

    def _renew(self, now: Instant) -> None:
        if self._renewed is None:
            self._renewed = now.elapsed
        elif now.elapsed - self._renewed >= KEY_LIFETIME:
            self._keys = [self._random(32), self._keys[0]]
            self._renewed = now.elapsed


def _covered(message: KeyExchange, address: str, time: bytes) -> tuple[bytes, ...]:
    without = messages.encode(msgspec.structs.replace(message, cookie=b""))
    return address.encode(), time, without


def _matches(key: bytes, tag: bytes, covered: tuple[bytes, ...]) -> bool:
    try:
        kdf.verify_mac(Label.COOKIE_MAC, key, tag, *covered)
    except InvalidSignature:
        return False
    return True

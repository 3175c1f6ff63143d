"""Where browsers come in by TLS: a connection counts from the moment in which it is accepted.

Law: asyncio's own TLS server shows a connection to nobody before its handshake is over; who begins one and says no more would take a
descriptor that devices need, as often as it likes. Here handshakes have a number and a deadline, and count among the connections. A newcomer is
not turned away while there are unfinished ones: the oldest of them makes room, so whoever fills the door keeps nobody out who goes on.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

from doctor.console.connection import ConsoleConnection
from shared.logs import get_logger
from shared.net.stream import end_by_reset

TLS_HANDSHAKE = 5.0  # seconds
HANDSHAKES = 64  # that are not over, at once
WAITING = 100  # connections that the kernel keeps for us meanwhile
RETRY = 1.0  # seconds, where no descriptor is left

_log = get_logger("console")


class Doorway:
    """Accepts connections and does their handshakes.

    Args:
        bound: the socket, bound; it is closed in the end.
        context: the console's certificate.
        connection: makes the protocol of a connection whose handshake is over.
        inside: how many of those there are.
    """

    def __init__(
        self,
        bound: socket.socket,
        context: ssl.SSLContext,
        connection: Callable[[], ConsoleConnection],
        inside: Callable[[], int],
    ) -> None:
        self._bound = bound
        self._context = context
        self._connection = connection
        self._inside = inside
        self._handshakes: dict[asyncio.Task[None], socket.socket] = {}  # the oldest first
        self._accepting: asyncio.Task[None] | None = None

    @property
    def unfinished(self) -> int:
        """Handshakes that are not over."""
        return len(self._handshakes)

    def open(self) -> None:
        """Begin to accept."""
        self._bound.listen(WAITING)
        self._bound.setblocking(False)
        self._accepting = asyncio.create_task(self._accept())

    async def close(self) -> None:
        """Accept nobody any more, and cut the handshakes."""
        tasks = [*self._handshakes, *([self._accepting] if self._accepting else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._bound.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                raw, address = await loop.sock_accept(self._bound)
            except OSError as error:  # no descriptor is left, or the browser went before its turn
                _log.warning("not accepted", cause=str(error))
                await asyncio.sleep(RETRY)
                continue
            _log.debug("a browser came", address=str(address[0]))
            self._let_in(raw)

    def _let_in(self, raw: socket.socket) -> None:
        full = self._inside() + self.unfinished >= ConsoleConnection.most
        if full and not self._handshakes:
            end_by_reset(raw)
            raw.close()
            return
        if full or self.unfinished >= HANDSHAKES:
            oldest, its = next(iter(self._handshakes.items()))
            del self._handshakes[oldest]
            end_by_reset(its)
            oldest.cancel()
        task = asyncio.create_task(self._shake_hands(raw))
        self._handshakes[task] = raw
        task.add_done_callback(lambda task: self._ended(task, raw))

    async def _shake_hands(self, raw: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                self._connection, raw, ssl=self._context, ssl_handshake_timeout=TLS_HANDSHAKE
            )
        except OSError as error:  # it speaks no TLS, took too long, or is gone; the loop has closed it
            _log.debug("no TLS", cause=str(error))

    def _ended(self, task: asyncio.Task[None], raw: socket.socket) -> None:
        self._handshakes.pop(task, None)
        if task.cancelled():
            raw.close()  # it may have been cancelled before the loop had taken it
        else:
            task.result()

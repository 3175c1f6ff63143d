"""How long a TCP port of the doctor's waits for somebody to take an answer, and for how many at once.

Law: deadlines, a number, and nothing else. `doctor.http` limits how long a request may take to arrive; here it is the other direction: whoever
asks for much and reads nothing would keep a connection for ever, and there are only so many. Each takes a descriptor that devices need too.
"""

from __future__ import annotations

import asyncio
from typing import ClassVar

from doctor.http import ApiConnection
from shared.net.stream import reset

READ_DEADLINE = (
    30.0  # seconds in which what has piled up must begin to go, and what is left at the end must be gone
)


class PortConnection(ApiConnection):
    """One connection to a port. It is cut when nothing of an answer is taken for so long.

    `most`: connections at once; one more is cut without a word.
    """

    most: ClassVar[int] = 320

    _may_be_silent = True  # a browser opens connections ahead of its requests, and uses some of them never
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """One more."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            reset(transport)

    def data_received(self, data: bytes) -> None:
        """What is no request ends the connection."""
        super().data_received(data)
        self._watch_end()

    def eof_received(self) -> None:
        """Nothing more is asked for, and the transport closes."""
        super().eof_received()
        self._cut_later()

    def on_response_complete(self) -> None:
        """It may have been the last one."""
        super().on_response_complete()
        self._watch_end()

    def pause_writing(self) -> None:
        """Too much waits for the browser."""
        super().pause_writing()
        self._cut_later()

    def resume_writing(self) -> None:
        """It reads again; what is left at the end has to be gone in time all the same."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._forget()

    def timeout_keep_alive_handler(self) -> None:
        """Nothing more is asked for: uvicorn closes, which takes as long as the browser takes to read the rest."""
        super().timeout_keep_alive_handler()
        self._cut_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """There is nothing to cut any more."""
        super().connection_lost(exc)
        self._forget()

    def _end(self) -> None:
        super()._end()
        self._watch_end()

    def _watch_end(self) -> None:
        if self.transport.is_closing() and self._stalled is None:
            self._cut_later()

    def _cut_later(self) -> None:
        self._forget()
        self._stalled = asyncio.get_running_loop().call_later(READ_DEADLINE, self.transport.abort)

    def _forget(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

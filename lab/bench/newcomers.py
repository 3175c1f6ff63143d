"""Many clients that come at once, as devices do when its network is back: the same crowd for every server that is measured.

Each client is a state machine of bytes without a socket. The crowd reads whatever has arrived, lets those clients answer, and then
sends all their answers: one process stands for devices that would compute beside each other. A server that is faster than the
crowd finds several connections to serve whenever it wakes; one that serves a single connection at a time is waited for.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Sequence
from typing import Protocol

RECEIVE_SIZE = 1 << 16
PATIENCE = 30.0  # seconds for one answer of a server


class Caller(Protocol):
    """One client's side of a handshake.

    Attributes:
        admitted: the server has let it in and has said so.
    """

    @property
    def admitted(self) -> bool: ...

    def begin(self) -> bytes:
        """What it says first."""
        ...

    def take(self, data: bytes) -> bytes:
        """Bytes came; what it answers. `b""` where the server has closed. Raises what explains why it is not let in."""
        ...


class Abandoned(Exception):
    """A server has said nothing for longer than `PATIENCE`."""


def visit(address: tuple[str, int], callers: Sequence[Caller]) -> None:
    """Connect all of them at once, and let each leave without a word once it is admitted.

    Raises:
        Abandoned: the server has stopped answering. OSError: the network. What a caller raises.
    """
    openings = [caller.begin() for caller in callers]
    poller, waiting = select.epoll(), {}
    try:
        for caller in callers:
            connected = socket.create_connection(address, PATIENCE)
            connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            waiting[connected.fileno()] = (connected, caller)
            poller.register(connected, select.EPOLLIN)
        for (connected, _), opening in zip(waiting.values(), openings, strict=True):
            connected.sendall(opening)
        while waiting:
            ready = poller.poll(PATIENCE)
            if not ready:
                raise Abandoned(f"{len(waiting)} of {len(callers)} still wait for an answer")
            answers = []
            for descriptor, _ in ready:
                connected, caller = waiting[descriptor]
                answers.append((descriptor, caller.take(connected.recv(RECEIVE_SIZE))))
            for descriptor, answer in answers:
                connected, caller = waiting[descriptor]
                if answer:
                    connected.sendall(answer)
                if caller.admitted:
                    del waiting[descriptor]
                    connected.close()
    finally:
        poller.close()
        for connected, _ in waiting.values():
            connected.close()

"""The drain: one process that reads what is fanned out to a thousand connections, and does as little else as can be.

The same for all peers, by epoll and without parsing, so that whoever fans out is the one that is measured. A peer says how its
subscribers connect, and what they answer where answers are part of its service.
"""

from __future__ import annotations

import multiprocessing
import resource
import select
import socket
import ssl
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Protocol

from shared.errors import TelemedError

BUFFER = 1 << 17
PATIENCE = 60.0  # seconds without a single byte
IDLE = 20.0  # seconds after which subscribers who have nothing to do say that they are there


class DrainFailed(TelemedError):
    """A subscriber was disconnected, or nothing came any more."""


class Subscribers(Protocol):
    """How a peer's subscribers behave. Made in the parent and used in the drain's process: it has to be picklable."""

    def connect(self, count: int) -> list[socket.socket]:
        """Connect so many more; returns all connections that are to be read from now on."""
        ...

    def round_size(self, sockets: list[socket.socket], messages: int, body: int) -> int:
        """Bytes that each connection will get for so many messages with bodies of so many bytes."""
        ...

    def answer(self, number: int, data: memoryview) -> bytes:
        """What connection `number` answers to what it has just read; empty where nothing is asked for."""
        ...

    def finish(self) -> None:
        """A round is over and its time taken, or nothing has happened for long: whatever has to be said."""
        ...


class Drain:
    """The drain's process with the peer's subscribers. `with` starts and ends it."""

    def __init__(self, subscribers: Subscribers) -> None:
        # Forked from a process that has imported everything once: a dozen of them a run would each take half a second for that.
        context = multiprocessing.get_context("forkserver")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_work, args=(subscribers, theirs), daemon=True)

    def __enter__(self) -> Drain:
        self._process.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pipe.send(("end",))
        self._process.join(PATIENCE)

    def connect(self, count: int) -> None:
        """Connect so many more subscribers."""
        self._ask("connect", count)

    def round(
        self,
        messages: int,
        body: int,
        publish: Callable[[], object],
        then: Callable[[], object] = lambda: None,
    ) -> float:
        """Seconds from the beginning of `publish` until the last subscriber has the last of so many messages.

        Args:
            then: called when it has, before any subscriber says what is left to say; that is said when this returns.

        Raises:
            DrainFailed: they did not come.
        """
        return self._timed(("expect", messages, body), publish, then)

    def read(
        self, size: int, publish: Callable[[], object], then: Callable[[], object] = lambda: None
    ) -> float:
        """Seconds from the beginning of `publish` until the last subscriber has so many bytes; otherwise as `round`."""
        return self._timed(("read", size), publish, then)

    def _timed(
        self, request: tuple[object, ...], publish: Callable[[], object], then: Callable[[], object]
    ) -> float:
        self._ask(*request)
        began = time.monotonic()
        publish()
        seconds = float(self._told()) - began
        then()
        self._ask("finish")
        return seconds

    def _ask(self, *request: object) -> Any:
        self._pipe.send(request)
        return self._told()

    def _told(self) -> Any:
        answer = self._pipe.recv()
        if isinstance(answer, Exception):
            raise DrainFailed(str(answer)) from answer
        return answer


def _work(subscribers: Subscribers, pipe: Connection) -> None:
    """The drain's process: obeys its parent until that ends it."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    sockets: list[socket.socket] = []
    try:
        while (request := _next_request(pipe, subscribers))[0] != "end":
            if request[0] == "connect":
                sockets = subscribers.connect(request[1])
                pipe.send(len(sockets))
            elif request[0] == "finish":
                subscribers.finish()
                pipe.send(None)
            else:
                size = request[1] if request[0] == "read" else subscribers.round_size(sockets, *request[1:])
                _drain(sockets, size, subscribers.answer, lambda: pipe.send(None))
                pipe.send(time.monotonic())
    except Exception as error:  # told to the parent, which raises it
        pipe.send(DrainFailed(f"{type(error).__name__}: {error}"))


def _next_request(pipe: Connection, subscribers: Subscribers) -> Any:
    while not pipe.poll(IDLE):
        subscribers.finish()
    return pipe.recv()


def _drain(
    sockets: list[socket.socket],
    size: int,
    answer: Callable[[int, memoryview], bytes],
    ready_to_read: Callable[[], None],
) -> None:
    """Read `size` bytes from each connection."""
    poll, missing = select.epoll(), {}
    for number, each in enumerate(sockets):
        each.setblocking(False)
        poll.register(each.fileno(), select.EPOLLIN)
        missing[each.fileno()] = [size, number]
    buffer = memoryview(bytearray(BUFFER))
    unfinished = len(sockets)
    ready_to_read()
    while unfinished:
        ready = poll.poll(PATIENCE)
        if not ready:
            raise DrainFailed(f"{unfinished} of {len(sockets)} subscribers are still waiting")
        for descriptor, _ in ready:
            entry = missing[descriptor]
            read = _read(sockets[entry[1]], buffer)
            if back := answer(entry[1], buffer[:read]):
                sockets[entry[1]].sendall(back)
            before, entry[0] = entry[0], entry[0] - read
            unfinished -= before > 0 >= entry[0]
    poll.close()


def _read(source: socket.socket, buffer: memoryview) -> int:
    """Whatever there is, as far as it fits: plain, one call of the system; TLS, record by record."""
    if not isinstance(source, ssl.SSLSocket):
        read = source.recv_into(buffer)
        if not read:
            raise DrainFailed("a subscriber was disconnected")
        return read
    read = 0
    try:
        while read < len(buffer):
            more = source.recv_into(buffer[read:])
            if not more:
                raise DrainFailed("a subscriber was disconnected")
            read += more
    except ssl.SSLWantReadError:
        pass
    return read

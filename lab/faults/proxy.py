"""A TCP proxy that behaves like a bad network, in userspace: it can stand between any patients and the doctor.

It delays, throttles, stalls, partitions one way or both, resets in the middle of a frame, loses one end of a connection without
telling the other, and loses whole connections. What it cannot do is lose single packets: TCP below us would only turn that into
the stalls that it does make. It keeps a capture.
"""

from __future__ import annotations

import asyncio
import contextlib
import random as pseudo
import socket
import struct
import time
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from typing import TypeAlias

from lab.faults.capture import Capture, Way

CHUNK = 16 * 1024
IN_FLIGHT = 64  # chunks under way in one direction of a connection before its sender has to wait


@dataclass(frozen=True, slots=True)
class Weather:
    """What the network is like. Times in seconds.

    Args:
        delay: of each chunk, one way; a new connection takes it there and back before anything else.
        jitter: as a share of the delay, drawn evenly from ±jitter; order within a connection is kept.
        bandwidth: bytes a second, for each connection and direction; 0: no limit.
        stall_chance, stall: how often a chunk is held up as a retransmission would, and for how long.
        loss: the chance, for each chunk, that the whole connection is reset instead.
    """

    delay: float = 0.0
    jitter: float = 0.0
    bandwidth: int = 0
    stall_chance: float = 0.0
    stall: float = 0.0
    loss: float = 0.0


FAIR = Weather()

_Parcel: TypeAlias = tuple[float, bytes | None]
"""When it arrives, and what: bytes, b"" for the end of them, None for a reset."""
_BACK = {Way.TO_DOCTOR: Way.TO_PATIENT, Way.TO_PATIENT: Way.TO_DOCTOR}


@dataclass(slots=True, eq=False)
class _Link:
    """One connection.

    Attributes:
        ends: where the bytes of each direction are written to.
        lost: the direction whose far end is gone.
        swallowed: what is sent there vanishes, instead of being answered with a reset.
    """

    number: int
    ends: dict[Way, asyncio.StreamWriter] = field(default_factory=dict)
    lost: Way | None = None
    swallowed: bool = False

    def reset(self) -> None:
        """Reset what there is of both ends."""
        for end in self.ends.values():
            _reset(end)


class Proxy:
    """One listening port in front of one doctor.

    Args:
        host, port: the doctor's device port.
        seed: makes the weather repeatable.
        capture: keeps what passes; by default a new one in memory.
        listen: where devices connect; port 0 takes a free one.

    Attributes:
        port: where devices connect.
    """

    def __init__(
        self,
        host: str,
        port: int,
        seed: int = 0,
        capture: Capture | None = None,
        listen: tuple[str, int] = ("127.0.0.1", 0),
    ) -> None:
        self._listen = listen
        self.weather = FAIR
        self.capture = Capture() if capture is None else capture
        self.port = 0
        self._target = (host, port)
        self._dice = pseudo.Random(seed)  # noqa: S311  weather, not secrets
        self._blocked: set[Way] = set()
        self._open_ways = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._links: set[_Link] = set()
        self._connections = 0
        self._reset_after: tuple[int, asyncio.Event] | None = None

    # Life

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, *self._listen)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None  # noqa: S101  entered
        self._server.close()
        self.cut_all()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def retarget(self, host: str, port: int) -> None:
        """New connections go elsewhere: the doctor came back on another port."""
        self._target = (host, port)

    # Faults

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._links)

    def partition(self, *ways: Way) -> None:
        """Let nothing through that goes these ways (both, if none is named); connections stay open and silent."""
        self.heal()
        self._blocked = set(ways or Way)

    def heal(self) -> None:
        """End a partition; what was held back arrives now."""
        self._blocked.clear()
        self._open_ways.set()
        self._open_ways = asyncio.Event()

    def cut_all(self) -> int:
        """Reset every connection; returns how many there were."""
        count = self.connections
        for link in list(self._links):
            link.reset()
        return count

    def lose_ends(self, way: Way, swallow: bool = False) -> int:
        """Every open connection loses the end to which bytes go this `way`; returns how many there were.

        The other end is not told: its connection stays open and silent. It learns it by a reset when it next sends something, as
        from a host that has restarted; or, if that is to be swallowed, never, as from a middlebox that has forgotten it.
        """
        for link in self._links:
            link.lost, link.swallowed = way, swallow
            _reset(link.ends[way])
        return self.connections

    def reset_in_mid_frame(self, after: int) -> asyncio.Event:
        """The next connection whose chunk has more than `after` bytes gets just so many of it, then a reset; set when it has."""
        happened = asyncio.Event()
        self._reset_after = after, happened
        return happened

    # Inside

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        self._keep(self._serve(self._connections, reader, writer))

    def _keep(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _serve(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2 * self._delay())
        await self._passable(Way.TO_DOCTOR)
        try:
            onward_reader, onward_writer = await asyncio.open_connection(*self._target)
        except OSError:
            _reset(writer)
            return
        link = _Link(number, {Way.TO_DOCTOR: onward_writer, Way.TO_PATIENT: writer})
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as tasks:
                for way, source in ((Way.TO_DOCTOR, reader), (Way.TO_PATIENT, onward_reader)):
                    line: asyncio.Queue[_Parcel] = asyncio.Queue(IN_FLIGHT)
                    tasks.create_task(self._depart(link, way, source, line))
                    tasks.create_task(self._arrive(link, way, line))
        finally:
            self._links.discard(link)
            for end in link.ends.values():
                end.close()

    async def _depart(
        self, link: _Link, way: Way, source: asyncio.StreamReader, line: asyncio.Queue[_Parcel]
    ) -> None:
        """Whatever is read sets out at once, and is to arrive in its time and order; so does the end of it."""
        free = due = 0.0
        data: bytes | None = b"?"
        while data:
            try:
                data = await source.read(CHUNK)
            except OSError:
                data = None
            now = time.monotonic()
            size = len(data) if data else 0
            if data:
                self.capture.add(link.number, way, now, data)
            free = max(free, now) + (size / self.weather.bandwidth if self.weather.bandwidth else 0.0)
            due = max(due, free + self._delay() + self._stall())
            await line.put((due, data))

    async def _arrive(self, link: _Link, way: Way, line: asyncio.Queue[_Parcel]) -> None:
        """What has set out arrives; after a reset nothing does any more."""
        whole = True
        data: bytes | None = b"?"
        while data:
            due, data = await line.get()
            if whole:
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                await self._passable(way)
                whole = await self._hand_over(link, way, data)
                if not whole:
                    link.reset()

    async def _hand_over(self, link: _Link, way: Way, data: bytes | None) -> bool:
        """Write to the far end; False where the connection is lost instead."""
        end = link.ends[way]
        if link.lost is _BACK[way] and not data:
            return True  # this is how the end that was lost has ended, and the other one is not told
        if link.lost is way and link.swallowed:
            return True
        if end.transport.is_closing() or data is None:
            return False
        if not data:
            with contextlib.suppress(OSError):  # it has closed its end a moment ago
                end.write_eof()
            return True
        if self._dice.random() < self.weather.loss:
            return False
        whole = len(data)
        if self._reset_after is not None and whole > self._reset_after[0]:
            data = data[: self._reset_after[0]]
            self._reset_after[1].set()
            self._reset_after = None
        try:
            end.write(data)
            await end.drain()
        except OSError:
            return False
        return len(data) == whole

    async def _passable(self, way: Way) -> None:
        while way in self._blocked:
            await self._open_ways.wait()

    def _delay(self) -> float:
        weather = self.weather
        return weather.delay * (1 + self._dice.uniform(-weather.jitter, weather.jitter))

    def _stall(self) -> float:
        return self.weather.stall if self._dice.random() < self.weather.stall_chance else 0.0


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close with a RST and without sending what waits, as a crashed host or a firewall does."""
    raw = writer.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@contextlib.asynccontextmanager
async def between(host: str, port: int, seed: int = 0) -> AsyncIterator[Proxy]:
    """A proxy in front of a doctor for the length of a block."""
    async with Proxy(host, port, seed) as proxy:
        yield proxy

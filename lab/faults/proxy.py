"""A TCP proxy that behaves like a bad network, in userspace: it can stand between any patients and the doctor.

It delays, throttles, stalls, partitions one way or both, resets in the middle of a frame, and loses whole connections. What it
cannot do is lose single packets: TCP below us would only turn that into the stalls that it does make. It keeps a capture.
"""

from __future__ import annotations

import asyncio
import contextlib
import random as pseudo
import socket
import struct
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from lab.faults.capture import Capture, Way

CHUNK = 16 * 1024


@dataclass(frozen=True, slots=True)
class Weather:
    """What the network is like. Times in seconds.

    Args:
        delay: added to each chunk, one way.
        jitter: as a share of the delay, drawn evenly from ±jitter; order within a connection is kept.
        bandwidth: bytes a second and direction; 0: no limit.
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


class Proxy:
    """One listening port in front of one doctor.

    Args:
        host, port: the doctor's device port.
        seed: makes the weather repeatable.
    """

    def __init__(self, host: str, port: int, seed: int = 0) -> None:
        self.weather = FAIR
        self.capture = Capture()
        self.port = 0
        self._target = (host, port)
        self._dice = pseudo.Random(seed)  # noqa: S311  weather, not secrets
        self._blocked: set[Way] = set()
        self._open_ways = asyncio.Event()
        self._open_ways.set()
        self._server: asyncio.Server | None = None
        self._pipes: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._connections = 0
        self._reset_after: int | None = None

    # Life

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None  # noqa: S101  entered
        self._server.close()
        self.heal()
        self.cut_all()
        for pipe in list(self._pipes):
            pipe.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)

    def retarget(self, host: str, port: int) -> None:
        """New connections go elsewhere: the doctor came back on another port."""
        self._target = (host, port)

    # Faults

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._writers) // 2

    def partition(self, *ways: Way) -> None:
        """Let nothing through that goes these ways (both, if none is named); connections stay open and silent."""
        self._blocked = set(ways or Way)
        self._open_ways.clear()

    def heal(self) -> None:
        """End a partition; what was held back arrives now."""
        self._blocked.clear()
        self._open_ways.set()

    def cut_all(self) -> int:
        """Reset every connection; returns how many there were."""
        count = self.connections
        for writer in list(self._writers):
            _reset(writer)
        return count

    def reset_in_mid_frame(self, after: int) -> None:
        """The next connection whose chunk has more than `after` bytes gets just so many of it, then a reset."""
        self._reset_after = after

    # Inside

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        number = self._connections
        try:
            onward_reader, onward_writer = await asyncio.open_connection(*self._target)
        except OSError:
            _reset(writer)
            return
        self._writers |= {writer, onward_writer}
        pipes = [
            asyncio.create_task(self._pipe(number, Way.TO_DOCTOR, reader, onward_writer, writer)),
            asyncio.create_task(self._pipe(number, Way.TO_PATIENT, onward_reader, writer, onward_writer)),
        ]
        self._pipes |= set(pipes)
        await asyncio.wait(pipes)
        self._pipes -= set(pipes)
        self._writers -= {writer, onward_writer}
        for end in (writer, onward_writer):
            end.close()

    async def _pipe(
        self,
        number: int,
        way: Way,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        back: asyncio.StreamWriter,
    ) -> None:
        try:
            while data := await reader.read(CHUNK):
                self.capture.add(number, way, time.monotonic(), data)
                if not await self._pass_on(way, data, writer):
                    break
            else:
                with contextlib.suppress(OSError):
                    writer.write_eof()
                return
        except (ConnectionError, TimeoutError):
            pass
        # Whatever ended one direction ends both, the way a dead link does.
        _reset(writer)
        _reset(back)

    async def _pass_on(self, way: Way, data: bytes, writer: asyncio.StreamWriter) -> bool:
        """Let a chunk through as the weather has it; False where the connection is lost instead."""
        weather = self.weather
        await asyncio.sleep(self._hold_up(weather, len(data)))
        while way in self._blocked:
            await self._open_ways.wait()
        if self._dice.random() < weather.loss:
            return False
        if self._reset_after is not None and len(data) > self._reset_after:
            writer.write(data[: self._reset_after])
            self._reset_after = None
            await writer.drain()
            return False
        writer.write(data)
        await writer.drain()
        return True

    def _hold_up(self, weather: Weather, size: int) -> float:
        hold = weather.delay * (1 + self._dice.uniform(-weather.jitter, weather.jitter))
        if weather.bandwidth:
            hold += size / weather.bandwidth
        if self._dice.random() < weather.stall_chance:
            hold += weather.stall
        return hold


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

"""The bad network: what it does to bytes, and what it never does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from lab.faults.capture import Way
from lab.faults.proxy import Proxy, Weather, between

LIMIT = 10.0


@asynccontextmanager
async def echo() -> AsyncIterator[int]:
    """A server that sends back what it gets; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


class Peer:
    """A client of the proxy."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def through(cls, proxy: Proxy) -> Peer:
        """Connect."""
        return cls(*await asyncio.open_connection("127.0.0.1", proxy.port))

    async def ask(self, data: bytes) -> bytes:
        """Send, and read as much back."""
        self.writer.write(data)
        async with asyncio.timeout(LIMIT):
            return await self.reader.readexactly(len(data))

    async def rest(self) -> bytes:
        """Everything until the end; a reset is an end."""
        try:
            async with asyncio.timeout(LIMIT):
                return await self.reader.read()
        except ConnectionError:
            return b""

    def close(self) -> None:
        """Hang up."""
        self.writer.close()


@asynccontextmanager
async def network(seed: int = 0) -> AsyncIterator[tuple[Proxy, Peer]]:
    """An echo server behind a proxy, and one connection."""
    async with echo() as port, between("127.0.0.1", port, seed) as proxy:
        peer = await Peer.through(proxy)
        try:
            yield proxy, peer
        finally:
            peer.close()


async def test_fair_weather_passes_everything_on_and_keeps_a_copy() -> None:
    """Both ways, byte for byte, larger than one chunk."""
    async with network() as (proxy, peer):
        data = bytes(range(256)) * 300

        assert await peer.ask(data) == data
        streams = proxy.capture.streams()
        assert streams == {(1, Way.TO_DOCTOR): data, (1, Way.TO_PATIENT): data}
        assert proxy.capture.size == 2 * len(data)
        assert proxy.connections == 1


async def test_the_end_of_one_side_is_passed_on() -> None:
    """A half-closed connection still answers."""
    async with network() as (_, peer):
        peer.writer.write(b"last words")
        peer.writer.write_eof()

        assert await peer.rest() == b"last words"


async def test_delay_is_added_each_way() -> None:
    """Jitter and bandwidth change it within their bounds; order is kept."""
    async with network() as (proxy, peer):
        proxy.weather = Weather(delay=0.05, jitter=0.5, bandwidth=1_000_000)
        loop = asyncio.get_running_loop()
        began = loop.time()

        assert await peer.ask(b"one") + await peer.ask(b"two") == b"onetwo"
        assert loop.time() - began >= 4 * 0.025


async def test_what_is_under_way_together_takes_its_delay_once() -> None:
    """A delay is no queue: the second chunk sets out while the first is under way."""
    async with network() as (proxy, peer):
        proxy.weather = Weather(delay=0.1)
        loop = asyncio.get_running_loop()
        began = loop.time()
        answers = asyncio.ensure_future(peer.reader.readexactly(20))
        for _ in range(10):
            peer.writer.write(b"ab")
            await peer.writer.drain()
            await asyncio.sleep(0)  # a chunk each

        assert await asyncio.wait_for(answers, LIMIT) == b"ab" * 10
        assert loop.time() - began < 10 * 0.2


async def test_a_stall_holds_up_and_loses_nothing() -> None:
    """As a retransmission does."""
    async with network() as (proxy, peer):
        proxy.weather = Weather(stall_chance=1.0, stall=0.1)
        loop = asyncio.get_running_loop()
        began = loop.time()

        assert await peer.ask(b"patience") == b"patience"
        assert loop.time() - began >= 0.2


async def test_a_lost_connection_is_reset_both_ways() -> None:
    """And a new one is a new throw of the dice."""
    async with network() as (proxy, peer):
        proxy.weather = Weather(loss=1.0)
        peer.writer.write(b"gone")
        assert await peer.rest() == b""

        proxy.weather = Weather()
        again = await Peer.through(proxy)
        assert await again.ask(b"here") == b"here"
        again.close()


@pytest.mark.parametrize("ways", [(), (Way.TO_DOCTOR,), (Way.TO_PATIENT,)], ids=["both", "there", "back"])
async def test_a_partition_holds_back_until_it_heals(ways: tuple[Way, ...]) -> None:
    """Connections stay open and silent; afterwards everything arrives."""
    async with network() as (proxy, peer):
        assert await peer.ask(b"before") == b"before"
        proxy.partition(*ways)
        peer.writer.write(b"during")
        waiting = asyncio.ensure_future(peer.reader.readexactly(6))
        done, _ = await asyncio.wait({waiting}, timeout=0.1)

        assert not done
        proxy.heal()
        assert await asyncio.wait_for(waiting, LIMIT) == b"during"


async def test_a_cut_ends_every_connection() -> None:
    """It says how many there were."""
    async with network() as (proxy, peer):
        other = await Peer.through(proxy)
        assert await peer.ask(b"a") + await other.ask(b"b") == b"ab"

        assert proxy.cut_all() == 2
        assert await peer.rest() + await other.rest() == b""
        other.close()


async def test_a_connection_that_lost_an_end_learns_it_when_it_sends() -> None:
    """Until then it is open and silent; the end that was lost is gone at once."""
    async with network() as (proxy, peer):
        assert await peer.ask(b"before") == b"before"

        assert proxy.lose_ends(Way.TO_DOCTOR) == 1
        reading = asyncio.ensure_future(peer.rest())
        done, _ = await asyncio.wait({reading}, timeout=0.1)
        assert not done
        peer.writer.write(b"anybody there?")
        assert await asyncio.wait_for(reading, LIMIT) == b""


async def test_a_swallowed_connection_never_learns_that_it_lost_an_end() -> None:
    """Whatever it sends; a new connection is whole."""
    async with network() as (proxy, peer):
        assert await peer.ask(b"before") == b"before"

        proxy.lose_ends(Way.TO_DOCTOR, swallow=True)
        peer.writer.write(b"anybody there?")
        reading = asyncio.ensure_future(peer.rest())
        done, _ = await asyncio.wait({reading}, timeout=0.1)
        assert not done
        again = await Peer.through(proxy)
        assert await again.ask(b"hello") == b"hello"
        again.close()
        reading.cancel()


async def test_a_reset_comes_in_the_middle_of_a_frame() -> None:
    """The first bytes arrive, the rest never does; the next connection is whole."""
    async with echo() as port, between("127.0.0.1", port) as proxy:
        proxy.reset_in_mid_frame(4)
        peer = await Peer.through(proxy)
        peer.writer.write(b"whole frame")
        await peer.rest()
        peer.close()

        again = await Peer.through(proxy)
        assert await again.ask(b"whole frame") == b"whole frame"
        again.close()


async def test_nobody_behind_the_proxy_is_a_refused_connection() -> None:
    """Until somebody is there, under another port for example."""
    async with echo() as gone:
        pass
    async with echo() as port, between("127.0.0.1", gone) as proxy:
        peer = await Peer.through(proxy)
        assert await peer.rest() == b""
        peer.close()

        proxy.retarget("127.0.0.1", port)
        again = await Peer.through(proxy)
        assert await again.ask(b"hello") == b"hello"
        again.close()

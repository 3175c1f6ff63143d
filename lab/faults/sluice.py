"""A proxy whose patients can be made to read a byte a second, as somebody does who wants to make the doctor keep things for them.

Law: what is not read stays with the doctor. An ordinary proxy reads ahead and would keep megabytes itself; this one has a small
receive buffer towards the doctor and asks the kernel for one byte at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

from lab.faults.capture import Capture, Way
from lab.faults.proxy import CHUNK, Proxy

RECEIVE_BUFFER = 4096  # bytes, and what the kernel adds
BYTE_EVERY = 1.0  # seconds
_FIRST_NUMBER = 1_000_000  # of its connections, where it shares a capture with another proxy


class Sluice(Proxy):
    """One listening port, for patients that read freely or a byte a second. Takes no weather."""

    def __init__(self, host: str, port: int, capture: Capture) -> None:
        super().__init__(host, port, 0, capture)
        self._connections = _FIRST_NUMBER
        self._wide = asyncio.Event()
        self._wide.set()

    def narrow(self) -> None:
        """From now on a byte a second comes through from the doctor, on each connection."""
        self._wide.clear()

    def widen(self) -> None:
        """Everything comes through."""
        self._wide.set()

    async def _serve(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward = socket.socket()
        onward.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        onward.setblocking(False)
        with onward, contextlib.closing(writer), contextlib.suppress(OSError):
            await asyncio.get_running_loop().sock_connect(onward, self._target)
            ways = [
                asyncio.create_task(self._to_doctor(number, reader, onward)),
                asyncio.create_task(self._to_patient(number, onward, writer)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)

    async def _to_doctor(self, number: int, reader: asyncio.StreamReader, onward: socket.socket) -> None:
        while data := await reader.read(CHUNK):
            self.capture.add(number, Way.TO_DOCTOR, time.monotonic(), data)
            await asyncio.get_running_loop().sock_sendall(onward, data)

    async def _to_patient(self, number: int, onward: socket.socket, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        while data := await loop.sock_recv(onward, CHUNK if self._wide.is_set() else 1):
            self.capture.add(number, Way.TO_PATIENT, time.monotonic(), data)
            writer.write(data)
            await writer.drain()
            if not self._wide.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(BYTE_EVERY):
                        await self._wide.wait()

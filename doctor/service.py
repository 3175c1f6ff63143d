"""`telemed-doctor serve`: the gateway and its API in one process, until a signal ends it."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

from doctor.api_server import create_server
from doctor.gateway import open_gateway
from doctor.settings import DoctorSettings


async def serve(settings: DoctorSettings) -> None:
    """Run until SIGTERM or SIGINT, then say goodbye to the devices and close the stores.

    Raises:
        UserError, StorageError: it cannot start; says what to do.
    """
    async with open_gateway(settings) as gateway:
        server = create_server(gateway, settings.state_dir)
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        serving = asyncio.create_task(server.serve())
        stopped = asyncio.create_task(stopping.wait())
        ends: set[asyncio.Future[Any]] = {serving, stopped, gateway.timekeeper}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        stopped.cancel()
        await serving

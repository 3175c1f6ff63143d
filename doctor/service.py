"""`telemed-doctor serve`: the gateway, its API and its console in one process, until a signal ends it."""

from __future__ import annotations

import asyncio
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from doctor import collector
from doctor.api.server import ApiServer, create_server
from doctor.console.server import create_console
from doctor.gateway import Gateway, open_gateway
from doctor.metrics_server import create_metrics
from doctor.operators import ConsolePlace
from doctor.settings import DoctorSettings
from shared.logs import get_logger

THREADS = 4
"""For what blocks: backups, verifications, passwords, scrapes. Each keeps the memory that its largest task took, for good."""

_log = get_logger("console")


async def serve(settings: DoctorSettings) -> None:
    """Run until SIGTERM or SIGINT, then say goodbye to the devices and close the stores.

    Raises:
        UserError, StorageError: it cannot start; says what to do.
    """
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(THREADS))
    async with open_gateway(settings) as gateway:
        servers: list[ApiServer] = [create_server(gateway, settings.state_dir)]
        console = create_console(gateway, settings)
        if console is not None:
            gateway.commands.console = ConsolePlace(console.address, console.fingerprint)
            await _introduce(gateway)
            servers.append(console)
        metrics = create_metrics(gateway, settings)
        if metrics is not None:
            servers.append(metrics)
        collector.settle()
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        serving = [asyncio.create_task(server.serve()) for server in servers]
        stopped = asyncio.create_task(stopping.wait())
        ends: set[asyncio.Future[Any]] = {*serving, stopped, gateway.timekeeper}
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        gateway.house.feed.close()
        for server in servers:
            server.should_exit = True
        stopped.cancel()
        await asyncio.gather(*serving)


async def _introduce(gateway: Gateway) -> None:
    """At the first start, say how to log in: to a person at a terminal, never to a log."""
    made = await gateway.commands.provide_first_operator()
    place = gateway.commands.console
    if made is None or place is None:
        return
    _log.info("first operator made; `telemed-doctor console` shows how to log in")
    if sys.stderr.isatty():
        sys.stderr.write(
            f"\n  Console   {place.address}\n  Operator  {made.name}\n  Password  {made.password}   (shown once)\n\n"
        )

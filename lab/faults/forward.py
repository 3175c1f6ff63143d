"""`python -m lab.faults.forward LISTEN DOCTOR WEATHER`: a named network as a program of its own, to stand between containers.

It needs what the doctor's image has, and this folder. LISTEN and DOCTOR are host:port.
"""

from __future__ import annotations

import asyncio
import signal
import sys

from lab.faults.capture import Discarded
from lab.faults.proxy import Proxy
from lab.faults.weather import described, weather_named
from shared.errors import UserError

USAGE = "usage: python -m lab.faults.forward LISTEN DOCTOR WEATHER"


async def forward(listen: tuple[str, int], doctor: tuple[str, int], weather: str) -> None:
    """Stand there until SIGTERM or SIGINT.

    Raises:
        UserError: there is no weather of that name.
    """
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    network = weather_named(weather)
    async with Proxy(*doctor, capture=Discarded(), listen=listen) as proxy:
        proxy.weather = network
        sys.stdout.write(f"{weather}: {described(network)}; listening on {listen[0]}:{proxy.port}\n")
        sys.stdout.flush()
        await stopping.wait()


def endpoint(text: str) -> tuple[str, int]:
    """Host and port of "host:port".

    Raises:
        UserError: it is none.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit():
        raise UserError(f"{text!r} is no address; expected host:port")
    return host, int(port)


def main(arguments: list[str]) -> int:
    """The program; returns its exit code."""
    if len(arguments) != 3:
        sys.stderr.write(f"{USAGE}\n")
        return 2
    try:
        asyncio.run(forward(endpoint(arguments[0]), endpoint(arguments[1]), arguments[2]))
    except UserError as error:
        sys.stderr.write(f"forward: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

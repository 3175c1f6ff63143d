"""The TCP port on which Prometheus reads `/metrics`, where one is wanted.

Law: it has no token and speaks plain HTTP, so it is for loopback, or for a network that monitoring has to itself. It is never on the
devices' network. It answers to its own names and to addresses alone, so that no page in a browser nearby can read it; and it has room for so
many, each for so long, since every connection takes a descriptor that devices need.
"""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import ClassVar

import uvicorn
from litestar import Litestar, Request
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp

from doctor import hosts, refusals
from doctor.answering import PortConnection
from doctor.api.operations import show_metrics
from doctor.api.server import ApiServer
from doctor.gateway import Gateway
from doctor.listening import bind, serving
from doctor.metrics import Metrics
from doctor.request_heads import ShortHeads
from doctor.settings import LOOPBACK, DoctorSettings
from doctor.wildcards import is_everywhere
from shared.errors import UserError
from shared.logs import get_logger

CONNECTIONS = 16  # at once; one more is told to come later

_log = get_logger("metrics")


class MetricsConnection(PortConnection):
    """One scrape, or several; one connection too many is cut without a word."""

    most: ClassVar[int] = 2 * CONNECTIONS


class MetricsServer(ApiServer):
    """Listens on a socket that is bound already. `port`: the one in use."""

    def __init__(self, config: uvicorn.Config, bound: socket.socket) -> None:
        super().__init__(config)
        self.port: int = bound.getsockname()[1]
        self._bound = bound

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        protocol = partial(MetricsConnection, self.config, self.server_state, {})
        self.servers = [await asyncio.get_running_loop().create_server(protocol, sock=self._bound)]
        self.started = True
        _log.info("metrics ready", host=self._bound.getsockname()[0], port=self.port)


def create_metrics(gateway: Gateway, settings: DoctorSettings) -> MetricsServer | None:
    """The server, bound; None where none is wanted.

    Raises:
        UserError: it may not listen there, or the port is taken; says what to do.
    """
    if settings.metrics_port is None:
        return None
    require_off_the_devices_network(settings)
    bound = bind("metrics", settings.metrics_host, settings.metrics_port)
    app = _create_app(gateway, settings.metrics_host)
    return MetricsServer(serving(app, MetricsConnection, CONNECTIONS), bound)


def require_off_the_devices_network(settings: DoctorSettings) -> None:
    """Refuse an address on which devices are served too.

    Raises:
        UserError: says what to set instead.
    """
    host = settings.metrics_host
    shared = host == settings.listen_host and host not in LOOPBACK
    if is_everywhere(host) or shared:
        raise UserError(
            f"metrics_host {host} would be on the devices' network too, and the metrics never are. Name this machine's address on"
            " the network of the monitoring, or 127.0.0.1."
        )


def _create_app(gateway: Gateway, name: str) -> ASGIApp:
    metrics = Metrics(gateway)
    names = {name.lower(), socket.gethostname().lower()}

    async def require_our_name(request: Request[None, None, State]) -> None:
        found = hosts.name_in(request.headers.get("host", ""))
        if found is None or not (hosts.is_known(found, names) or hosts.is_address(found)):
            raise HTTPException(
                "The metrics are not known under that name. Ask under metrics_host, or under an address.",
                status_code=421,
            )

    return ShortHeads(
        Litestar(
            route_handlers=[show_metrics],
            before_request=require_our_name,
            dependencies={"metrics": Provide(lambda: metrics, sync_to_thread=False)},
            exception_handlers=refusals.HANDLERS,
            openapi_config=None,
            debug=False,
            logging_config=None,
        )
    )

"""The application: what is served on the socket, and who may ask."""

from __future__ import annotations

import hmac

from litestar import Litestar
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import NotAuthorizedException
from litestar.handlers.base import BaseRouteHandler

from doctor import refusals
from doctor.api import care, description, operations
from doctor.api.parameters import origin
from doctor.fhir import routes as fhir
from doctor.gateway import Gateway
from doctor.http import BODY_LIMIT
from doctor.metrics import Metrics


def create_app(gateway: Gateway, token: str) -> Litestar:
    """The ASGI application."""
    metrics = Metrics(gateway)

    # Asynchronous, or Litestar would run it on another thread, for each request.
    async def require_token(
        connection: ASGIConnection[object, object, object, State], handler: BaseRouteHandler
    ) -> None:
        if handler.opt.get("open"):
            return
        given = connection.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise NotAuthorizedException("The API's token is missing or wrong; it stands beside the socket.")

    return Litestar(
        route_handlers=[*care.HANDLERS, *operations.HANDLERS, fhir.ROUTER],
        guards=[require_token],
        dependencies={
            "commands": Provide(lambda: gateway.commands, sync_to_thread=False),
            "gateway": Provide(lambda: gateway, sync_to_thread=False),
            "origin": Provide(origin),
            "metrics": Provide(lambda: metrics, sync_to_thread=False),
        },
        exception_handlers=refusals.HANDLERS,
        openapi_config=description.CONFIG,
        request_class=refusals.TextRequest,
        request_max_body_size=BODY_LIMIT,
        debug=False,
        logging_config=None,
    )

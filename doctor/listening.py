"""A TCP port of the doctor's that speaks HTTP, beside the devices' own: how it is taken, and how it is served.

Law: nothing here knows what is served, or to whom it may be.
"""

from __future__ import annotations

import socket

import uvicorn
from litestar.types import ASGIApp

from doctor.answering import PortConnection
from shared.errors import UserError


def bind(name: str, host: str, port: int) -> socket.socket:
    """Take a port, before anything is said there. `name`: of the pair of settings, NAME_host and NAME_port.

    Raises:
        UserError: the host is no address of this machine, or the port is taken; says which setting to change.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        bound = socket.socket(found[0], socket.SOCK_STREAM)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(found[4])
            bound.listen()  # or another program that does not listen yet either could bind it too
        except OSError:
            bound.close()
            raise
    except socket.gaierror as error:
        raise UserError(f"{name}_host {host!r} is no address of this machine ({error.strerror}).") from error
    except OSError as error:
        raise UserError(
            f"{name}_port: {host}:{port} cannot be taken ({error.strerror}). Set {name}_port to a free one, 0 for any, or null for"
            " none."
        ) from error
    return bound


def serving(app: ASGIApp, connection: type[PortConnection], answered: int) -> uvicorn.Config:
    """How uvicorn serves such a port: it says nothing of itself or of strangers, believes no proxy, and answers so many requests at once.

    Its warnings are about what anybody sends, a line each: what is no HTTP, an upgrade, one request too many. Errors are ours.
    """
    return uvicorn.Config(
        app,
        http=connection,
        ws="none",
        log_config=None,
        log_level="error",
        access_log=False,
        lifespan="off",
        proxy_headers=False,
        server_header=False,
        limit_concurrency=answered,
        timeout_graceful_shutdown=2,
    )

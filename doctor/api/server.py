"""The API's socket: a Unix socket in a 0700 directory, and the token beside it.

Law: what is served there is `doctor.api.app`'s business.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import uvicorn

from doctor.api.app import create_app
from doctor.gateway import Gateway
from doctor.http import ApiConnection
from doctor.settings import SOCKET_NAME, TOKEN_NAME, api_directory
from shared.errors import UserError
from shared.logs import get_logger
from shared.storage.keyfile import private_directory, write_private

TICK = 1.0  # seconds
SOCKET_PATH_LIMIT = 107  # bytes; Linux, unix(7), less the final zero

_log = get_logger("api")


def write_token(state_dir: str) -> str:
    """Make the API's directory and a fresh token in it."""
    directory = private_directory(api_directory(state_dir))
    token = secrets.token_urlsafe(32)
    write_private(directory / TOKEN_NAME, token.encode())
    return token


class ApiServer(uvicorn.Server):
    """uvicorn without its own signal handlers; logs when it listens, and ends when it is told to.

    uvicorn itself looks ten times a second whether it is to end: three servers would wake an idle doctor thirty times.
    """

    _ending: asyncio.Event | None = None

    @property
    def should_exit(self) -> bool:
        """Whether it is to end; whoever says so does it on the server's loop."""
        return self._ending is not None and self._ending.is_set()

    @should_exit.setter
    def should_exit(self, told: bool) -> None:
        self._ending = self._ending or asyncio.Event()
        if told:
            self._ending.set()

    async def main_loop(self) -> None:
        """Wait for the end; in between, once a tick, uvicorn renews the date that its answers bear."""
        assert self._ending is not None  # noqa: S101  uvicorn has said "not yet" when it was made
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(TICK):
                    await self._ending.wait()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the service's business."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        _log.info("api ready", path=self.config.uds or "")


def create_server(gateway: Gateway, state_dir: str) -> ApiServer:
    """The HTTP server on the Unix socket; `await server.serve()` runs it until `should_exit` is set.

    Raises:
        UserError: the socket's path is too long, or its directory is not private. StorageError: the token cannot be written.
    """
    path = api_directory(state_dir) / SOCKET_NAME
    if (size := len(os.fsencode(path))) > SOCKET_PATH_LIMIT:
        raise UserError(
            f"state_dir: {path} has {size} bytes, a socket's path has at most {SOCKET_PATH_LIMIT}; use a shorter one."
        )
    app = create_app(gateway, write_token(state_dir))
    # The socket itself is made world-writable by uvicorn: the directory's mode is what guards it.
    return ApiServer(
        uvicorn.Config(
            app,
            uds=str(path),
            http=ApiConnection,
            log_config=None,
            log_level="error",  # below, uvicorn has a line for whatever anybody sends that is no HTTP
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=2,
        )
    )

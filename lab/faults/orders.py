"""Orders to a doctor that may be dead at any moment: an asynchronous client of its API, and one that does not give up.

Law: an order that is repeated is repeated under its Idempotency-Key, so that it is carried out once whatever was lost: the order,
the answer, or the doctor.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import httpx
import msgspec

from doctor.client import no_tls
from doctor.settings import SOCKET_NAME, TOKEN_NAME, api_directory
from shared.errors import TelemedError
from shared.storage.keyfile import read_private

TIMEOUT = 60.0  # seconds; a doctor that answers nothing for so long has failed

T = TypeVar("T")


class NotAnswered(TelemedError):
    """The doctor was gone before it had answered: the order may have been carried out or not."""


class Refused(TelemedError):
    """The doctor answered, and it was no. `status` is the HTTP status, `body` what it said."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"{status}: {body.decode(errors='replace')}")
        self.status = status
        self.body = body


class Orders:
    """A client of the doctor that runs on `state_dir` now.

    Raises:
        StorageError: it has written no token yet.
    """

    def __init__(self, state_dir: Path) -> None:
        directory = api_directory(str(state_dir))
        token = read_private(directory / TOKEN_NAME).decode()
        self._http = httpx.AsyncClient(
            # A connection for each request: one that is kept may be closed by a doctor that is busy in the very moment in which
            # it is used again, and only death excuses a doctor that does not answer.
            transport=httpx.AsyncHTTPTransport(
                uds=str(directory / SOCKET_NAME),
                verify=no_tls(),
                limits=httpx.Limits(max_connections=64, max_keepalive_connections=0),
            ),
            base_url="http://doctor",
            headers={"Authorization": f"Bearer {token}"},
            timeout=TIMEOUT,
        )

    async def __aenter__(self) -> Orders:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def get(self, path: str, kind: type[T]) -> T:
        """Ask a question.

        Raises:
            Refused: the doctor says no. NotAnswered: it is gone.
        """
        return await self._request("GET", path, None, kind, None)

    async def post(self, path: str, order: msgspec.Struct | None, kind: type[T], key: str | None = None) -> T:
        """Give an order, under a key of its own or the one of an earlier attempt; raises as `get`."""
        return await self._request("POST", path, order, kind, key or new_key())

    async def delete(self, path: str, kind: type[T], key: str | None = None) -> T:
        """Take something away; raises as `get`."""
        return await self._request("DELETE", path, None, kind, key or new_key())

    async def _request(
        self, method: str, path: str, order: msgspec.Struct | None, kind: type[T], key: str | None
    ) -> T:
        if self._http.is_closed:
            raise NotAnswered(f"{method} {path}: the doctor is gone")
        headers = {} if key is None else {"Idempotency-Key": key}
        content = None
        if order is not None:
            content = msgspec.json.encode(order)
            headers["Content-Type"] = "application/json"
        try:
            response = await self._http.request(method, path, content=content, headers=headers)
        except httpx.TransportError as error:
            raise NotAnswered(f"{method} {path}: {type(error).__name__}") from error
        if not response.is_success:
            raise Refused(response.status_code, response.content)
        return msgspec.json.decode(response.content, type=kind)


def new_key() -> str:
    """A fresh Idempotency-Key."""
    return secrets.token_urlsafe(16)

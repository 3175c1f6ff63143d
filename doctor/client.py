"""Talks to a running doctor over its Unix socket; what the CLI stands on."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TypeVar

import httpx
import msgspec

from doctor.answers import Problem
from doctor.settings import SOCKET_NAME, TOKEN_NAME, api_directory
from shared.errors import StorageError, TelemedError, UserError
from shared.storage.keyfile import read_private

TIMEOUT = 30.0

T = TypeVar("T")


class DoctorUnreachable(TelemedError):
    """No doctor answers at this socket; `str(error)` says which and what to do."""


class Client:
    """A client of one doctor's API.

    Args:
        state_dir: the doctor's `state_dir`; socket and token are below it.

    Raises:
        DoctorUnreachable: there is no token that this user can read. UserError: others could have read it.
    """

    def __init__(self, state_dir: str) -> None:
        directory = api_directory(state_dir)
        self._socket = directory / SOCKET_NAME
        token = self._read_token(directory / TOKEN_NAME)
        self._http = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self._socket)),
            base_url="http://doctor",
            headers={"Authorization": f"Bearer {token}"},
            timeout=TIMEOUT,
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, kind: type[T]) -> T:
        """Ask a question.

        Raises:
            UserError: the doctor says no, and why. DoctorUnreachable: nobody answers.
        """
        return self._request("GET", path, None, kind)

    def post(self, path: str, order: msgspec.Struct | None, kind: type[T]) -> T:
        """Give an order, under an Idempotency-Key of its own; raises as `get`."""
        return self._request("POST", path, order, kind)

    def delete(self, path: str, kind: type[T]) -> T:
        """Take something away; raises as `get`."""
        return self._request("DELETE", path, None, kind)

    def _request(self, method: str, path: str, order: msgspec.Struct | None, kind: type[T]) -> T:
        headers = {} if method == "GET" else {"Idempotency-Key": secrets.token_urlsafe(16)}
        content = None
        if order is not None:
            content = msgspec.json.encode(order)
            headers["Content-Type"] = "application/json"
        try:
            response = self._http.request(method, path, content=content, headers=headers)
        except httpx.TransportError as error:
            raise self._unreachable() from error
        if response.is_success:
            try:
                return msgspec.json.decode(response.content, type=kind)
            except msgspec.DecodeError as error:
                raise UserError(
                    "This program cannot read the doctor's answer; the doctor is of another version."
                ) from error
        try:
            raise UserError(msgspec.json.decode(response.content, type=Problem).error)
        except msgspec.DecodeError as error:
            raise UserError(f"The doctor answered {response.status_code}; see its log.") from error

    def _read_token(self, path: Path) -> str:
        try:
            return read_private(path).decode()
        except StorageError as error:
            raise self._unreachable() from error

    def _unreachable(self) -> DoctorUnreachable:
        return DoctorUnreachable(
            f"No doctor answers at {self._socket}. Start it with `telemed-doctor serve`, or name its"
            " configuration with --config."
        )

"""Talks to a running doctor over its Unix socket; what the CLI stands on."""

from __future__ import annotations

import secrets
import ssl
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import httpx
import msgspec

from doctor.answers import Problem
from doctor.settings import SOCKET_NAME, TOKEN_NAME, api_directory
from shared.errors import StorageError, TelemedError, UserError
from shared.storage.keyfile import read_private

TIMEOUT = 30.0
DOWNLOAD_TIMEOUT = 600.0  # seconds without a byte: a large database has to be copied and checked first

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
            transport=httpx.HTTPTransport(uds=str(self._socket), verify=no_tls()),
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
        raise _refused(response)

    def download(self, path: str, sink: Callable[[bytes, int], None]) -> Mapping[str, str]:
        """Order something that comes as bytes; returns the answer's headers.

        Args:
            sink: called with each part, and the size of the whole.

        Raises:
            UserError: the doctor says no, and why; or not everything has come. DoctorUnreachable: nobody answers.
        """
        timeout = httpx.Timeout(TIMEOUT, read=DOWNLOAD_TIMEOUT)
        try:
            with self._http.stream("POST", path, timeout=timeout) as response:
                if not response.is_success:
                    response.read()
                    raise _refused(response)
                size = int(response.headers["Content-Length"])
                for data in response.iter_raw():
                    sink(data, size)
                return response.headers
        except httpx.ConnectError as error:
            raise self._unreachable() from error
        except httpx.TransportError as error:
            raise UserError(
                f"The doctor broke off before everything had come ({error}); try again."
            ) from error

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


def no_tls() -> ssl.SSLContext:
    """For a transport in which nothing is TLS: a context that trusts nobody. Without one httpx reads every authority of the machine."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _refused(response: httpx.Response) -> UserError:
    try:
        return UserError(msgspec.json.decode(response.content, type=Problem).error)
    except msgspec.DecodeError:
        return UserError(f"The doctor answered {response.status_code}; see its log.")

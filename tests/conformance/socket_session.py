"""A `requests` session, as schemathesis drives it, whose connections go to a Unix socket.

Law: transport and nothing else.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool

BASE = "http://doctor"
PATIENCE = 30.0  # seconds for one answer


class _SocketConnection(HTTPConnection):
    """One connection. `place`: the socket's path."""

    place = ""

    def _new_conn(self) -> socket.socket:
        connected = socket.socket(socket.AF_UNIX)
        connected.settimeout(PATIENCE)
        connected.connect(self.place)
        return connected


class _SocketAdapter(HTTPAdapter):
    """All requests to one socket, whatever their URL's host."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._pool = HTTPConnectionPool("doctor")
        self._pool.ConnectionCls = type("Connection", (_SocketConnection,), {"place": str(path)})

    def get_connection_with_tls_context(
        self,
        request: requests.PreparedRequest,
        verify: bool | str | None,
        proxies: Mapping[str, str] | None = None,
        cert: tuple[str, str] | str | None = None,
    ) -> HTTPConnectionPool:
        """The one pool that there is."""
        return self._pool

    def close(self) -> None:
        """Close its connections."""
        super().close()
        self._pool.close()


def session(path: Path) -> requests.Session:
    """A session for requests to `BASE`; no proxy of the environment comes in between."""
    made = requests.Session()
    made.trust_env = False
    made.mount(BASE, _SocketAdapter(path))
    return made

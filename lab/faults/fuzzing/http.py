"""Fuzzing of the HTTP API: a real doctor's application, asked without a socket in between."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from doctor.answers import Problem
from doctor.api.app import create_app
from doctor.fhir.resources import OperationOutcome
from doctor.gateway import Gateway, open_gateway
from doctor.settings import DoctorSettings
from lab.faults.fuzzing.subject import Subject
from shared import logs

TOKEN = "the token"  # noqa: S105  of a doctor that lives for minutes in a directory of its own
METHODS = ("GET", "POST", "DELETE", "PUT", "HEAD", "OPTIONS")
PATHS = (
    "/v1/invitations",
    "/v1/broadcasts",
    "/v1/broadcasts/{}/receipts",
    "/v1/patients",
    "/v1/patients/{}/revoke",
    "/v1/patients/{}/retire",
    "/v1/patients/{}/reports",
    "/v1/patients/{}/thresholds",
    "/v1/alerts?patient={}",
    "/v1/alerts/{}/acknowledge",
    "/fhir/Observation?patient={}",
    "/fhir/Communication?patient=anna&date={}",
    "/fhir/AuditEvent?{}",
    "/v1/groups",
    "/v1/groups/{}/members",
    "/v1/groups/everyone/members/{}",
    "/v1/audit/verify",
    "/healthz",
    "/readyz",
    "/schema/openapi.json",
    "{}",
)
BODIES = (
    b'{"patient":"anna"}',
    b'{"patient":null,"hours":1.5,"groups":["ward"]}',
    b'{"text":"noon"}',
    b'{"text":"noon","group":"ward"}',
    b'{"name":"ward"}',
    b"[]",
)
LIVES = 5_000
"""Attempts on one doctor: what is ordered of it stays, and a fuzzer orders without end."""


class _Life:
    """A doctor and its application, until so many attempts were made on it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._stack = contextlib.AsyncExitStack()
        self._left = LIVES
        self._app: Any = None
        self.begin()

    def begin(self) -> None:
        """A new doctor on an empty directory."""
        self._loop.run_until_complete(self._begin())

    async def _begin(self) -> None:
        directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="telemed-fuzz-")))
        settings = DoctorSettings(
            listen_port=0, state_dir=str(directory / "doctor"), audit_dir=str(directory / "audit")
        )
        gateway: Gateway = await self._stack.enter_async_context(open_gateway(settings))
        self._app = create_app(gateway, TOKEN)
        self._left = LIVES

    def end(self) -> None:
        """Close it."""
        self._loop.run_until_complete(self._stack.aclose())

    def ask(self, scope: dict[str, Any], body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer."""
        if not self._left:
            self.end()
            self.begin()
        self._left -= 1
        return self._loop.run_until_complete(self._ask(scope, body))

    async def _ask(self, scope: dict[str, Any], body: bytes) -> tuple[int, bytes]:
        sent: list[dict[str, Any]] = []
        portions = [body[:64], body[64:]]

        async def receive() -> dict[str, Any]:
            if not portions:
                return {"type": "http.disconnect"}
            portion = portions.pop(0)
            return {"type": "http.request", "body": portion, "more_body": bool(portions)}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        status = next(message["status"] for message in sent if message["type"] == "http.response.start")
        return status, b"".join(message.get("body", b"") for message in sent)


@contextmanager
def opened() -> Iterator[Subject]:
    """A doctor's application; an input is method, path and headers by number, then a path's part, a line's end, and the body."""
    logs.configure("error", "json")
    loop = asyncio.new_event_loop()
    life = _Life(loop)
    try:
        yield Subject(lambda data: _attempt(life, data), _seeds(), lambda: _serves(life))
    finally:
        life.end()
        loop.close()


def _attempt(life: _Life, data: bytes) -> None:
    if len(data) < 3:
        return
    method = METHODS[data[0] % len(METHODS)]
    part, _, body = data[3:].partition(b"\n")
    path = PATHS[data[1] % len(PATHS)].encode().replace(b"{}", part)
    status, answer = life.ask(_scope(method, path, data[2]), body)
    if status >= 500:
        raise AssertionError(f"{method} {path!r} was answered with {status}: {answer[:200]!r}")
    routed = status not in (404, 405)  # what is not, is answered in the form of the API, whatever its path
    if status >= 400 and method != "HEAD" and routed and path.startswith(b"/fhir/"):
        if not msgspec.json.decode(answer, type=OperationOutcome).issue[0].diagnostics:
            raise AssertionError(f"{method} {path!r}: {status} without a reason")
    elif status >= 400 and method != "HEAD":
        problem = msgspec.json.decode(answer, type=Problem)
        if not problem.error or not problem.code:
            raise AssertionError(f"{method} {path!r}: {status} without a reason")


def _scope(method: str, target: bytes, flags: int) -> dict[str, Any]:
    path, _, query = target.partition(b"?")
    token = TOKEN.encode() if not flags & 1 else target[:64]
    headers = [(b"host", b"doctor"), (b"authorization", b"Bearer " + token.replace(b"\n", b""))]
    if flags & 2:
        headers.append((b"idempotency-key", target[-32:]))
    kinds = (
        b"application/json",
        b"application/x-www-form-urlencoded",
        b"multipart/form-data; boundary=x",
        b"",
    )
    headers.append((b"content-type", kinds[(flags >> 2) & 3]))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path.decode("latin-1"),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": headers,
        "client": None,
        "server": ("doctor", None),
        "state": {},
    }


def _seeds() -> list[bytes]:
    seeds = []
    for index in range(len(PATHS)):
        for method in range(3):
            for body in BODIES:
                seeds.append(bytes([method, index, 0]) + b"everyone.17\n" + body)
    return seeds


def _serves(life: _Life) -> bool:
    status, _ = life.ask(_scope("GET", b"/readyz", 0), b"")
    accepted, _ = life.ask(_scope("POST", b"/v1/broadcasts", 0), b'{"text":"noon"}')
    return (status, accepted) == (200, 201)

"""How the API says no: what was raised, as a status, a code for programs and a sentence for people, and how the description tells it.

Law: whatever is not named here is a bug of ours, and its cause is for our log alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from litestar import Request, Response
from litestar.datastructures import State
from litestar.exceptions import ClientException, HTTPException
from litestar.openapi import ResponseSpec
from litestar.types import ExceptionHandlersMap

from doctor.answers import HealthAnswer, Problem
from doctor.http import BODY_LIMIT
from doctor.restoration import Unconfirmed
from shared.errors import StorageError, UserError
from shared.logs import get_logger

_log = get_logger("api")


def _described(description: str) -> ResponseSpec:
    return ResponseSpec(Problem, generate_examples=False, description=description)


_ALWAYS = {
    400: _described("It cannot be understood; code `request`."),
    401: _described("The API's token is missing or wrong; code `request`."),
    409: _described("It cannot be done as things are; code `refused`."),
    503: _described(
        "Not accepted, and nothing of it has happened: the disk is full, read-only or failing (code `storage`; ask again when it takes"
        " writes), or a restored database waits for its operator (code `restored`)."
    ),
}
_NAMELESS = {
    404: _described("There is nothing at this address: a part of it is no name or no number; code `request`.")
}
_LONG = {413: _described(f"The body is too long: it has at most {BODY_LIMIT // 1024} KiB; code `request`.")}
NOT_READY = {
    503: ResponseSpec(
        HealthAnswer,
        generate_examples=False,
        description="Devices are not accepted, or nothing can be stored.",
    )
}


def describing(
    register: Callable[..., Any], path: str, **options: Any
) -> Callable[[Callable[..., Any]], Any]:
    """A route whose description tells the refusals that it knows.

    Args:
        register: Litestar's decorator for the method. options: of it.
    """

    def describe(handler: Callable[..., Any]) -> Any:
        told = {
            **_ALWAYS,
            **(_NAMELESS if "{" in path else {}),
            **(_LONG if "data" in handler.__annotations__ else {}),
        }
        return register(path, responses=told, **options)(handler)

    return describe


class TextRequest(Request[None, None, State]):
    """A request whose body, where it is no text or nested without end, is the asker's mistake: Litestar would take it for ours."""

    async def json(self) -> object:
        """The body's JSON."""
        try:
            return await super().json()
        except UnicodeDecodeError as error:
            raise ClientException("The body is not UTF-8 text.") from error
        except RecursionError as error:
            raise ClientException("The body is nested too deeply to be an order.") from error


def _refuse_user_error(_: Request[None, None, State], error: UserError) -> Response[Problem]:
    return Response(Problem(str(error), "refused"), status_code=409)


def _refuse_unconfirmed(_: Request[None, None, State], error: Unconfirmed) -> Response[Problem]:
    return Response(Problem(f"Not accepted: {error}", "restored"), status_code=503)


def _refuse_storage_error(
    _: Request[None, None, State], error: StorageError | sqlite3.Error
) -> Response[Problem]:
    _log.error("not accepted", cause=str(error))
    return Response(Problem(f"Not accepted: {error}", "storage"), status_code=503)


def said(error: HTTPException) -> str:
    """What was wrong with a request, for people."""
    match error.status_code:
        case 404:
            return "There is nothing at this address; /schema/openapi.json lists what there is."
        case 405:
            taken = (error.headers or {}).get("allow", "nothing")
            return f"This address does not take the method; it takes {taken}."
        case 413:
            return f"The body is too long: it has at most {BODY_LIMIT // 1024} KiB."
    return error.detail


def _refuse_http_error(_: Request[None, None, State], error: HTTPException) -> Response[Problem]:
    reasons = error.extra if isinstance(error.extra, list) else []
    detail = "; ".join(f"{reason.get('key', '?')}: {reason.get('message', '?')}" for reason in reasons)
    text = f"This cannot be understood: {detail}." if detail else said(error)
    return Response(Problem(text, "request"), status_code=error.status_code, headers=error.headers)


def _confess_bug(request: Request[None, None, State], error: Exception) -> Response[Problem]:
    """Whatever else was raised is a bug of ours: its cause is for our log alone."""
    _log.error("request failed", path=request.url.path, exc_info=error)
    return Response(
        Problem("The doctor failed to carry this out; its log says why.", "internal"), status_code=500
    )


HANDLERS: ExceptionHandlersMap = {
    Unconfirmed: _refuse_unconfirmed,
    UserError: _refuse_user_error,
    StorageError: _refuse_storage_error,
    sqlite3.Error: _refuse_storage_error,
    HTTPException: _refuse_http_error,
    500: _confess_bug,
}

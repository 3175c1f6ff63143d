"""`/fhir`: searches as Bundles of the type searchset, and refusals as OperationOutcomes."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from litestar import Request, Response, Router, get
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.exceptions import HTTPException
from litestar.openapi import ResponseSpec
from litestar.openapi.spec import OpenAPIType, Operation, Parameter, Schema
from litestar.params import QueryParameter

from doctor.commands import Commands
from doctor.fhir import resources, searches
from doctor.fhir.resources import MEDIA_TYPE, AnyResource, Bundle, Entry, Link, OperationOutcome, Search
from doctor.fhir.searches import BadSearch
from doctor.refusals import said
from shared.errors import StorageError
from shared.logs import get_logger
from shared.net.stream import clock

_log = get_logger("api")
_Request: TypeAlias = Request[None, None, State]
Orders: TypeAlias = NamedDependency[Commands]


@dataclass
class OfOne(Operation):
    """The description of a search that is about one patient."""

    def __post_init__(self) -> None:
        """Say that the parameter is required; whether it is there is found where the others are read."""
        for each in self.parameters or ():
            if isinstance(each, Parameter) and each.name == "patient":
                each.required = True


def _told(pattern: str) -> Schema:
    return Schema(type=OpenAPIType.STRING, pattern=f"^{pattern}$")


# They describe the parameters; what is in them is read from the request itself, so that what is wrong is told in FHIR's own form.
Whose: TypeAlias = Annotated[
    str | None,
    QueryParameter(
        name="patient",
        description="`ID` or `Patient/ID`; required but for AuditEvent.",
        schema_extra={"one_of": [_told(searches.NAME)]},
    ),
]
When: TypeAlias = Annotated[
    list[str] | None,
    QueryParameter(
        name="date",
        description="A date or time, with eq, ge, gt, le or lt before it; may be repeated.",
        schema_extra={"one_of": [Schema(type=OpenAPIType.ARRAY, items=_told(searches.DATE))]},
    ),
]
HowMany: TypeAlias = Annotated[
    str | None,
    QueryParameter(
        name="_count",
        description=f"Resources at most, 1 to {searches.MOST}.",
        schema_extra={"one_of": [_told(searches.NUMBER)]},
    ),
]


def _described(text: str) -> ResponseSpec:
    return ResponseSpec(OperationOutcome, generate_examples=False, description=text, media_type=MEDIA_TYPE)


DESCRIBED = {
    400: _described("A parameter cannot be understood."),
    401: _described("The API's token is missing or wrong."),
    503: _described("The database cannot be read."),
}


@get("/Observation", media_type=MEDIA_TYPE, responses=DESCRIBED, operation_class=OfOne)
async def list_observations(
    request: _Request, commands: Orders, patient: Whose = None, date: When = None, count: HowMany = None
) -> Response[Bundle]:
    """What a patient's vitals say, newest first: LOINC codes, UCUM units."""
    return _answer(request, commands.fhir_observations(searches.parse(request.query_params.multi_items())))


@get("/Communication", media_type=MEDIA_TYPE, responses=DESCRIBED, operation_class=OfOne)
async def list_communications(
    request: _Request, commands: Orders, patient: Whose = None, date: When = None, count: HowMany = None
) -> Response[Bundle]:
    """The messages to a patient with what became of them, and its replies, newest first."""
    return _answer(request, commands.fhir_communications(searches.parse(request.query_params.multi_items())))


@get("/AuditEvent", media_type=MEDIA_TYPE, responses=DESCRIBED)
async def list_audit_events(
    request: _Request, commands: Orders, patient: Whose = None, date: When = None, count: HowMany = None
) -> Response[Bundle]:
    """Entries of the audit log, about one patient or all, newest first."""
    search = searches.parse(request.query_params.multi_items(), of_all=True)
    return _answer(request, await commands.fhir_audit_events(search))


def _answer(request: _Request, found: Sequence[AnyResource]) -> Response[Bundle]:
    base = f"{str(request.base_url).rstrip('/')}/fhir"
    bundle = Bundle(
        type="searchset",
        timestamp=resources.instant(clock().wall),
        link=(Link(relation="self", url=str(request.url)),),
        entry=tuple(
            Entry(
                full_url=f"{base}/{type(each).__name__}/{each.id}", resource=each, search=Search(mode="match")
            )
            for each in found
        ),
    )
    return Response(bundle, media_type=MEDIA_TYPE)


def _refused(status: int, code: str, text: str) -> Response[OperationOutcome]:
    return Response(resources.outcome(code, text), status_code=status, media_type=MEDIA_TYPE)


def _refuse_storage_error(_: _Request, error: StorageError | sqlite3.Error) -> Response[OperationOutcome]:
    _log.error("not answered", cause=str(error))
    return _refused(503, "exception", str(error))


def _refuse_http_error(_: _Request, error: HTTPException) -> Response[OperationOutcome]:
    answer = _refused(error.status_code, "login" if error.status_code == 401 else "invalid", said(error))
    answer.headers.update(error.headers or {})
    return answer


ROUTER = Router(
    path="/fhir",
    route_handlers=[list_observations, list_communications, list_audit_events],
    exception_handlers={
        BadSearch: lambda _, error: _refused(400, "invalid", str(error)),
        StorageError: _refuse_storage_error,
        sqlite3.Error: _refuse_storage_error,
        HTTPException: _refuse_http_error,
    },
)

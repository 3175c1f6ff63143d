"""The HTTP API: orders and questions as JSON over a Unix socket, for the CLI and whatever else people write.

The socket stands in a 0700 directory beside a token file; a request needs both. Every POST and DELETE takes an
`Idempotency-Key`: a retry with the same key gets the first answer and changes nothing. `/schema/openapi.json` describes it all.
"""

from __future__ import annotations

import hmac
import sqlite3
from typing import Annotated, TypeAlias

from litestar import Litestar, Request, Response, delete, get, post
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.exceptions import ClientException, HTTPException, NotAuthorizedException
from litestar.handlers.base import BaseRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.params import FromPath, HeaderParameter, JSONBody, QueryParameter
from litestar.response import Stream

from doctor.answers import (
    BACKUP_DIGEST,
    BACKUP_ENTRY,
    AuditAnswer,
    BroadcastAnswer,
    BroadcastOrder,
    DepartureAnswer,
    ForgottenAnswer,
    GroupAnswer,
    GroupOrder,
    HealthAnswer,
    InvitationAnswer,
    InviteOrder,
    MemberAnswer,
    MemberOrder,
    MessageAnswer,
    MessageOrder,
    Origin,
    PatientAnswer,
    Problem,
    ReceiptAnswer,
    ReportAnswer,
    RestoreAnswer,
)
from doctor.commands import Commands
from doctor.gateway import Gateway
from doctor.restoration import Unconfirmed
from shared.errors import StorageError, UserError
from shared.logs import get_logger

_log = get_logger("api")


class _TextRequest(Request[None, None, State]):
    """A request whose body, where it is no text, is the asker's mistake: Litestar would take it for ours."""

    async def json(self) -> object:
        """The body's JSON."""
        try:
            return await super().json()
        except UnicodeDecodeError as error:
            raise ClientException("The body is not UTF-8 text.") from error


async def _origin(
    idempotency_key: Annotated[str | None, HeaderParameter(name="Idempotency-Key", max_length=128)] = None,
) -> Origin:
    return Origin("operator", idempotency_key)


Orders: TypeAlias = NamedDependency[Commands]
Doctor: TypeAlias = NamedDependency[Gateway]
From: TypeAlias = NamedDependency[Origin]
Moment: TypeAlias = Annotated[int, QueryParameter(ge=-(2**63), le=2**63 - 1)]  # what SQLite takes


@post("/v1/invitations")
async def invite(data: JSONBody[InviteOrder], commands: Orders, origin: From) -> InvitationAnswer:
    """Invite one patient, or a fleet."""
    return await commands.invite(data, origin)


@post("/v1/broadcasts")
async def broadcast(data: JSONBody[BroadcastOrder], commands: Orders, origin: From) -> BroadcastAnswer:
    """Accept a broadcast. 201 means that it is on the disk."""
    return await commands.broadcast(data, origin)


@get("/v1/broadcasts/{message:str}/receipts")
async def list_receipts(message: FromPath[str], commands: Orders) -> list[ReceiptAnswer]:
    """What became of a message, a broadcast or one to a patient alone, for each of its recipients."""
    return commands.receipts(message)


@get("/v1/patients")
async def list_patients(commands: Orders) -> list[PatientAnswer]:
    """Everyone on the roster, with live state."""
    return commands.patients()


@post("/v1/patients/{patient:str}/messages")
async def send(
    patient: FromPath[str], data: JSONBody[MessageOrder], commands: Orders, origin: From
) -> MessageAnswer:
    """Accept a message to one patient alone. 201 means that it is on the disk."""
    return await commands.send(patient, data, origin)


@post("/v1/patients/{patient:str}/revoke")
async def revoke(patient: FromPath[str], commands: Orders, origin: From) -> DepartureAnswer:
    """Expel a patient for good."""
    return await commands.revoke(patient, origin)


@post("/v1/patients/{patient:str}/retire")
async def retire(patient: FromPath[str], commands: Orders, origin: From) -> DepartureAnswer:
    """Remove a patient that is gone."""
    return await commands.retire(patient, origin)


@get("/v1/patients/{patient:str}/reports")
async def list_reports(patient: FromPath[str], commands: Orders) -> list[ReportAnswer]:
    """What a patient has reported, newest first."""
    return commands.reports(patient)


@delete("/v1/patients/{patient:str}/reports", status_code=200)
async def forget_reports(
    patient: FromPath[str], before: Moment, commands: Orders, origin: From
) -> ForgottenAnswer:
    """Erase what a patient reported, as far as it was received before a time in milliseconds since the epoch."""
    return await commands.forget_reports(patient, before, origin)


@get("/v1/groups")
async def list_groups(commands: Orders) -> list[GroupAnswer]:
    """All groups."""
    return commands.list_groups()


@post("/v1/groups")
async def create_group(data: JSONBody[GroupOrder], commands: Orders, origin: From) -> GroupAnswer:
    """Make a group."""
    return await commands.create_group(data.name, origin)


@post("/v1/groups/{group:str}/members")
async def add_member(
    group: FromPath[str], data: JSONBody[MemberOrder], commands: Orders, origin: From
) -> MemberAnswer:
    """Add a patient to a group."""
    return await commands.add_member(group, data.patient, origin)


@delete("/v1/groups/{group:str}/members/{patient:str}", status_code=200)
async def remove_member(
    group: FromPath[str], patient: FromPath[str], commands: Orders, origin: From
) -> MemberAnswer:
    """Remove a patient from a group."""
    return await commands.remove_member(group, patient, origin)


@get("/v1/audit/verify")
async def verify_audit(commands: Orders) -> AuditAnswer:
    """Recompute the audit chain and compare its signed heads."""
    return await commands.verify_audit()


@post("/v1/backups", media_type="application/vnd.sqlite3")
async def back_up(commands: Orders, origin: From) -> Stream:
    """Make a backup and hand it over. Every request makes a new one, whatever its key."""
    backup = await commands.back_up(origin)
    headers = {
        "Content-Length": str(backup.size),
        BACKUP_DIGEST: backup.digest,
        BACKUP_ENTRY: str(backup.entry),
    }
    return Stream(backup.chunks(), headers=headers)


@get("/v1/restore")
async def show_restore(commands: Orders) -> RestoreAnswer:
    """What a restored database lacks that waits to be confirmed."""
    return commands.restore_state()


@post("/v1/restore/confirm")
async def confirm_restore(commands: Orders, origin: From) -> RestoreAnswer:
    """Go on with the restored database."""
    return await commands.confirm_restore(origin)


@get("/healthz", opt={"open": True})
async def health() -> HealthAnswer:
    """The process lives."""
    return HealthAnswer("ok")


@get("/readyz", opt={"open": True})
async def ready(gateway: Doctor) -> Response[HealthAnswer]:
    """Devices are accepted and the database takes writes."""
    if not gateway.ready or not await gateway.commands.storage_answers():
        return Response(HealthAnswer("not ready"), status_code=503)
    return Response(HealthAnswer("ok"))


HANDLERS = [
    invite,
    broadcast,
    list_receipts,
    list_patients,
    list_reports,
    forget_reports,
    send,
    revoke,
    retire,
    list_groups,
    create_group,
    add_member,
    remove_member,
    verify_audit,
    back_up,
    show_restore,
    confirm_restore,
    health,
    ready,
]


def create_app(gateway: Gateway, token: str) -> Litestar:
    """The ASGI application."""

    def require_token(
        connection: ASGIConnection[object, object, object, State], handler: BaseRouteHandler
    ) -> None:
        if handler.opt.get("open"):
            return
        given = connection.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise NotAuthorizedException("The API's token is missing or wrong; it stands beside the socket.")

    return Litestar(
        route_handlers=HANDLERS,
        guards=[require_token],
        dependencies={
            "commands": Provide(lambda: gateway.commands, sync_to_thread=False),
            "gateway": Provide(lambda: gateway, sync_to_thread=False),
            "origin": Provide(_origin),
        },
        exception_handlers={
            Unconfirmed: _refuse_unconfirmed,
            UserError: _refuse_user_error,
            StorageError: _refuse_storage_error,
            sqlite3.Error: _refuse_storage_error,
            HTTPException: _refuse_http_error,
            500: _confess_bug,
        },
        openapi_config=OpenAPIConfig(
            title="Doctor gateway",
            version="1",
            # The JSON alone: the interactive pages load scripts from elsewhere.
            render_plugins=[JsonRenderPlugin(path="/openapi.json")],
        ),
        request_class=_TextRequest,
        request_max_body_size=256 * 1024,
        debug=False,
        logging_config=None,
    )


def _refuse_user_error(_: Request[None, None, State], error: UserError) -> Response[Problem]:
    return Response(Problem(str(error), "refused"), status_code=409)


def _refuse_unconfirmed(_: Request[None, None, State], error: Unconfirmed) -> Response[Problem]:
    return Response(Problem(f"Not accepted: {error}", "restored"), status_code=503)


def _refuse_storage_error(
    _: Request[None, None, State], error: StorageError | sqlite3.Error
) -> Response[Problem]:
    _log.error("not accepted", cause=str(error))
    return Response(Problem(f"Not accepted: {error}", "storage"), status_code=503)


def _refuse_http_error(_: Request[None, None, State], error: HTTPException) -> Response[Problem]:
    reasons = error.extra if isinstance(error.extra, list) else []
    detail = "; ".join(f"{reason.get('key', '?')}: {reason.get('message', '?')}" for reason in reasons)
    text = f"This cannot be understood: {detail}." if detail else error.detail
    return Response(Problem(text, "request"), status_code=error.status_code)


def _confess_bug(request: Request[None, None, State], error: Exception) -> Response[Problem]:
    """Whatever else was raised is a bug of ours: its cause is for our log alone."""
    _log.error("request failed", path=request.url.path, exc_info=error)
    return Response(
        Problem("The doctor failed to carry this out; its log says why.", "internal"), status_code=500
    )

"""The HTTP API: orders and questions as JSON over a Unix socket, for the CLI and whatever else people write.

The socket stands in a 0700 directory beside a token file; a request needs both. Every POST and DELETE takes an
`Idempotency-Key`: a retry with the same key gets the first answer and changes nothing. `/schema/openapi.json` describes it all.
"""

from __future__ import annotations

import hmac
from functools import partial
from typing import Annotated, TypeAlias

import litestar
from litestar import Litestar, Response
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.exceptions import NotAuthorizedException
from litestar.handlers.base import BaseRouteHandler
from litestar.params import FromPath, HeaderParameter, JSONBody, PathParameter, QueryParameter
from litestar.response import Stream

from doctor import description, refusals
from doctor.answers import (
    AUDIT_SHOWN,
    BACKUP_DIGEST,
    BACKUP_ENTRY,
    AlertAnswer,
    AuditAnswer,
    AuditEntriesAnswer,
    BroadcastAnswer,
    ConsoleAnswer,
    DepartureAnswer,
    ForgottenAnswer,
    GroupAnswer,
    HealthAnswer,
    InvitationAnswer,
    MemberAnswer,
    MessageAnswer,
    OperatorAnswer,
    PasswordAnswer,
    PatientAnswer,
    ReceiptAnswer,
    ReportAnswer,
    RestoreAnswer,
    RotationAnswer,
    ThresholdsAnswer,
)
from doctor.commands import Commands
from doctor.fhir import routes as fhir
from doctor.gateway import Gateway
from doctor.http import BODY_LIMIT
from doctor.idempotency import Origin
from doctor.metrics import CONTENT_TYPE, Metrics
from doctor.orders import (
    AcknowledgeOrder,
    BroadcastOrder,
    GroupOrder,
    InviteOrder,
    MemberOrder,
    MessageOrder,
    OperatorOrder,
)
from doctor.thresholds import ThresholdsOrder

delete = partial(refusals.describing, litestar.delete)
get = partial(refusals.describing, litestar.get)
post = partial(refusals.describing, litestar.post)


async def _origin(
    idempotency_key: Annotated[str | None, HeaderParameter(name="Idempotency-Key", max_length=128)] = None,
) -> Origin:
    return Origin("operator", idempotency_key)


Orders: TypeAlias = NamedDependency[Commands]
Doctor: TypeAlias = NamedDependency[Gateway]
From: TypeAlias = NamedDependency[Origin]
WHOLE = (
    2**53 - 1
)  # up to here every reader of JSON knows whole numbers apart, of the description too; SQLite takes more
Moment: TypeAlias = Annotated[int, QueryParameter(ge=-WHOLE, le=WHOLE)]
AlertNumber: TypeAlias = Annotated[int, PathParameter(ge=1, le=WHOLE)]


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


@get("/v1/patients/{patient:str}/thresholds")
async def show_thresholds(patient: FromPath[str], commands: Orders) -> ThresholdsAnswer:
    """Between which values a patient's vitals raise no alert."""
    return commands.thresholds(patient)


@post("/v1/patients/{patient:str}/thresholds")
async def set_thresholds(
    patient: FromPath[str], data: JSONBody[ThresholdsOrder], commands: Orders, origin: From
) -> ThresholdsAnswer:
    """Change them, from the next report on."""
    return await commands.set_thresholds(patient, data, origin)


@get("/v1/alerts")
async def list_alerts(
    commands: Orders,
    patient: Annotated[str | None, QueryParameter()] = None,
    every: Annotated[bool, QueryParameter(name="all")] = False,
) -> list[AlertAnswer]:
    """The clinical alerts that wait for somebody or for their end, or all of them, newest first."""
    return commands.alerts(patient, every)


@post("/v1/alerts/{alert:int}/acknowledge")
async def acknowledge(
    alert: AlertNumber, data: JSONBody[AcknowledgeOrder], commands: Orders, origin: From
) -> AlertAnswer:
    """Note that somebody has seen an alert."""
    return await commands.acknowledge(alert, data, origin)


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


@get("/v1/audit")
async def list_audit_entries(
    commands: Orders,
    limit: Annotated[int, QueryParameter(ge=1, le=AUDIT_SHOWN)] = 100,
    about: Annotated[str, QueryParameter(max_length=256)] = "",
    before: Annotated[int | None, QueryParameter(ge=1, le=2**63 - 1)] = None,
) -> AuditEntriesAnswer:
    """The newest entries of the audit log: about anything or one name, before one entry or up to the last."""
    return commands.audit_entries(limit, about, before)


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


@get("/v1/keys/rotation")
async def show_rotation(commands: Orders) -> RotationAnswer:
    """The last rotation of the doctor's keys, and who has not confirmed it."""
    return commands.rotation()


@post("/v1/keys/rotation")
async def rotate_keys(commands: Orders, origin: From) -> RotationAnswer:
    """Give the doctor new signing keys; refused while the last rotation is not complete."""
    return await commands.rotate_keys(origin)


@get("/v1/console")
async def show_console(commands: Orders) -> ConsoleAnswer:
    """Where the console is, and how to log in for the first time."""
    return commands.console_place()


@get("/v1/operators")
async def list_operators(commands: Orders) -> list[OperatorAnswer]:
    """Who may log in at the console."""
    return commands.list_operators()


@post("/v1/operators")
async def add_operator(data: JSONBody[OperatorOrder], commands: Orders, origin: From) -> PasswordAnswer:
    """Make an operator; the password is told this once, whatever the request's key."""
    return await commands.add_operator(data.name, origin)


@post("/v1/operators/{operator:str}/password")
async def reset_password(operator: FromPath[str], commands: Orders, origin: From) -> PasswordAnswer:
    """Give an operator a new password; it is told this once, whatever the request's key."""
    return await commands.reset_password(operator, origin)


@delete("/v1/operators/{operator:str}", status_code=200)
async def remove_operator(operator: FromPath[str], commands: Orders, origin: From) -> OperatorAnswer:
    """Remove an operator; its logins end."""
    return await commands.remove_operator(operator, origin)


@litestar.get("/healthz", opt={"open": True}, security=description.OPEN)
async def health() -> HealthAnswer:
    """The process lives."""
    return HealthAnswer("ok")


@litestar.get("/readyz", opt={"open": True}, security=description.OPEN, responses=refusals.NOT_READY)
async def ready(gateway: Doctor) -> Response[HealthAnswer]:
    """Devices are accepted and the database takes writes."""
    if not gateway.ready or not await gateway.commands.storage_answers():
        return Response(HealthAnswer("not ready"), status_code=503)
    return Response(HealthAnswer("ok"))


@get("/metrics", media_type=CONTENT_TYPE)
async def show_metrics(metrics: NamedDependency[Metrics]) -> Response[bytes]:
    """The doctor's figures, for Prometheus."""
    return Response(await metrics.exposition(), media_type=CONTENT_TYPE)


HANDLERS = [
    invite,
    broadcast,
    list_receipts,
    list_patients,
    list_reports,
    forget_reports,
    show_thresholds,
    set_thresholds,
    list_alerts,
    acknowledge,
    send,
    revoke,
    retire,
    list_groups,
    create_group,
    add_member,
    remove_member,
    list_audit_entries,
    verify_audit,
    back_up,
    show_restore,
    confirm_restore,
    show_rotation,
    rotate_keys,
    show_console,
    list_operators,
    add_operator,
    reset_password,
    remove_operator,
    health,
    ready,
    show_metrics,
]


def create_app(gateway: Gateway, token: str) -> Litestar:
    """The ASGI application."""
    metrics = Metrics(gateway)

    # Asynchronous, or Litestar would run it on another thread, for each request.
    async def require_token(
        connection: ASGIConnection[object, object, object, State], handler: BaseRouteHandler
    ) -> None:
        if handler.opt.get("open"):
            return
        given = connection.headers.get("Authorization", "")
        if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
            raise NotAuthorizedException("The API's token is missing or wrong; it stands beside the socket.")

    return Litestar(
        route_handlers=[*HANDLERS, fhir.ROUTER],
        guards=[require_token],
        dependencies={
            "commands": Provide(lambda: gateway.commands, sync_to_thread=False),
            "gateway": Provide(lambda: gateway, sync_to_thread=False),
            "origin": Provide(_origin),
            "metrics": Provide(lambda: metrics, sync_to_thread=False),
        },
        exception_handlers=refusals.HANDLERS,
        openapi_config=description.CONFIG,
        request_class=refusals.TextRequest,
        request_max_body_size=BODY_LIMIT,
        debug=False,
        logging_config=None,
    )

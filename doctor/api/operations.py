"""Orders and questions about the doctor itself: its audit log, backups, keys, operators, health and figures."""

from __future__ import annotations

from typing import Annotated

import litestar
from litestar import Response
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.response import Stream

from doctor import refusals
from doctor.answers import (
    AUDIT_SHOWN,
    BACKUP_DIGEST,
    BACKUP_ENTRY,
    AuditAnswer,
    AuditEntriesAnswer,
    ConsoleAnswer,
    HealthAnswer,
    OperatorAnswer,
    PasswordAnswer,
    RestoreAnswer,
    RotationAnswer,
)
from doctor.api import description
from doctor.api.parameters import Doctor, From, Orders, delete, get, post
from doctor.metrics import CONTENT_TYPE, Metrics
from doctor.orders import (
    OperatorOrder,
)


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
